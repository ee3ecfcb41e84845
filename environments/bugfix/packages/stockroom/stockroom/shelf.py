"""A shelf is a dict: name to number of pieces."""


def put(shelf, name, count=1):
    """The shelf with more pieces."""
    return {**shelf, name: shelf.get(name, 0) + count}


def take(shelf, name, count=1):
    """The shelf with fewer pieces; empty names go."""
    left = shelf.get(name, 0) - count
    if left < 0:
        raise ValueError(f"not enough {name}")
    rest = {key: shelf[key] for key in shelf if key != name}
    return {**rest, name: left} if left > 0 else rest


def move(source, target, name, count=1):
    """Pieces from one shelf to another."""
    return take(source, name, count), put(target, name, count)


def count_items(shelf):
    """All pieces on a shelf."""
    return sum(shelf.values())
