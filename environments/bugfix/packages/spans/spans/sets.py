"""Many spans at once."""


def merge(spans):
    """Sorted spans, those that meet made one."""
    out = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def total(spans):
    """The length that is covered, overlaps once."""
    return sum(end - start for start, end in merge(spans))


def cover(spans):
    """The smallest span that holds all, or None."""
    if not spans:
        return None
    low = min(start for start, _ in spans)
    high = max(end for _, end in spans)
    return (low, high)


def holes(spans):
    """The free spans between the covered ones."""
    full = merge(spans)
    pairs = zip(full, full[1:])
    return [(one[1], two[0]) for one, two in pairs]
