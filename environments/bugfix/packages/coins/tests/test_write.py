from coins import format_cents, parse_cents, round_cash, sign


def test_format_cents():
    assert format_cents(1234) == "$12.34"


def test_format_cents_small():
    assert format_cents(1205) == "$12.05"


def test_format_cents_minus():
    assert format_cents(-150) == "-$1.50"


def test_parse_cents():
    assert parse_cents("$1,200.50") == 120050


def test_parse_cents_one():
    assert parse_cents("3.5") == 350


def test_round_cash_up():
    assert round_cash(13) == 15


def test_round_cash_down():
    assert round_cash(12) == 10


def test_sign():
    assert [sign(5), sign(-5)] == [1, -1]


def test_sign_zero():
    assert sign(0) == 0
