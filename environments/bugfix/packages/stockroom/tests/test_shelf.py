import pytest

from stockroom import count_items, move, put, take


def test_put_new():
    assert put({}, "nut") == {"nut": 1}


def test_put_more():
    assert put({"nut": 2}, "nut", 3) == {"nut": 5}


def test_take():
    assert take({"nut": 5}, "nut", 2) == {"nut": 3}


def test_take_last():
    assert take({"nut": 2}, "nut", 2) == {}


def test_take_too_many():
    with pytest.raises(ValueError, match="not enough"):
        take({"nut": 1}, "nut", 2)


def test_move():
    assert move({"nut": 3}, {}, "nut", 2) == ({"nut": 1}, {"nut": 2})


def test_count_items():
    assert count_items({"nut": 2, "cog": 3}) == 5
