from textkit import centre, indent, wrap


def test_wrap_exact():
    assert wrap("aa bb cc", 5) == ["aa bb", "cc"]


def test_wrap_short():
    assert wrap("one two") == ["one two"]


def test_indent_one():
    assert indent("a\nb") == "  a\n  b"


def test_indent_two():
    assert indent("a", 2) == "    a"


def test_centre_odd():
    assert centre("ab", 5) == " ab  "


def test_centre_even():
    assert centre("ab", 4) == " ab "
