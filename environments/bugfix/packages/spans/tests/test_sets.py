from spans import cover, holes, merge, total


def test_merge_meeting():
    assert merge([(3, 5), (1, 3)]) == [(1, 5)]


def test_merge_inside():
    assert merge([(1, 9), (2, 3)]) == [(1, 9)]


def test_merge_apart():
    assert merge([(1, 2), (4, 5)]) == [(1, 2), (4, 5)]


def test_total():
    assert total([(1, 4), (2, 6)]) == 5


def test_cover():
    assert cover([(4, 5), (1, 2)]) == (1, 5)


def test_cover_none():
    assert cover([]) is None


def test_holes():
    assert holes([(1, 2), (5, 6), (8, 9)]) == [(2, 5), (6, 8)]
