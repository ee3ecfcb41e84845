"""How two spans lie to each other."""


def is_empty(span):
    """Whether a span holds no point."""
    start, end = span
    return start >= end


def length(span):
    """How long a span is; an empty one is 0."""
    start, end = span
    return max(0, end - start)


def contains(span, point):
    """Whether a point is inside: the end is not."""
    start, end = span
    return start <= point < end


def overlaps(one, two):
    """Whether two spans share a point."""
    return one[0] < two[1] and two[0] < one[1]


def touches(one, two):
    """Whether one span ends where the other starts."""
    return one[1] == two[0] or two[1] == one[0]


def gap(one, two):
    """The free space between two spans, or 0."""
    first, second = sorted([one, two])
    return max(0, second[0] - first[1])
