from stockroom import low_items, shelf_value, summary, turnover


def test_low_items():
    assert low_items({"nut": 9, "cog": 5, "bolt": 1}) == ["bolt", "cog"]


def test_shelf_value():
    assert shelf_value({"nut": 2}, {"nut": 7}) == 14


def test_shelf_value_unknown():
    assert shelf_value({"cog": 2}, {}) == 0


def test_turnover():
    assert turnover(30, 5, 15) == 3


def test_turnover_empty():
    assert turnover(0, 0, 0) == 0


def test_summary():
    assert summary({"cog": 1, "nut": 4}) == "4 nut, 1 cog"


def test_summary_same():
    assert summary({"nut": 1, "cog": 1}) == "1 cog, 1 nut"
