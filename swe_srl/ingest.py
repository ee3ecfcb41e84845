"""Logs → one store, and a report in which every file is accounted for. `open_data` reads either."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import orjson

from swe_srl.errors import DataError
from swe_srl.formats import FORMATS, Dropped
from swe_srl.ingest_report import LogReport, Report
from swe_srl.logs import Log, contents, files_under, logs, size
from swe_srl.redact import redact
from swe_srl.sandboxes import owner
from swe_srl.store import Store, is_free, is_store, write_store
from swe_srl.types import Trajectory
from swe_srl.words import counted

DUPLICATE = "duplicate of an earlier trajectory"

Progress = Callable[[int, int, str], None]  # bytes read, bytes in all, what is being read


def ingest(
    paths: Iterable[str | Path], out: str | Path, progress: Progress | None = None, *, redacted: bool = False
) -> Report:
    """Read logs, write one store under `out`, and tell of every file.

    `redacted` replaces personal paths, addresses and keys. Raises DataError if a path does not exist or nothing
    usable was found; a store that was there stays.
    """
    if Path(out).exists() and not Path(out).is_dir():
        raise DataError(f"{out} is a file. Give a folder for the store, or a path where one can be made.")
    if not is_free(Path(out)):
        raise DataError(f"{out} holds other files. Give a store a folder of its own: it would be read as a log else.")
    report = Report(redacted=redacted)
    write_store(out, _read(files_under(paths, skip=Path(out)), report, progress))
    return report


def open_data(path: str | Path) -> Sequence[Trajectory]:
    """A store, or raw logs (a file or a folder) read on the fly. Raises DataError if nothing in it is usable.

    Logs are read into a store that has no name: it is gone with the last who uses it, and memory does not grow
    with the logs.
    """
    path = Path(path)
    if path.is_dir() and is_store(path):
        store = Store(path)
        if not store.rows:
            raise DataError(f"{path} is a store without a trajectory. Make it again: swe-srl ingest LOGS --out {path}")
        return store
    folder = tempfile.mkdtemp(prefix=owner.temporary())
    try:
        write_store(folder, _read(files_under([path]), Report(), None))
        return Store(folder)
    finally:
        shutil.rmtree(folder)


def _read(files: Sequence[Path], report: Report, progress: Progress | None) -> Iterator[Trajectory]:
    """All trajectories in the files; the report is whole at their end. DataError there if there was none."""
    seen: dict[bytes, str] = {}
    total = sum(map(size, files))

    def told(trajectory: Trajectory) -> Trajectory:
        if progress:
            progress(log.read(), total, log.path)
        clean, found = redact(trajectory)
        report.sensitive += found
        report.without_issue += not trajectory.issue
        return clean if report.redacted else trajectory

    for log in logs(files):
        report.logs.append(LogReport(log.path))
        yield from map(told, _read_log(log, report.logs[-1], seen))
    if report.trajectories == 0:
        raise DataError(_nothing(files, report))


def _nothing(files: Sequence[Path], report: Report) -> str:
    """Why the files hold no trajectory, and what would."""
    drops = [drop for log in report.logs for drop in log.dropped]
    reasons = [f"{count} × {reason}" for reason, count in Counter(drop.reason for drop in drops).most_common(4)]
    first = next((f" ({drop.detail})" for drop in drops if drop.detail), "")
    known = any(log.formats for log in report.logs)
    expected = f"Formats that are read: {', '.join(format.name for format in FORMATS)}. See docs/formats/README.md."
    return (
        f"no trajectory in {counted(len(files), 'file')}, the first of them {files[0]}.\n"
        f"Seen: {'; '.join(reasons)}{first}." + ("" if known else f"\n{expected}")
    )


def _read_log(log: Log, report: LogReport, seen: dict[bytes, str]) -> Iterator[Trajectory]:
    verdicts = _verdicts(Path(log.path))
    for line, name, item in contents(log):
        if name is not None and name not in report.formats:
            report.formats.append(name)
        if isinstance(item, Dropped):
            report.drop(item)
        elif (digest := _digest(item)) in seen:
            report.drop(Dropped(line, DUPLICATE, f"{item.id}, which is in {seen[digest]}"))
        else:
            seen[digest] = f"{Path(log.path).name}, line {line}"
            report.trajectories += 1
            report.steps += len(item.acted)
            for reason, count in item.dropped.items():
                for _ in range(count):
                    report.drop(Dropped(line, reason))
            yield _judged(item, verdicts)
        del item  # two long ones are never in memory at once
    report.settle()


def _digest(trajectory: Trajectory) -> bytes:
    """Equal for the same id with the same turns, wherever they were read."""
    digest = hashlib.blake2b(digest_size=16)
    for text in _texts(trajectory):
        digest.update(b"%d:" % len(text))  # so that no two lists of texts run together alike
        digest.update(text.encode(errors="surrogatepass"))
    return digest.digest()


def _texts(trajectory: Trajectory) -> Iterator[str]:
    yield trajectory.id
    for turn in trajectory.turns:
        yield turn.thought
        if turn.action is not None:
            yield f"{turn.action.tool}("
            for item in turn.action.arguments.items():
                yield from item
        if turn.observation is not None:
            yield "=>"
            yield turn.observation


# ------------------------------------------------------------------------------------------ verdicts


def _verdicts(path: Path) -> dict[str, bool]:
    """What `NAME.verdicts.json` beside `NAME.jsonl.gz` says: instance id → resolved. {} if there is none."""
    beside = path.with_name(path.name.split(".jsonl", 1)[0].removesuffix(".json") + ".verdicts.json")
    if beside == path or not os.path.isfile(beside):  # unlike the path's own question, none raises
        return {}
    try:
        verdicts = orjson.loads(beside.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataError(
            f"{beside} cannot be read as JSON ({error}). Expected an object: instance id to true or false."
        ) from None
    if not isinstance(verdicts, dict) or not all(isinstance(value, bool) for value in verdicts.values()):
        raise DataError(f"{beside} does not map instance ids to true or false. Mend it or take it away.")
    return verdicts


def _judged(trajectory: Trajectory, verdicts: dict[str, bool]) -> Trajectory:
    """The log's own word first, then the verdict beside it."""
    resolved = verdicts.get(trajectory.task.task_id or "")
    if resolved is None or trajectory.outcome.resolved is not None:
        return trajectory
    return replace(trajectory, outcome=replace(trajectory.outcome, resolved=resolved))
