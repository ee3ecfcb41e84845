from stockroom import missing, order_cost, packs, ship


def test_missing():
    assert missing({"nut": 2}, {"nut": 5, "cog": 1}) == {"nut": 3, "cog": 1}


def test_missing_none():
    assert missing({"nut": 2}, {"nut": 2}) == {}


def test_packs():
    assert packs(11, 5) == 3


def test_packs_exact():
    assert packs(10, 5) == 2


def test_order_cost():
    assert order_cost({"nut": 2}, {"nut": 10}) == 25


def test_order_cost_free():
    assert order_cost({"nut": 10}, {"nut": 10}) == 100


def test_ship():
    assert ship([2, 3, 4], 6) == ([2, 3], [4])


def test_ship_all():
    assert ship([2, 4], 6) == ([2, 4], [])
