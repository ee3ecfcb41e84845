"""Slugs, cases, and the wrapping of plain text."""

from textkit.cases import camel, initials, snake, title
from textkit.count import longest, most_common, sentences, words
from textkit.slug import shorten, slugify, unique_slug
from textkit.wrap import centre, indent, wrap
