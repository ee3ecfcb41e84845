from textkit import camel, initials, snake, title


def test_snake():
    assert snake("HelloWorld") == "hello_world"


def test_snake_one():
    assert snake("Hello") == "hello"


def test_camel():
    assert camel("get_all_items") == "getAllItems"


def test_title_small():
    assert title("the lord of the rings") == "The Lord of the Rings"


def test_title_second():
    assert title("lord of rings") == "Lord of Rings"


def test_title_plain():
    assert title("red fox") == "Red Fox"


def test_initials():
    assert initials("ada king byron") == "AKB"
