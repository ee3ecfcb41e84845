from almanac import day_of_year, days_in_month, is_leap, next_day


def test_is_leap():
    assert is_leap(2024) is True


def test_is_leap_century():
    assert is_leap(1800) is False


def test_is_leap_400():
    assert is_leap(2000) is True


def test_days_in_month_february():
    assert days_in_month(2023, 2) == 28


def test_days_in_month_leap():
    assert days_in_month(2024, 2) == 29


def test_days_in_month_november():
    assert days_in_month(2023, 11) == 30


def test_day_of_year_january():
    assert day_of_year(2023, 1, 9) == 9


def test_day_of_year_march():
    assert day_of_year(2023, 3, 1) == 60


def test_next_day():
    assert next_day(2023, 5, 7) == (2023, 5, 8)


def test_next_day_month():
    assert next_day(2023, 4, 30) == (2023, 5, 1)


def test_next_day_year():
    assert next_day(2023, 12, 31) == (2024, 1, 1)
