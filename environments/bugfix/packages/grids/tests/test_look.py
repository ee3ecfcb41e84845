from grids import column, find, neighbours, trace

GRID = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_column():
    assert column(GRID, 1) == [2, 5, 8]


def test_trace():
    assert trace(GRID) == 15


def test_find():
    assert find(GRID, 6) == (1, 2)


def test_find_none():
    assert find(GRID, 10) is None


def test_neighbours_middle():
    assert neighbours(GRID, 1, 1) == [2, 8, 4, 6]


def test_neighbours_corner():
    assert neighbours(GRID, 0, 0) == [4, 2]
