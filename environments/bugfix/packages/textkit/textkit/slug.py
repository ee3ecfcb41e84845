"""Names for addresses."""

import re


def slugify(text, dash="-"):
    """Lower-case words joined by dashes."""
    text = re.sub(r"[^a-z0-9]+", dash, text.lower())
    return text.strip(dash)


def shorten(text, limit):
    """At most `limit` characters, with dots when cut."""
    if len(text) <= limit:
        return text
    return text[: limit - 3] + "..."


def unique_slug(text, taken):
    """A slug that is not in `taken`: a number is added."""
    slug = slugify(text)
    if slug not in taken:
        return slug
    number = 2
    while f"{slug}-{number}" in taken:
        number += 1
    return f"{slug}-{number}"
