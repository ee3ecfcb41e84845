"""Text to rows, and back."""


def parse_line(line, mark=","):
    """The values of a line, without spaces around."""
    return [value.strip() for value in line.split(mark)]


def parse_table(text):
    """Rows as dicts; the first line holds the names."""
    lines = [line for line in text.splitlines() if line.strip()]
    names = parse_line(lines[0])
    return [dict(zip(names, parse_line(line))) for line in lines[1:]]


def to_number(value):
    """An int or a float where the text is one."""
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        return value


def render_line(values):
    """One line; a value with a comma is quoted."""
    out = []
    for value in values:
        out.append(f'"{value}"' if "," in value else value)
    return ",".join(out)
