from textkit import shorten, slugify, unique_slug


def test_slugify_words():
    assert slugify("Hello World") == "hello-world"


def test_slugify_spaces():
    assert slugify("a   b") == "a-b"


def test_slugify_edges():
    assert slugify("  Big cat! ") == "big-cat"


def test_shorten_fits():
    assert shorten("apple", 5) == "apple"


def test_shorten_cuts():
    assert shorten("blackberry", 6) == "bla..."


def test_unique_slug_free():
    assert unique_slug("Red fox", []) == "red-fox"


def test_unique_slug_taken():
    assert unique_slug("fox", ["fox", "fox-2"]) == "fox-3"
