"""The expert's commands again, in a fresh sandbox each trajectory, beside what the log says that they printed."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from swe_srl.actions import canonical
from swe_srl.errors import DataError, NodeLostError, SandboxError
from swe_srl.live import SUITE, TIMEOUT_S, Unopenable, again, readable, require_commands, task_of
from swe_srl.replay_rules import equal, normalise
from swe_srl.rollout import Opened
from swe_srl.sandboxes import Sandbox, changes
from swe_srl.sandboxes.held import Held
from swe_srl.tasks.bugfix import task_sandbox
from swe_srl.threads import in_order
from swe_srl.tries import Tries
from swe_srl.types import Trajectory

SHOWN = 20  # differences that are kept: the first ones, in the data's order
DIFF_LINES = 12


@dataclass(frozen=True, slots=True)
class Difference:
    """A step whose observation was another one; step 0 is the final patch."""

    trajectory: str
    step: int
    action: str
    logged: str
    replayed: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """One trajectory: the `steps` that were run. `compared` leaves out those of which the log holds no observation;
    `patch_equal` is None where it holds no patch, or ours could not be told. `not_opened` or `failed` is the reason
    why it was not replayed, or not to its end."""

    steps: int
    compared: int = 0
    equal: int = 0
    patch_equal: bool | None = None
    differences: tuple[Difference, ...] = ()
    not_opened: str | None = None
    failed: str | None = None


@dataclass(slots=True)
class Report:
    """All of them. What a lost sandbox did not run any more is not counted but as a failure."""

    sandbox: str
    trajectories: int = 0
    steps: int = 0
    compared: int = 0
    observations_equal: int = 0
    patches: int = 0
    patches_equal: int = 0
    differences: list[Difference] = field(default_factory=list)
    n_differences: int = 0
    not_opened: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, one: Replayed) -> None:
        if one.not_opened is not None:
            self.not_opened[one.not_opened] += 1
            return
        self.trajectories += 1
        self.steps += one.steps
        self.compared += one.compared
        self.observations_equal += one.equal
        self.patches += one.patch_equal is not None
        self.patches_equal += one.patch_equal is True
        self.n_differences += len(one.differences)
        self.differences += one.differences[: SHOWN - len(self.differences)]
        if one.failed is not None:
            self.failures[one.failed] += 1

    def as_json(self) -> dict[str, Any]:
        texts = ("action", "logged", "replayed")
        rows = [
            {"trajectory": one.trajectory, "step": one.step, **{name: readable(getattr(one, name)) for name in texts}}
            for one in self.differences
        ]
        counts = ("trajectories", "steps", "compared", "observations_equal", "patches", "patches_equal")
        return {
            "sandbox": self.sandbox,
            **{name: getattr(self, name) for name in counts},
            "not_opened": dict(self.not_opened),
            "failures": dict(self.failures),
            "n_differences": self.n_differences,
            "differences": rows,
        }


def replay(
    trajectories: Sequence[Trajectory],
    kind: str,
    *,
    limit: int | None = None,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
    suite: Path | str = SUITE,
    opened: Opened | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Replay the first `limit` trajectories, `workers` (default: one a core) side by side.

    `opened` is where, if not on this machine; `progress` is told (done, total). Raises DataError if none can be opened,
    with the reasons.
    """
    total = len(trajectories) if limit is None else min(limit, len(trajectories))
    report, held = Report(kind), Held()
    work = partial(replay_one, kind=kind, timeout_s=timeout_s, suite=suite, held=held, opened=opened)
    with closing(in_order(work, islice(trajectories, total), workers or os.cpu_count() or 1, held.close)) as done:
        for number, one in enumerate(done, 1):
            report.add(one)
            if progress:
                progress(number, total)
    if not report.trajectories:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in report.not_opened.most_common(4))
        raise DataError(f"none of {total} trajectories can be replayed ({reasons}): only {suite}'s tasks can be opened")
    return report


def replay_one(
    trajectory: Trajectory,
    kind: str,
    timeout_s: float = TIMEOUT_S,
    suite: Path | str = SUITE,
    held: Held | None = None,
    opened: Opened | None = None,
) -> Replayed:
    """One trajectory in a sandbox of its own, or in another one where the first's node was lost.

    What cannot be opened and what is lost are told in the result.
    """
    try:
        task = task_of(trajectory, suite)
        require_commands(trajectory.acted)
    except Unopenable as error:
        return Replayed(0, not_opened=str(error))
    tries, opened = Tries(1), opened or partial(task_sandbox, kind=kind)
    while True:
        tries.begin()
        try:
            return _replayed(trajectory, opened(task), timeout_s, held or Held())
        except NodeLostError as error:
            if not tries.again(error):
                return Replayed(0, failed=str(error))


def _replayed(trajectory: Trajectory, lease: AbstractContextManager[Sandbox], timeout_s: float, held: Held) -> Replayed:
    """Raises NodeLostError; else what is lost is told in the result."""
    steps, compared, same, differences, patch_equal, failed = 0, 0, 0, list[Difference](), None, None
    try:
        with lease as sandbox, held.keep(sandbox):
            for k, turn in enumerate(trajectory.acted, 1):
                seen = again(turn, trajectory, sandbox, timeout_s).observation
                steps = k
                if turn.observation is None:
                    continue
                compared += 1
                if equal(turn.observation, seen):
                    same += 1
                else:
                    assert turn.action is not None
                    differences.append(Difference(trajectory.id, k, canonical(turn.action), turn.observation, seen))
            if (logged := trajectory.outcome.patch) is not None:
                patch = changes(sandbox)
                patch_equal = patch.strip("\n") == logged.strip("\n")
                if not patch_equal:
                    differences.append(Difference(trajectory.id, 0, "(the final patch)", logged, patch))
    except NodeLostError:
        raise
    except (SandboxError, OSError) as error:
        failed = str(error)
    return Replayed(steps, compared, same, patch_equal, tuple(differences), failed=failed)


# --------------------------------------------------------------------------------------------- for people


def table(report: Report) -> RenderableType:
    """What came out, and the first differences as small diffs."""
    noun = "trajectory" if report.trajectories == 1 else "trajectories"
    counts = Table("", "equal", "of")
    for name, same, of in (
        ("observations", report.observations_equal, report.compared),
        ("final patches", report.patches_equal, report.patches),
    ):
        share = f"  ({same / of:.1%})" if of else ""
        counts.add_row(name, f"{same:,}{share}", f"{of:,}")
    parts: list[RenderableType] = [Text(f"{report.trajectories} {noun} replayed, sandbox: {report.sandbox}"), counts]
    for title, reasons in (("not opened", report.not_opened), ("lost on the way", report.failures)):
        if reasons:
            lines = Table("trajectories", "reason", title=title)
            for reason, count in reasons.most_common(8):
                lines.add_row(str(count), escape(reason))
            parts.append(lines)
    for one in report.differences:
        where = "final patch" if one.step == 0 else f"step {one.step}: {one.action[:70]}"
        title = escape(f"{one.trajectory}, {where}".replace("\n", " ⏎ "))
        parts.append(Panel(_diff(one), title=title, title_align="left"))
    if report.n_differences > len(report.differences):
        parts.append(Text(f"… and {report.n_differences - len(report.differences)} more differences"))
    return Group(*parts)


def _diff(one: Difference) -> Text:
    """− the log, + the replay, after the rules; only what differs, with a line around it."""
    logged, replayed = normalise(one.logged).split("\n"), normalise(one.replayed).split("\n")
    lines = list(difflib.unified_diff(logged, replayed, n=1, lineterm=""))[2:]
    shown = lines[:DIFF_LINES]
    if len(lines) > DIFF_LINES:
        shown.append(f"… {len(lines) - DIFF_LINES} lines more")
    styles = {"-": "red", "+": "green", "@": "dim"}
    return Text("\n").join(Text(readable(line)[:200], style=styles.get(line[:1], "")) for line in shown)
