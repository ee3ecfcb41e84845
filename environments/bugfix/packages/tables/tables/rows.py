"""Rows to other rows."""


def where(rows, name, value):
    """The rows that hold this value."""
    return [row for row in rows if row.get(name) == value]


def order_by(rows, name, down=False):
    """Sorted by one column, smallest first."""
    return sorted(rows, key=lambda row: row[name], reverse=down)


def rename(rows, old, new):
    """A column with another name."""
    out = []
    for row in rows:
        out.append({new if key == old else key: row[key] for key in row})
    return out


def drop(rows, name):
    """All columns but one."""
    return [{key: row[key] for key in row if key != name} for row in rows]


def join(left, right, name):
    """Rows of both tables that share a value."""
    index = {row[name]: row for row in right}
    return [{**row, **index[row[name]]} for row in left if row[name] in index]
