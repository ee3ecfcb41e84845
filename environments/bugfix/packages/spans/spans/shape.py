"""One span made into another."""


def shift(span, step):
    """The span, moved by `step`."""
    start, end = span
    return (start + step, end + step)


def grow(span, by=1):
    """The span, longer on both sides."""
    start, end = span
    return (start - by, end + by)


def clip(span, limit):
    """The part of a span inside `limit`."""
    start = max(span[0], limit[0])
    end = min(span[1], limit[1])
    return (start, max(start, end))


def split_at(span, point):
    """Two spans, cut at a point that is inside."""
    start, end = span
    if not start < point < end:
        return [span]
    return [(start, point), (point, end)]
