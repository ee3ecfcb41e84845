"""Trajectories → files that other projects' viewers and trainers open.

    mini-swe-agent   <id>.traj.json, one a trajectory: for mini-swe-agent's inspector
    openai           messages.jsonl, one record a line: for trainers of chat models
    atif             <id>.json, one a trajectory: for what reads harbor's interchange format

All three can be read again here, and give the same trajectories. What a target cannot hold is listed with its
reason, and the others go on.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.markup import escape
from rich.table import Table

from swe_srl.disk import folder_aside
from swe_srl.errors import DataError, UnrenderableError
from swe_srl.formats import atif, mini_swe_agent, openai_chat
from swe_srl.ingest import open_data
from swe_srl.loading import nearest
from swe_srl.redact import redact
from swe_srl.tools import schemas
from swe_srl.types import Trajectory

MARK = ".swe-srl-export.json"  # in a folder that export made: what is in it. No reader of logs looks at such names.
MESSAGES = "messages.jsonl"
LONGEST = 200  # bytes of a file's name before its suffix: file systems take 255

Progress = Callable[[int, int], None]  # trajectories done, trajectories in all


# ------------------------------------------------------------------------------------------ targets


@dataclass(frozen=True, slots=True)
class Target:
    """What is written of a trajectory, and into which file: `suffix` None is one file for all."""

    write: Callable[[Trajectory], dict[str, Any]]
    suffix: str | None


def _mini_swe_agent(trajectory: Trajectory) -> dict[str, Any]:
    document = mini_swe_agent.write(trajectory)
    document["info"]["task_id"] = trajectory.task.task_id
    return document


def _openai(trajectory: Trajectory) -> dict[str, Any]:
    metadata = {"task_id": trajectory.task.task_id, "trajectory_id": trajectory.id}
    return openai_chat.write(trajectory) | {"tools": schemas(), "metadata": metadata}


TARGETS: Mapping[str, Target] = {
    "mini-swe-agent": Target(_mini_swe_agent, ".traj.json"),
    "openai": Target(_openai, None),
    "atif": Target(atif.write, ".json"),
}
OTHER_NAMES: Mapping[str, str] = {
    "mini-swe-agent-1.1": "mini-swe-agent",
    "openai-chat": "openai",
    "openai-messages": "openai",
}


# ------------------------------------------------------------------------------------------- export


@dataclass(slots=True)
class Report:
    """`trajectories` and `steps` are those of the data, `written` the trajectories that the target could hold."""

    format: str
    out: str
    trajectories: int = 0
    steps: int = 0
    written: int = 0
    sensitive: Counter[str] = field(default_factory=Counter)
    redacted: bool = False
    not_written: list[tuple[str, str]] = field(default_factory=list)  # (trajectory's id, reason)

    def as_json(self) -> dict[str, Any]:
        """The object of `swe-srl export --json`."""
        return {
            "format": self.format,
            "out": self.out,
            "trajectories": self.trajectories,
            "steps": self.steps,
            "written": self.written,
            "sensitive": dict(self.sensitive),
            "redacted": self.redacted,
            "not_written": [{"id": id, "reason": reason} for id, reason in self.not_written],
        }


def table(report: Report) -> list[Table]:
    """What was not written, for a terminal: a row a reason. Nothing if all was."""
    ids: dict[str, list[str]] = {}
    for id, reason in report.not_written:
        ids.setdefault(reason, []).append(id)
    grid = Table()
    grid.add_column("not written", justify="right")
    grid.add_column("reason", overflow="fold")
    grid.add_column("first of them", overflow="fold")
    for reason, found in sorted(ids.items(), key=lambda row: -len(row[1])):
        grid.add_row(str(len(found)), escape(reason), escape(found[0]))
    return [grid] if ids else []


def export(
    data: str | Path, format: str, out: str | Path, progress: Progress | None = None, *, redacted: bool = False
) -> Report:
    """Write a store, or raw logs, into the folder `out` for others to open. An earlier export there is replaced.

    `redacted` replaces personal paths, addresses and keys; without it they are only counted.
    Raises DataError for a format that is none, a folder that holds something else, data without a trajectory,
    and where the target can hold none of them; `out` is then as it was.
    """
    name = OTHER_NAMES.get(format.lower(), format.lower())
    if name not in TARGETS:
        known = [*TARGETS, *OTHER_NAMES]
        raise DataError(f"no format {format!r} to export to{nearest(format, known)}. Give one of {', '.join(known)}.")
    folder = Path(out).resolve()
    _check(folder, Path(data).resolve())
    trajectories = open_data(data)
    report = Report(name, str(out), redacted=redacted)
    with _filled(folder) as aside:
        _write(trajectories, TARGETS[name], aside, report, progress)
        if not report.written:
            id, reason = report.not_written[0]
            raise DataError(
                f"{name} can hold none of the {report.trajectories} trajectories of {data}: {id}: {reason}. "
                f"Give another format: {', '.join(TARGETS)}."
            )
        (aside / MARK).write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2))
    return report


def _write(
    trajectories: Sequence[Trajectory], target: Target, folder: Path, report: Report, progress: Progress | None
) -> None:
    """One trajectory in memory at a time, if the data is a store."""
    names = _Names()
    for trajectory in trajectories:
        report.trajectories += 1
        report.steps += len(trajectory.acted)
        clean, found = redact(trajectory)
        report.sensitive += found
        trajectory = clean if report.redacted else trajectory
        try:
            document = orjson.dumps(target.write(trajectory))
        except UnrenderableError as error:
            report.not_written.append((trajectory.id, str(error).removeprefix(f"{trajectory.id}: ")))
        else:
            path = folder / (MESSAGES if target.suffix is None else names.file(trajectory.id, target.suffix))
            with path.open("ab") as file:
                file.write(document + b"\n")
            report.written += 1
        if progress:
            progress(report.trajectories, len(trajectories))


# --------------------------------------------------------------------------------------- file names


class _Names:
    """File names from ids: any id gets one, no two the same, on a disk that knows no case either."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def file(self, id: str, suffix: str) -> str:
        plain = re.sub(r"[^\w.~+@=-]", "_", unicodedata.normalize("NFC", id))
        plain = re.sub(r"^\.+", lambda dots: "_" * len(dots[0]), plain)  # no hidden file, no way up
        if len(plain.encode()) > LONGEST:
            cut = plain.encode()[: LONGEST - 9].decode(errors="ignore")
            plain = f"{cut}-{hashlib.sha256(id.encode()).hexdigest()[:8]}"
        name, number = plain, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{plain}-{number}"
        self._taken.add(name.casefold())
        return name + suffix


# ------------------------------------------------------------------------------------------ folders


def _check(folder: Path, data: Path) -> None:
    if folder == data or folder in data.parents:
        raise DataError(f"{data} is in {folder}, which the export would replace. Give --out another folder.")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file. Give a folder for the export, or a path where one can be made.")
    for place in (folder, _aside(folder)):
        if place.exists() and any(place.iterdir()) and not (place / MARK).is_file():
            raise DataError(f"{place} holds other files, which the export would replace. Give --out another folder.")


def _aside(folder: Path) -> Path:
    return folder.with_name(folder.name + ".tmp")  # where `folder_aside` fills it


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """The folder's content, which takes its place when it is whole. It is marked as ours from the beginning."""
    try:
        with folder_aside(folder) as aside:
            (aside / MARK).touch()
            yield aside
    except BaseException:
        shutil.rmtree(_aside(folder), ignore_errors=True)
        raise
