"""Numbers about a shelf."""


def low_items(shelf, limit=5):
    """Names with at most `limit` pieces, sorted."""
    return sorted(name for name in shelf if shelf[name] <= limit)


def shelf_value(shelf, prices):
    """What all pieces are worth; no price is 0."""
    return sum(count * prices.get(name, 0) for name, count in shelf.items())


def turnover(sold, start, end):
    """Pieces sold per piece of mean stock."""
    mean = (start + end) / 2
    if mean == 0:
        return 0
    return sold / mean


def summary(shelf):
    """One line: most pieces first."""
    names = sorted(shelf, key=lambda name: (-shelf[name], name))
    return ", ".join(f"{shelf[name]} {name}" for name in names)
