"""Arithmetic."""


def add(one, two):
    """Cell by cell."""
    return [[a + b for a, b in zip(x, y)] for x, y in zip(one, two)]


def scale(grid, factor):
    """Each cell times a factor."""
    return [[cell * factor for cell in row] for row in grid]


def row_sums(grid):
    """The sum of each row."""
    return [sum(row) for row in grid]


def multiply(one, two):
    """The matrix product."""
    out = []
    for row in one:
        cells = [sum(a * b for a, b in zip(row, col)) for col in zip(*two)]
        out.append(cells)
    return out
