"""A file → its JSON documents with their line numbers: `.json` or `.jsonl`, plain, gzip or zstd.

What a file is, is read off its first bytes; names do not matter. JSON Lines stream: one line is in memory at a
time, and one that is corrupt does not stop the others.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import orjson
import zstandard

from swe_srl.formats.document import Dropped

NOT_JSON = "not JSON"
NOT_UTF8 = "not UTF-8"
EMPTY = "empty file"
UNREADABLE = "unreadable file"

_BOM = b"\xef\xbb\xbf"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 16
_BROKEN = (OSError, EOFError, zlib.error, zstandard.ZstdError)


def documents(path: Path) -> Iterator[tuple[int, object | Dropped]]:
    """(line, parsed document or why there is none), in order; line 1 for a file that is one document.

    Never raises for what is in the file, nor for a file that cannot be read.
    """
    line = 0
    try:
        with ExitStack() as stack:
            for line, document in _documents(_open(path, stack)):
                yield line, document
    except _BROKEN as error:
        yield line + 1, Dropped(line + 1, UNREADABLE, f"{type(error).__name__}: {error}")


def _open(path: Path, stack: ExitStack) -> io.BufferedReader:
    file = stack.enter_context(path.open("rb"))
    head = file.peek(4)
    if head.startswith(_GZIP):
        return io.BufferedReader(stack.enter_context(gzip.open(file, "rb")))
    if head.startswith(_ZSTD):
        return io.BufferedReader(_ZstdFrames(file))
    return file


class _ZstdFrames(io.RawIOBase):
    """The content of zstd frames, one after another: a store has one a trajectory.

    The library's own reader takes the end of the file inside a frame for the end of the content; here it is
    an EOFError, as it is with gzip, because what is lost must be told.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            chunk = b""
            if self._frame.eof:
                chunk = self._frame.unused_data
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            chunk = chunk or self._file.read(_CHUNK)
            if not chunk and self._begun:
                raise EOFError("the file ends inside a zstd frame")
            if not chunk:
                return 0
            self._begun = True
            self._content = memoryview(self._frame.decompress(chunk))
        count = min(len(buffer), len(self._content))
        buffer[:count], self._content = self._content[:count], self._content[count:]
        return count


def _documents(file: io.BufferedReader) -> Iterator[tuple[int, object | Dropped]]:
    number, first = 1, file.readline().removeprefix(_BOM)
    while first and not first.strip():
        number, first = number + 1, file.readline()
    if not first:
        yield 1, Dropped(1, EMPTY, "no JSON document in it")
        return
    document = _parse(first, number)
    if not isinstance(document, Dropped):  # the first line is a whole document: JSON Lines, or a file of one line
        yield number, document
    else:
        # Either one document over many lines, or JSON Lines whose first line is corrupt. The next line tells:
        # no line inside a JSON document is itself an object and begins at the margin.
        second = file.readline()
        if not _is_record(second):
            yield from _whole(number, first + second + file.read())
            return
        yield number, document
        number += 1
        yield number, _parse(second, number)
    yield from _rows(number + 1, file)


def _rows(start: int, rows: Iterable[bytes]) -> Iterator[tuple[int, object | Dropped]]:
    for number, row in enumerate(rows, start):
        if row.strip():
            yield number, _parse(row, number)


def _whole(start: int, content: bytes) -> Iterator[tuple[int, object | Dropped]]:
    """One document over many lines; or, if it is none, JSON Lines that begin with several corrupt ones."""
    document = _parse(content, 1)
    rows = content.split(b"\n")
    if isinstance(document, Dropped) and any(map(_is_record, rows)):
        yield from _rows(start, rows)
    else:
        yield 1, document


def _is_record(row: bytes) -> bool:
    return row.startswith(b"{") and not isinstance(_parse(row, 0), Dropped)


def _parse(content: bytes, line: int) -> object | Dropped:
    try:
        return _json(content)
    except orjson.JSONDecodeError as error:
        reason, detail = NOT_JSON, f"{error}; begins {content[:40]!r}"
    if b"NaN" in content or b"Infinity" in content or b"\\ud" in content:
        # Python writes what JSON has not: numbers that are none become null, halves of characters "?"
        with suppress(ValueError, TypeError, RecursionError):
            text = json.dumps(json.loads(content, parse_constant=lambda _: None), ensure_ascii=False)
            return _json(text.encode(errors="replace"))
    try:
        content.decode()
    except UnicodeDecodeError as error:
        reason, detail = NOT_UTF8, str(error)
    return Dropped(line, reason, detail)


def _json(content: bytes) -> object:
    document: object = orjson.loads(content)
    return document
