from tables import drop, join, order_by, rename, where

ROWS = [{"a": 2, "b": 1}, {"a": 1, "b": 2}]


def test_where():
    assert where(ROWS, "a", 1) == [{"a": 1, "b": 2}]


def test_where_missing():
    assert where(ROWS, "z", 1) == []


def test_order_by():
    assert order_by(ROWS, "a")[0]["a"] == 1


def test_order_by_down():
    assert order_by(ROWS, "a", True)[0]["a"] == 2


def test_rename():
    assert rename([{"a": 1}], "a", "c") == [{"c": 1}]


def test_drop():
    assert drop(ROWS, "a") == [{"b": 1}, {"b": 2}]


def test_join():
    assert join(ROWS, [{"a": 1, "c": 5}], "a") == [{"a": 1, "b": 2, "c": 5}]
