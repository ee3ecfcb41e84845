from tables import average, count_by, sum_by, top

ROWS = [{"k": "x", "n": 1}, {"k": "y", "n": 5}, {"k": "x", "n": 3}]


def test_count_by():
    assert count_by(ROWS, "k") == {"x": 2, "y": 1}


def test_sum_by():
    assert sum_by(ROWS, "k", "n") == {"x": 4, "y": 5}


def test_average():
    assert average(ROWS, "n") == 3


def test_average_none():
    assert average([], "n") is None


def test_top():
    assert [row["n"] for row in top(ROWS, "n", 2)] == [5, 3]


def test_top_all():
    assert len(top(ROWS * 2, "n")) == 3
