"""Numbers about rows."""


def count_by(rows, name):
    """How many rows each value has."""
    counts = {}
    for row in rows:
        counts[row[name]] = counts.get(row[name], 0) + 1
    return counts


def sum_by(rows, name, number):
    """The sum of a column for each value."""
    sums = {}
    for row in rows:
        sums[row[name]] = sums.get(row[name], 0) + row[number]
    return sums


def average(rows, name):
    """The mean of a column; None without rows."""
    if not rows:
        return None
    return sum(row[name] for row in rows) / len(rows)


def top(rows, name, count=3):
    """The rows with the largest values."""
    ordered = sorted(rows, key=lambda row: row[name], reverse=True)
    return ordered[:count]
