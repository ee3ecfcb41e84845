"""Rows of named values, read from text with commas."""

from tables.group import average, count_by, sum_by, top
from tables.read import parse_line, parse_table, render_line, to_number
from tables.rows import drop, join, order_by, rename, where
