"""Weeks and quarters; Monday is 0."""

from almanac.days import day_of_year


def weekday(year, month, day):
    """0 for Monday to 6 for Sunday."""
    past = year - 1
    leaps = past // 4 - past // 100 + past // 400
    return (past * 365 + leaps + day_of_year(year, month, day) - 1) % 7


def is_weekend(year, month, day):
    """Saturday or Sunday."""
    return weekday(year, month, day) >= 5


def workdays(first, count):
    """Workdays among `count` days from weekday `first`."""
    days = [(first + step) % 7 for step in range(count)]
    return sum(day < 5 for day in days)


def quarter(month):
    """1 to 4."""
    return (month - 1) // 3 + 1
