"""What came in, log by log: nothing that was read is unaccounted for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.markup import escape
from rich.table import Table

from swe_srl.formats import Dropped
from swe_srl.words import counted

UNKNOWN = "unknown"
LISTED = 10_000  # drops of one log that are listed one by one
_ROWS = 60  # logs that a table lists
_SHOWN = 100  # characters of a drop's detail


@dataclass(slots=True)
class LogReport:
    """What one log gave. `dropped` holds documents and, each on its document's line, turns that ran nothing."""

    path: str
    formats: list[str] = field(default_factory=list)
    trajectories: int = 0
    steps: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    unlisted: Counter[str] = field(default_factory=Counter)

    @property
    def format(self) -> str:
        return "+".join(self.formats) or UNKNOWN

    def drop(self, dropped: Dropped) -> None:
        if len(self.dropped) < LISTED:
            self.dropped.append(dropped)
        else:
            self.unlisted[dropped.reason] += 1

    def settle(self) -> None:
        """To be called when the log is read.

        A file of which nothing is known may have a million lines: it is one file that was not read.
        """
        if not self.formats:
            count = len(self.dropped) + self.unlisted.total()
            if count > 1:
                first = self.dropped[0]
                self.dropped = [Dropped(first.line, first.reason, f"{count} lines, the first: {first.detail}")]
        else:
            for reason, count in self.unlisted.items():
                self.dropped.append(Dropped(self.dropped[-1].line, f"{reason}: {count} more, which are not listed"))


@dataclass(slots=True)
class Report:
    """What came in, log by log. `sensitive` counts, by kind, what in the texts is nobody's business."""

    logs: list[LogReport] = field(default_factory=list)
    sensitive: Counter[str] = field(default_factory=Counter)
    redacted: bool = False
    without_issue: int = 0  # trajectories whose log does not hold it: no step of theirs is trained on

    @property
    def trajectories(self) -> int:
        return sum(log.trajectories for log in self.logs)

    @property
    def steps(self) -> int:
        return sum(log.steps for log in self.logs)

    @property
    def dropped(self) -> int:
        return sum(len(log.dropped) for log in self.logs)

    @property
    def empty(self) -> int:
        """Logs that gave no trajectory."""
        return sum(not log.trajectories for log in self.logs)

    def as_json(self) -> dict[str, Any]:
        """The object of `swe-srl ingest --json`."""
        return {
            "files": [
                {
                    "path": log.path,
                    "format": log.format,
                    "trajectories": log.trajectories,
                    "steps": log.steps,
                    "dropped": [
                        {"line": drop.line, "reason": drop.reason, **({"detail": drop.detail} if drop.detail else {})}
                        for drop in log.dropped
                    ],
                }
                for log in self.logs
            ],
            "trajectories": self.trajectories,
            "steps": self.steps,
            "dropped": self.dropped,
            "sensitive": dict(self.sensitive),
            "redacted": self.redacted,
            "without_issue": self.without_issue,
        }


def table(report: Report) -> Table:
    """The report for a terminal: a row a log, what was dropped grouped by reason; then the sums."""
    root = _root([log.path for log in report.logs])
    grid = Table(title=escape(f"what is in {root}") if root else None)
    grid.add_column("file", overflow="fold")
    grid.add_column("format")
    for name in ("trajectories", "steps"):
        grid.add_column(name, justify="right")
    grid.add_column("dropped", overflow="fold")
    shown = report.logs
    if len(shown) > _ROWS:  # those that gave nothing first, then those that lost most
        shown = sorted(shown, key=lambda log: (log.trajectories > 0, -len(log.dropped)))[:_ROWS]
    for log in shown:
        grid.add_row(
            escape(os.path.relpath(log.path, root) if root else log.path),
            log.format,
            str(log.trajectories),
            str(log.steps),
            _drops(log.dropped),
        )
    if hidden := len(report.logs) - len(shown):
        grid.add_row(f"… and {hidden} that gave more; --json lists each", "", "", "", "")
    grid.add_section()
    for format in sorted({log.format for log in report.logs}):
        _sum(grid, f"all {format}", [log for log in report.logs if log.format == format])
    grid.add_section()
    _sum(grid, "in all", report.logs)
    return grid


def _root(paths: Sequence[str]) -> str:
    """The folder that all are in; "" where there is none worth naming."""
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # some are given from the root on and some are not
        return ""
    return "" if root == "/" else root


def _sum(grid: Table, name: str, logs: Sequence[LogReport]) -> None:
    counts = Counter(drop.reason for log in logs for drop in log.dropped)
    grid.add_row(
        name,
        counted(len(logs), "file"),
        str(sum(log.trajectories for log in logs)),
        str(sum(log.steps for log in logs)),
        "\n".join(f"{count} × {escape(reason)}" for reason, count in counts.most_common()),
    )


def _drops(dropped: Sequence[Dropped]) -> str:
    """Reasons, the most common first, each with the first place where it was met."""
    first = {drop.reason: drop for drop in reversed(dropped)}
    counts = Counter(drop.reason for drop in dropped).most_common()
    return "\n".join(f"{count} × {escape(reason)} (first: {_place(first[reason])})" for reason, count in counts)


def _place(drop: Dropped) -> str:
    return f"line {drop.line}" + (f": {escape(drop.detail[:_SHOWN])}" if drop.detail else "")
