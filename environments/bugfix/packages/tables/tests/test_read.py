from tables import parse_line, parse_table, render_line, to_number


def test_parse_line():
    assert parse_line("a, b ,c") == ["a", "b", "c"]


def test_parse_line_mark():
    assert parse_line("a;b", ";") == ["a", "b"]


def test_parse_table():
    assert parse_table("x,y\n1,2\n") == [{"x": "1", "y": "2"}]


def test_parse_table_blank():
    assert parse_table("x\n \n1") == [{"x": "1"}]


def test_to_number():
    assert to_number("12") == 12


def test_to_number_float():
    assert to_number("1.5") == 1.5


def test_to_number_text():
    assert to_number("n/a") == "n/a"


def test_render_line():
    assert render_line(["a", "b,c"]) == 'a,"b,c"'
