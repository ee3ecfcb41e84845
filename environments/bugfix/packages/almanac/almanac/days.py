"""Days, months and years."""


def is_leap(year):
    """Whether a year has 366 days."""
    if year % 100 == 0:
        return year % 400 == 0
    return year % 4 == 0


def days_in_month(year, month):
    """28 to 31."""
    if month == 2:
        return 29 if is_leap(year) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def day_of_year(year, month, day):
    """1 for the first of January."""
    before = [days_in_month(year, m) for m in range(1, month)]
    return sum(before) + day


def next_day(year, month, day):
    """The date after a date."""
    if day < days_in_month(year, month):
        return (year, month, day + 1)
    if month < 12:
        return (year, month + 1, 1)
    return (year + 1, 1, 1)
