from almanac import add_minutes, clock_text, minutes_of, noon_text


def test_minutes_of():
    assert minutes_of("07:30") == 450


def test_clock_text():
    assert clock_text(450) == "07:30"


def test_clock_text_small():
    assert clock_text(605) == "10:05"


def test_add_minutes():
    assert add_minutes("10:00", 45) == "10:45"


def test_add_minutes_midnight():
    assert add_minutes("23:30", 60) == "00:30"


def test_noon_text():
    assert noon_text(15) == "3 pm"


def test_noon_text_noon():
    assert noon_text(12) == "12 pm"
