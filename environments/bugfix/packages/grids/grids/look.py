"""Parts of a grid."""


def column(grid, place):
    """One column, from the top."""
    return [row[place] for row in grid]


def trace(grid):
    """The sum of the diagonal."""
    return sum(grid[place][place] for place in range(len(grid)))


def find(grid, value):
    """(row, column) of the first such cell, or None."""
    for row, cells in enumerate(grid):
        if value in cells:
            return (row, cells.index(value))
    return None


def neighbours(grid, row, place):
    """The cells above, below, left and right."""
    out = []
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        y, x = row + down, place + right
        if 0 <= y < len(grid) and 0 <= x < len(grid[0]):
            out.append(grid[y][x])
    return out
