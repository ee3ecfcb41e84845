"""Logs → one store, and a report in which every file is accounted for. `open_data` reads either."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from rich.markup import escape
from rich.table import Table

from swe_srl.containers import documents
from swe_srl.errors import DataError
from swe_srl.formats import FORMATS, NO_FORMAT, Dropped, read_document
from swe_srl.store import INDEX, Store, is_store, to_json, with_unique_ids, write_store
from swe_srl.types import Trajectory

DUPLICATE = "duplicate of an earlier trajectory"
UNKNOWN = "unknown"

Progress = Callable[[int, int, Path], None]  # files done, files in all, the next one


# -------------------------------------------------------------------------------------------- report


@dataclass(slots=True)
class FileReport:
    """What one file gave. `dropped` holds documents and, each on its document's line, turns that ran nothing."""

    path: str
    format: str = UNKNOWN
    trajectories: int = 0
    steps: int = 0
    dropped: list[Dropped] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What came in, file by file."""

    files: list[FileReport] = field(default_factory=list)

    @property
    def trajectories(self) -> int:
        return sum(file.trajectories for file in self.files)

    @property
    def steps(self) -> int:
        return sum(file.steps for file in self.files)

    @property
    def dropped(self) -> int:
        return sum(len(file.dropped) for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """The object of `swe-srl ingest --json`."""
        return {
            "files": [
                {
                    "path": file.path,
                    "format": file.format,
                    "trajectories": file.trajectories,
                    "steps": file.steps,
                    "dropped": [{"line": drop.line, "reason": drop.reason} for drop in file.dropped],
                }
                for file in self.files
            ],
            "trajectories": self.trajectories,
            "steps": self.steps,
            "dropped": self.dropped,
        }


def table(report: Report) -> Table:
    """The report for a terminal: a row a file, what was dropped grouped by reason."""
    grid = Table()
    grid.add_column("file", overflow="fold")
    grid.add_column("format")
    for name in ("trajectories", "steps"):
        grid.add_column(name, justify="right")
    grid.add_column("dropped")
    for file in report.files:
        grid.add_row(escape(file.path), file.format, str(file.trajectories), str(file.steps), _drops(file.dropped))
    grid.add_section()
    everything = [drop for file in report.files for drop in file.dropped]
    grid.add_row(f"{len(report.files)} files", "", str(report.trajectories), str(report.steps), _drops(everything))
    return grid


def _drops(dropped: Sequence[Dropped]) -> str:
    """Reasons, the most common first, each with the first line where it was met."""
    first = {drop.reason: drop for drop in reversed(dropped)}
    counts = Counter(drop.reason for drop in dropped).most_common()
    return "\n".join(f"{count} × {reason} (first: line {first[reason].line})" for reason, count in counts)


# -------------------------------------------------------------------------------------------- ingest


def ingest(paths: Iterable[str | Path], out: str | Path, progress: Progress | None = None) -> Report:
    """Read logs, write one store under `out`, and tell of every file.

    Raises DataError if a path does not exist or nothing usable was found; a store that was there stays.
    """
    if Path(out).exists() and not Path(out).is_dir():
        raise DataError(f"{out} is a file. Give a folder for the store, or a path where one can be made.")
    if Path(out).is_dir() and any(Path(out).iterdir()) and not is_store(Path(out)):
        raise DataError(f"{out} holds other files. Give a store a folder of its own: it would be read as a log else.")
    report = Report()
    files = _files(paths, skip=Path(out))
    write_store(out, _usable(_read_all(files, report, progress), files, report))
    return report


def open_data(path: str | Path) -> Sequence[Trajectory]:
    """A store, or raw logs (a file or a folder) read on the fly. Raises DataError if nothing in it is usable."""
    path = Path(path)
    if path.is_dir() and is_store(path):
        store = Store(path)
        if not store.rows:
            raise DataError(f"{path} is a store without a trajectory. Make it again: swe-srl ingest LOGS --out {path}")
        return store
    report = Report()
    files = _files([path])
    return tuple(with_unique_ids(_usable(_read_all(files, report, None), files, report)))


def _usable(trajectories: Iterable[Trajectory], files: Sequence[Path], report: Report) -> Iterator[Trajectory]:
    """`trajectories`, and DataError at their end if there was none."""
    count = 0
    for trajectory in trajectories:
        count += 1
        yield trajectory
    if count == 0:
        reasons = Counter(drop.reason for file in report.files for drop in file.dropped).most_common(4)
        seen = "; ".join(f"{count} × {reason}" for reason, count in reasons)
        first = next((drop.detail for file in report.files for drop in file.dropped if drop.detail), "nothing")
        raise DataError(
            f"No trajectory in {len(files)} file(s), the first of them {files[0]}. Seen: {seen} ({first}). "
            f"Expected JSON or JSON Lines, plain, .gz or .zst, in one of these formats: "
            f"{', '.join(format.name for format in FORMATS)}. Give the log files themselves or their folder."
        )


def _read_all(files: Sequence[Path], report: Report, progress: Progress | None) -> Iterator[Trajectory]:
    seen: set[bytes] = set()
    for number, path in enumerate(files):
        if progress:
            progress(number, len(files), path)
        row = FileReport(str(path))
        report.files.append(row)
        yield from _read_file(path, row, seen)


def _read_file(path: Path, report: FileReport, seen: set[bytes]) -> Iterator[Trajectory]:
    verdicts = _verdicts(path)
    formats: dict[str, None] = {}
    for document_line, document in documents(path):
        if isinstance(document, Dropped):
            report.dropped.append(document)
            continue
        for line, name, item in read_document(document, str(path), document_line):
            if name is not None:
                formats[name] = None
                report.format = "+".join(formats)
            if isinstance(item, Dropped):
                report.dropped.append(item)
                continue
            if (digest := _digest(item)) in seen:
                report.dropped.append(Dropped(line, DUPLICATE, item.id))
                continue
            seen.add(digest)
            report.trajectories += 1
            report.steps += len(item.acted)
            for reason, count in item.dropped.items():
                report.dropped += [Dropped(line, reason, item.id)] * count
            yield _judged(item, verdicts)
    if not formats:
        # A log of a format that we do not know has thousands of such lines; it is one file that was not read.
        unknown = [drop for drop in report.dropped if drop.reason == NO_FORMAT]
        report.dropped = [drop for drop in report.dropped if drop.reason != NO_FORMAT] + unknown[:1]


def _digest(trajectory: Trajectory) -> bytes:
    """Equal for the same id with the same turns, wherever they were read."""
    turns = orjson.dumps([trajectory.id, to_json(trajectory)["turns"]])
    return hashlib.blake2b(turns, digest_size=16).digest()


# ------------------------------------------------------------------------------------------ verdicts


def _verdicts(path: Path) -> dict[str, bool]:
    """What `NAME.verdicts.json` beside `NAME.jsonl.gz` says: instance id → resolved. {} if there is none."""
    beside = path.with_name(path.name.split(".jsonl", 1)[0].removesuffix(".json") + ".verdicts.json")
    if beside == path or not beside.is_file():
        return {}
    try:
        verdicts = orjson.loads(beside.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{beside} is not JSON ({error}). Expected an object: instance id to true or false.") from None
    if not isinstance(verdicts, dict) or not all(isinstance(value, bool) for value in verdicts.values()):
        raise DataError(f"{beside} does not map instance ids to true or false. Mend it or take it away.")
    return verdicts


def _judged(trajectory: Trajectory, verdicts: dict[str, bool]) -> Trajectory:
    """The log's own word first, then the verdict beside it."""
    resolved = verdicts.get(trajectory.task.task_id or "")
    if resolved is None or trajectory.outcome.resolved is not None:
        return trajectory
    return replace(trajectory, outcome=replace(trajectory.outcome, resolved=resolved))


# --------------------------------------------------------------------------------------------- files


def _files(paths: Iterable[str | Path], skip: Path | None = None) -> list[Path]:
    """The files to read, folders walked in sorted order, each file once. Raises DataError.

    `skip` is not walked into: the store that an earlier ingest left among the logs is not one of them.
    """
    found: dict[Path, None] = {}
    asked = [Path(path) for path in paths]
    for path in asked:
        if path.is_dir():
            found.update(dict.fromkeys(_walk(path, skip.resolve() if skip else None)))
        elif path.exists():
            found[path] = None
        else:
            raise DataError(f"{path} does not exist. Give a log file, a folder of logs, or a store.")
    if not found:
        looked = ", ".join(map(str, asked)) or "no path"
        raise DataError(f"No log file under {looked}. Expected .json, .jsonl or .traj files, plain, .gz or .zst.")
    return list(found)


def _walk(folder: Path, skip: Path | None) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or _is_no_log(path):
            continue
        if path.is_dir() and not path.is_symlink():
            if path.resolve() != skip:
                yield from _walk(path, skip)
        elif path.is_file():
            yield path


def _is_no_log(path: Path) -> bool:
    """Files that stand beside logs and tell of them. All else in a folder is read, and accounted for."""
    if path.name == INDEX:
        return is_store(path.parent)
    return path.suffix == ".md" or path.name.endswith("verdicts.json") or path.name.split(".")[0] == "LICENSE"
