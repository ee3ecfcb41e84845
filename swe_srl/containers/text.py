"""A stream of text → its documents: JSON over many lines, JSON Lines, YAML.

JSON Lines stream: one line is in memory at a time, and one that is corrupt does not stop the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import orjson

from swe_srl.containers.streams import Stream
from swe_srl.formats.document import Dropped

Row = tuple[int, object | Dropped]

NOT_JSON = "not JSON"
NOT_UTF8 = "not UTF-8"
EMPTY = "empty file"
TOO_LONG = "line too long"

LONGEST_LINE = 1 << 31  # bytes; a data set in one line is still read, a disk image is not
_YAML_SIZE = 1 << 26  # bytes; such documents are read slowly, and as a whole
_YAML_DEPTH = 200  # what can be written as JSON again; the library crashes on what is very deep
_SETTLED_AFTER = 64  # corrupt lines at a file's start after which none is expected to be a record
_BOM, _UTF16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


def rows(stream: Stream) -> Iterator[Row]:
    """(line, document or why there is none). A file that is one document has it on line 1."""
    lines = _lines(stream)
    number, first = next(((n, line) for n, line in lines if isinstance(line, Dropped) or line.strip()), (1, b""))
    if not first:
        yield 1, Dropped(1, EMPTY, "no document in it")
        return
    document = first if isinstance(first, Dropped) else parse(first, number)
    if isinstance(first, Dropped) or not isinstance(document, Dropped):
        del first  # it may be long, and whoever takes the document keeps us waiting
        yield number, document
        del document
        yield from _records(lines)
    elif first.lstrip()[:1] in (b"{", b"["):
        yield from _document_or_records(number, first, lines, stream)
    else:
        yield from _yaml_or_records(number, first, lines, stream)


def _lines(stream: Stream) -> Iterator[tuple[int, bytes | Dropped]]:
    """Each line with its number. One that is too long is not held in memory."""
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) < LONGEST_LINE:
            yield number, line
        else:
            while not line.endswith(b"\n") and (line := stream.readline(1 << 20)):
                pass
            yield number, Dropped(number, TOO_LONG, f"more than {LONGEST_LINE} bytes without a line end")


def _records(lines: Iterator[tuple[int, bytes | Dropped]]) -> Iterator[Row]:
    for number, line in lines:
        if isinstance(line, Dropped):
            yield number, line
        elif line.strip():
            document = parse(line, number)
            del line
            yield number, document
            del document


def _document_or_records(
    number: int, first: bytes, lines: Iterator[tuple[int, bytes | Dropped]], stream: Stream
) -> Iterator[Row]:
    """A document over many lines, or JSON Lines that begin with corrupt ones.

    A later line tells: no line inside an object is itself an object and begins at the margin. (Inside a list the
    last one is.)
    """
    held = [first]
    for later, line in lines:
        if isinstance(line, Dropped):
            held.append(b"\n")
        elif first.startswith(b"{") and _is_record(line):
            yield from ((n, parse(row, n)) for n, row in enumerate(held, number) if row.strip())
            yield later, parse(line, later)
            yield from _records(lines)
            return
        else:
            held.append(line)
        if len(held) >= _SETTLED_AFTER:
            break
    held.append(stream.read())
    content = b"".join(held)
    del held, first
    document = parse(content, 1)
    if isinstance(document, Dropped) and any(map(_is_record, content.split(b"\n"))):
        yield from ((n, parse(row, n)) for n, row in enumerate(content.split(b"\n"), number) if row.strip())
    else:
        del content
        yield 1, document


def _yaml_or_records(
    number: int, first: bytes, lines: Iterator[tuple[int, bytes | Dropped]], stream: Stream
) -> Iterator[Row]:
    """YAML, if a line near the beginning is a key or a list's item; else lines, of which this one is corrupt."""
    held = [first]
    for _, line in lines:
        held.append(b"\n" if isinstance(line, Dropped) else line)
        if len(held) >= _SETTLED_AFTER:
            break
    content = b"".join(held)
    if _looks_like_yaml(content):
        content += stream.read(_YAML_SIZE)
        yield 1, _parse_yaml(content)
        return
    yield from ((n, parse(row, n)) for n, row in enumerate(held, number) if row.strip())
    yield from _records((n, line) for n, (_, line) in enumerate(lines, number + len(held)))


def _is_record(row: bytes) -> bool:
    return row.startswith(b"{") and not isinstance(parse(row, 0), Dropped)


# ------------------------------------------------------------------------------------------- parsing


def parse(content: bytes, line: int) -> object | Dropped:
    """A JSON document, or why it is none."""
    try:
        return _json(content)
    except orjson.JSONDecodeError as error:
        reason, detail = NOT_JSON, f"{error}; begins {content[:40]!r}"
    if b"NaN" in content or b"Infinity" in content or b"\\ud" in content:
        # Python writes what JSON has not: numbers that are none become null, halves of characters "?"
        with suppress(ValueError, TypeError, RecursionError):
            text = json.dumps(json.loads(content, parse_constant=lambda _: None), ensure_ascii=False)
            return _json(text.encode(errors="replace"))
    if content.startswith(_UTF16):
        return Dropped(line, NOT_UTF8, "UTF-16 text: save it as UTF-8")
    if content.startswith(b"PK\x03\x04"):
        return Dropped(line, NOT_JSON, "a zip archive: unpack it, or pack the logs with tar")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        reason, detail = NOT_UTF8, str(error)
    return Dropped(line, reason, detail)


def _json(content: bytes) -> object:
    document: object = orjson.loads(content)
    return document


def _looks_like_yaml(content: bytes) -> bool:
    """Comments apart, the first line begins a mapping or a list, as SWE-agent's demonstrations do."""
    lines = [line for line in content.splitlines() if line.strip() and not line.startswith((b"#", b"---", b"%"))]
    return bool(lines) and (lines[0].startswith(b"- ") or lines[0].rstrip().endswith(b":"))


def _parse_yaml(content: bytes) -> object | Dropped:
    """A YAML document as JSON values. One with aliases is refused: a small one can stand for a huge one."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(content, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _YAML_DEPTH:
                return Dropped(1, NOT_JSON, f"YAML with aliases, or deeper than {_YAML_DEPTH}")
        return _json(orjson.dumps(yaml.load(content, Loader=yaml.CSafeLoader), option=orjson.OPT_NON_STR_KEYS))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        return Dropped(1, NOT_JSON, f"nor YAML: {' '.join(str(error).split())[:200]}")
