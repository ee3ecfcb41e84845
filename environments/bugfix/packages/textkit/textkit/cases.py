"""One way of writing a name to another."""

import re


def snake(name):
    """HelloWorld becomes hello_world."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def camel(name):
    """hello_world becomes helloWorld."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def title(text, small=("of", "the")):
    """Capital letters, but for small words inside."""
    out = []
    for place, word in enumerate(text.split()):
        if place > 0 and word in small:
            out.append(word)
        else:
            out.append(word.capitalize())
    return " ".join(out)


def initials(name):
    """The first letters of the words of a name."""
    letters = [word[0].upper() for word in name.split()]
    return "".join(letters)
