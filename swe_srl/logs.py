"""Paths → logs → trajectories. One log is a file, a member of an archive, or all the event files of a folder."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path

from swe_srl.containers import Entry, Row, entries
from swe_srl.errors import DataError
from swe_srl.formats import Dropped, Found, is_part, read_document
from swe_srl.store import INDEX, is_store

# "7.json", "event-00007-5df490d1.json": one of many in a folder, if its content is an event.
_NUMBERED = re.compile(r"(?P<folder>.*)/(?:[a-z]+[-_])?(?P<number>\d+)(?:-[0-9a-f-]+)?\.json")


@dataclass(frozen=True, slots=True)
class Log:
    """One log, as a report names it, and its documents with their lines: to be taken before the next log is.

    `read()` is how many bytes of all files were read so far.
    """

    path: str
    documents: Iterator[Row]
    read: Callable[[], int]


def logs(files: Sequence[Path]) -> Iterator[Log]:
    """Each log in the files, in order."""
    for folder, group in groupby(_entries(files), key=lambda entry: _folder(entry.name)):
        if folder is None:
            for entry in group:
                yield Log(entry.name, entry.documents, entry.read)
        else:
            yield from _of_folder(folder, group)


def contents(log: Log) -> Iterator[Found]:
    """(line, format, what was read) of a log; the events of one that is made of events are one document."""
    events: list[object] = []
    begin = 0
    for line, document in log.documents:
        if isinstance(document, Dropped):
            yield line, None, document
        elif events or is_part(document):
            begin = begin or line
            events.append(document)
        else:
            yield from read_document(document, log.path, line)
        del document
    if events:
        yield from read_document(events, log.path, begin)


def _entries(files: Sequence[Path]) -> Iterator[Entry]:
    before = 0
    for file in files:
        for entry in entries(file):
            yield replace(entry, read=partial(_sum, before, entry.read))
        before += size(file)


def _sum(before: int, read: Callable[[], int]) -> int:
    return before + read()


def _folder(name: str) -> str | None:
    found = _NUMBERED.fullmatch(name)
    return found["folder"] if found else None


def _of_folder(folder: str, group: Iterable[Entry]) -> Iterator[Log]:
    """The numbered files of a folder: the events among them are one log, in the order of their numbers."""
    events: list[tuple[int, object]] = []
    read = 0
    for entry in group:
        first = next(entry.documents)  # there is always one, if only a reason why there is none
        second = next(entry.documents, None)
        if second or isinstance(first[1], Dropped) or not is_part(first[1]):
            yield Log(entry.name, chain(filter(None, (first, second)), entry.documents), entry.read)
        else:
            found = _NUMBERED.fullmatch(entry.name)
            assert found is not None
            events.append((int(found["number"]), first[1]))
            read = entry.read()
    if events:
        events.sort(key=lambda event: event[0])
        yield Log(folder, iter([(line, event) for line, (_, event) in enumerate(events, 1)]), lambda: read)


# --------------------------------------------------------------------------------------------- files


def absent(path: str | Path) -> str:
    """What is said of data that is not there: nobody knows whether it was to be read, or made here."""
    return (
        f"{path} does not exist. Give a log file, a folder of logs, or a store: swe-srl ingest makes one of logs, "
        "swe-srl record of tasks (a config that learns from such demonstrations says in its first lines how)"
    )


def files_under(paths: Iterable[str | Path], skip: Path | None = None) -> list[Path]:
    """The files to read, folders walked in sorted order, each file once. Raises DataError.

    `skip` is not walked into: the store that an earlier ingest left among the logs is not one of them.
    """
    found: dict[Path, None] = {}
    asked = [Path(path) for path in paths]
    for path in asked:
        if _kind(path) == stat.S_IFDIR:
            found.update(dict.fromkeys(_walk(path, {skip.resolve()} if skip else set())))
        elif _kind(path) is not None:
            found[path] = None
        else:
            raise DataError(absent(path))
    if not found:
        looked = ", ".join(map(str, asked)) or "no path"
        raise DataError(f"No log file under {looked}. Expected JSON, JSON Lines, YAML or Parquet, packed or not.")
    return list(found)


def size(file: Path) -> int:
    """Bytes on the disk; 0 for what cannot be looked at, which is told of when it is read."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _walk(folder: Path, walked: set[Path]) -> Iterator[Path]:
    """Links are followed, but into no folder twice. A folder that cannot be read is told of as a file would be."""
    walked.add(folder.resolve())
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        yield folder
        return
    for path in inside:
        if path.name.startswith(".") or _is_no_log(path):
            continue
        kind = _kind(path)
        if kind == stat.S_IFDIR:
            if path.resolve() not in walked:
                yield from _walk(path, walked)
        elif kind in (stat.S_IFREG, None):
            yield path


def _kind(path: Path) -> int | None:
    """What a path leads to: a folder, a file, a pipe that would be waited for; None for what cannot be looked at."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return None


def _is_no_log(path: Path) -> bool:
    """Files that stand beside logs and tell of them. All else in a folder is read, and accounted for."""
    if path.name == INDEX:
        return is_store(path.parent)
    return path.suffix == ".md" or path.name.endswith("verdicts.json") or path.name.split(".")[0] == "LICENSE"
