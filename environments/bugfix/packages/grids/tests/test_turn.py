from grids import flip, rotate, spiral, transpose


def test_transpose():
    assert transpose([[1, 2], [3, 4]]) == [[1, 3], [2, 4]]


def test_flip():
    assert flip([[1, 2], [3, 4]]) == [[2, 1], [4, 3]]


def test_rotate():
    assert rotate([[1, 2], [3, 4]]) == [[3, 1], [4, 2]]


def test_rotate_full():
    assert rotate([[1, 2], [3, 4]], 4) == [[1, 2], [3, 4]]


def test_spiral():
    assert spiral([[1, 2], [3, 4]]) == [1, 2, 4, 3]
