from almanac import is_weekend, quarter, weekday, workdays


def test_weekday():
    assert weekday(2024, 1, 1) == 0


def test_weekday_sunday():
    assert weekday(2023, 12, 31) == 6


def test_is_weekend_saturday():
    assert is_weekend(2024, 1, 6) is True


def test_is_weekend_friday():
    assert is_weekend(2024, 1, 5) is False


def test_workdays():
    assert workdays(0, 7) == 5


def test_workdays_friday():
    assert workdays(4, 3) == 1


def test_quarter_first():
    assert quarter(3) == 1


def test_quarter_last():
    assert quarter(12) == 4
