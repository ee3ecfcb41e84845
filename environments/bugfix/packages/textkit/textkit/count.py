"""What a text holds."""

import re


def words(text):
    """How many words."""
    return len(text.split())


def longest(text):
    """The longest word; the first of equals."""
    best = ""
    for word in text.split():
        if len(word) > len(best):
            best = word
    return best


def most_common(text):
    """The word that occurs most often."""
    found = text.lower().split()
    return max(found, key=found.count)


def sentences(text):
    """The sentences, without their last mark."""
    parts = re.split(r"[.!?]", text)
    return [part.strip() for part in parts if part.strip()]
