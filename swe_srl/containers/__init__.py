"""Files → their JSON documents: JSON, JSON Lines and YAML, plain, gzip or zstd; Parquet; tar archives of these.

What a file is, is read off its first bytes; names do not matter. What can stream does: of JSON Lines, Parquet and
an archive one document is in memory at a time. Nothing raises for what is in a file: what is not readable is a
`Dropped`, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from swe_srl.containers.streams import BROKEN, BUFFER, Stream, is_parquet, is_tar, members, opened
from swe_srl.containers.text import EMPTY, Row, rows
from swe_srl.formats.document import Dropped

__all__ = ["Entry", "Row", "documents", "entries"]

UNREADABLE = "unreadable file"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a member of an archive, and its documents with their line numbers (1 for a file that is one).

    The documents must be taken before the next entry is. `read()` is how many bytes of the file were read so far.
    """

    name: str
    documents: Iterator[Row]
    read: Callable[[], int]


def entries(path: Path) -> Iterator[Entry]:
    """The file itself; of a tar archive each file in it, named "archive.tar/member"."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb", buffering=BUFFER))
            stream = opened(file, stack)
            archive = is_tar(stream)
            read = file.tell if file.seekable() else lambda: 0  # of a pipe nobody knows
        except BROKEN as error:
            yield Entry(_name(path), iter([_broken(0, error)]), lambda: 0)
            return
        if not archive:
            yield Entry(_name(path), _told(stream), read)
            return
        last: Row | None = 1, Dropped(1, EMPTY, "an archive without a file")
        try:
            for name, member in members(stream):
                last = None
                with ExitStack() as unpacking:  # of this member: an archive may have a million
                    yield Entry(_name(f"{path}/{name}"), _told(opened(member, unpacking)), read)
        except BROKEN as error:
            last = _broken(0, error)
        if last:
            yield Entry(_name(path), iter([last]), read)


def _name(path: object) -> str:
    """A path as text that can be written down: a byte of it that is no UTF-8 becomes \\xff."""
    return str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")


def documents(path: Path) -> Iterator[Row]:
    """(line, parsed document or why there is none) of all that is at `path`, in order. Never raises."""
    for entry in entries(path):
        yield from entry.documents


def _told(stream: Stream) -> Iterator[Row]:
    """The stream's documents; what breaks it off is told on the line after the last that was read."""
    line = 0
    try:
        if is_parquet(stream):
            from swe_srl.containers.parquet import table_rows  # a heavy library, for those who have such files

            found = table_rows(stream)
        else:
            found = rows(stream)
        for row in found:
            line = row[0]
            yield row
            del row  # two long documents are never in memory at once
    except BROKEN as error:
        yield _broken(line, error)


def _broken(line: int, error: Exception) -> Row:
    return line + 1, Dropped(line + 1, UNREADABLE, f"{type(error).__name__}: {error}")
