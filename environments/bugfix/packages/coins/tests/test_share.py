from coins import change, share, split_tip, weighted


def test_share():
    assert share(10, 3) == [4, 3, 3]


def test_share_even():
    assert share(9, 3) == [3, 3, 3]


def test_weighted():
    assert weighted(100, [1, 3]) == [25, 75]


def test_weighted_rest():
    assert weighted(10, [1, 1, 1]) == [3, 3, 4]


def test_split_tip():
    assert split_tip(1000, 10, 3) == 367


def test_change():
    assert change(85) == [50, 20, 10, 5]


def test_change_none():
    assert change(0) == []
