from grids import diagonal, filled, identity, join_right


def test_filled():
    assert filled(1, 3) == [[0, 0, 0]]


def test_filled_value():
    assert filled(2, 1, 7) == [[7], [7]]


def test_identity():
    assert identity(2) == [[1, 0], [0, 1]]


def test_diagonal():
    assert diagonal([3, 4]) == [[3, 0], [0, 4]]


def test_join_right():
    assert join_right([[1], [2]], [[3], [4]]) == [[1, 3], [2, 4]]
