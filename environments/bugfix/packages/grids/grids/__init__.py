"""Small matrices as lists of rows."""

from grids.build import diagonal, filled, identity, join_right
from grids.look import column, find, neighbours, trace
from grids.turn import flip, rotate, spiral, transpose
from grids.work import add, multiply, row_sums, scale
