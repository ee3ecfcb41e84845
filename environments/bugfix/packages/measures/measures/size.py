"""Areas, volumes and files."""


def area(width, height=None):
    """A rectangle; a square without a height."""
    if height is None:
        height = width
    return width * height


def volume(width, height, depth=1):
    """A box."""
    return width * height * depth


def file_size(count):
    """2048 becomes 2 KB."""
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GB"


def parse_size(text):
    """2 KB becomes 2048."""
    number, unit = text.split()
    power = ["B", "KB", "MB", "GB"].index(unit)
    return int(number) * 1024**power
