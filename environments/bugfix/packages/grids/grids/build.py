"""New grids."""


def filled(rows, columns, value=0):
    """A grid of one value; its rows are not shared."""
    return [[value] * columns for _ in range(rows)]


def identity(size):
    """Ones on the diagonal, zeros elsewhere."""
    grid = filled(size, size)
    for place in range(size):
        grid[place][place] = 1
    return grid


def diagonal(values):
    """The values on the diagonal."""
    grid = filled(len(values), len(values))
    for place, value in enumerate(values):
        grid[place][place] = value
    return grid


def join_right(left, right):
    """Two grids side by side."""
    return [one + two for one, two in zip(left, right)]
