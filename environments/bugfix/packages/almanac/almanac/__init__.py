"""Years, months, weeks and clock times as plain numbers."""

from almanac.clock import add_minutes, clock_text, minutes_of, noon_text
from almanac.days import day_of_year, days_in_month, is_leap, next_day
from almanac.weeks import is_weekend, quarter, weekday, workdays
