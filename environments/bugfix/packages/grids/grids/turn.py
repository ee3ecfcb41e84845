"""Grids turned and mirrored."""


def transpose(grid):
    """Rows become columns."""
    return [list(row) for row in zip(*grid)]


def flip(grid):
    """Left and right change places."""
    return [row[::-1] for row in grid]


def rotate(grid, turns=1):
    """Clockwise quarter turns."""
    for _ in range(turns % 4):
        grid = [list(row) for row in zip(*grid[::-1])]
    return grid


def spiral(grid):
    """All cells, clockwise from the top left."""
    out = []
    while grid:
        out += grid[0]
        grid = [list(row) for row in zip(*grid[1:])][::-1]
    return out
