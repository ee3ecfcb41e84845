"""The seam to other people's logs: one module a format, and a table.

To add a format, write one module with `name`, `detect` and `read` (the `Format` protocol: a module is one as
it stands) and add one row to FORMATS. If it can also be written, add `write` and one row to WRITERS. The
conformance suite in `tests/test_formats.py` runs over both tables.

A format is told by what a document holds, never by its file's name. `read` raises `Malformed` where a document
of its format has a wrong shape; `read_document` turns that into a `Dropped`.

Some logs are many small documents: one event a line, or one a file of a folder. Such a format also has `is_part`
and one row in PARTS; what `detect` and `read` get is then the list of all the log's events, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from swe_srl.formats import (
    adp,
    atif,
    canonical,
    claude_code,
    codex,
    mini_swe_agent,
    nebius,
    openai_chat,
    openhands_events,
    openhands_messages,
    openhands_sdk,
    pivot,
    r2e_gym,
    responses,
    swe_agent,
    xml_messages,
)
from swe_srl.formats.document import Dropped, Malformed
from swe_srl.formats.others import recognise
from swe_srl.types import Provenance, Trajectory

__all__ = ["FORMATS", "WRITERS", "Dropped", "Format", "Found", "Malformed", "detect", "is_part", "read_document"]

NO_FORMAT = "no known format"
MALFORMED = "malformed"


class Format(Protocol):
    """A log format. `provenance.format` is already this format's name when `read` is called."""

    @property
    def name(self) -> str: ...

    def detect(self, document: object) -> bool: ...

    def read(self, document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]: ...


FORMATS: tuple[Format, ...] = (
    canonical,
    atif,
    adp,
    mini_swe_agent,
    swe_agent,
    openhands_events,
    openhands_sdk,
    claude_code,
    codex,
    nebius,
    pivot,
    responses,
    r2e_gym,
    openhands_messages,
    xml_messages,
    openai_chat,
)

PARTS: tuple[Callable[[object], bool], ...] = (
    openhands_events.is_part,
    openhands_sdk.is_part,
    claude_code.is_part,
    codex.is_part,
)

WRITERS: Mapping[str, Callable[[Trajectory], dict[str, Any]]] = {
    canonical.name: canonical.to_json,
    mini_swe_agent.name: mini_swe_agent.write,
    xml_messages.name: xml_messages.write,
    openai_chat.name: openai_chat.write,
    atif.name: atif.write,
}


def detect(document: object) -> Format | None:
    """The first format of the table that claims the document."""
    return next((format for format in FORMATS if format.detect(document)), None)


def is_part(document: object) -> bool:
    """Whether the document is one event of a log, and no log by itself."""
    return any(is_part(document) for is_part in PARTS)


Found = tuple[int, str | None, Trajectory | Dropped]


def read_document(document: object, file: str, line: int) -> Iterator[Found]:
    """(line, format's name, what was read) for each trajectory in a parsed JSON document; never raises.

    A list that is no format's document is a list of records if one of them is; the record's number is then
    the line.
    """
    format = detect(document)
    if format is None and isinstance(document, list) and any(detect(record) for record in document):
        for number, record in enumerate(document):
            yield from _read_one(detect(record), record, file, line + number)
    else:
        yield from _read_one(format, document, file, line)


def _read_one(format: Format | None, document: object, file: str, line: int) -> Iterator[Found]:
    if format is None:
        yield line, None, Dropped(line, recognise(document) or NO_FORMAT, f"saw {_outline(document)}")
        return
    try:
        for item in format.read(document, Provenance(file, line, format.name)):
            yield line, format.name, item
    except (Malformed, RecursionError) as error:  # JSON may be nested deeper than Python's stack
        yield line, format.name, Dropped(line, MALFORMED, str(error))


def _outline(document: object, depth: int = 3) -> str:
    """What a document looks like, in a few words, for the person who has to find out what it is."""
    if isinstance(document, dict):
        return "an object with " + (", ".join(list(document)[:8]) or "no keys")
    if isinstance(document, list):
        inside = f", first {_outline(document[0], depth - 1)}" if document and depth else ""
        return f"a list of {len(document)}{inside}"
    return type(document).__name__
