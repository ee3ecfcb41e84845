"""Lines of a given width."""


def wrap(text, width=20):
    """Lines of at most `width` characters."""
    lines = [""]
    for word in text.split():
        line = f"{lines[-1]} {word}".strip()
        if len(line) <= width:
            lines[-1] = line
        else:
            lines.append(word)
    return lines


def indent(text, depth=1):
    """Each line with `depth` steps of two spaces."""
    lines = text.split("\n")
    return "\n".join("  " * depth + line for line in lines)


def centre(text, width):
    """The text in the middle, more space on the right."""
    left = (width - len(text)) // 2
    right = width - len(text) - left
    return " " * left + text + " " * right
