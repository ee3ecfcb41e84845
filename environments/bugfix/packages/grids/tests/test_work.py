from grids import add, multiply, row_sums, scale


def test_add():
    assert add([[1, 2]], [[3, 5]]) == [[4, 7]]


def test_scale():
    assert scale([[1, 2]], 3) == [[3, 6]]


def test_row_sums():
    assert row_sums([[1, 2], [3, 4]]) == [3, 7]


def test_multiply():
    assert multiply([[1, 2], [3, 4]], [[0, 1], [1, 0]]) == [[2, 1], [4, 3]]
