"""Commands at one step, each run in a fork of its own, side by side: what `inspect --live` and `rollout` show."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from swe_srl.actions import canonical
from swe_srl.errors import ConfigError, DataError
from swe_srl.live import SUITE, TIMEOUT_S, Branch, at_step, readable, run_distinct
from swe_srl.rewards import similarity
from swe_srl.sandboxes.choice import chosen, trouble
from swe_srl.types import Action, Step, Trajectory

if TYPE_CHECKING:
    from swe_srl.config import LiveSandbox

CELL_LINES, LINE_CHARS = 12, 200  # what a person sees of an output or a patch; JSON has more
COMMAND_LINES = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """Where commands run: the sandbox's kind, how many at a time, how long one may take, whose tasks."""

    kind: str
    workers: int = 4
    timeout_s: float = TIMEOUT_S
    suite: Path | str = SUITE


@dataclass(frozen=True, slots=True)
class Proposal:
    """A command at a step and who proposes it. Without an action `note` says why there is none."""

    who: str
    action: Action | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A proposal and what it did; `branch` is None where there was nothing to run."""

    proposal: Proposal
    similarity: float | None
    branch: Branch | None

    def as_json(self) -> dict[str, Any]:
        action = self.proposal.action
        return {
            "who": self.proposal.who,
            "note": self.proposal.note,
            "action": None if action is None else readable(canonical(action)),
            "similarity": self.similarity,
            "executed": None if self.branch is None else executed(self.branch),
        }


def executed(branch: Branch) -> dict[str, Any]:
    """A branch's JSON with how long its command took: where nothing has to be the same twice."""
    return {**branch.as_json(), "seconds": round(branch.seconds, 2)}


def live_settings(sandbox: LiveSandbox) -> Settings:
    """Where commands run, as a config has it. Raises ConfigError where no sandbox works."""
    return Settings(chosen(sandbox.kind), sandbox.workers, sandbox.timeout_s, sandbox.tasks or SUITE)


def working(sandbox: LiveSandbox, wanted: str) -> Settings:
    """Where a policy's commands will run, tried once; `wanted` is who asks. Raises ConfigError."""
    settings = live_settings(sandbox)
    if reason := trouble(settings.kind):
        raise ConfigError(f"{wanted}, but no sandbox of kind {settings.kind!r} works here: {reason}")
    return settings


def run_all(
    step: Step,
    proposals: Sequence[Proposal],
    settings: Settings,
    progress: Callable[[int, int], None] | None = None,
) -> list[Shown]:
    """The expert's command at a step and every proposal, each in a fork. Raises as `at_step` does."""
    every = [Proposal("expert", step.action), *proposals]
    actions = [one.action for one in every if one.action is not None]
    with at_step(step, settings.kind, suite=settings.suite, timeout_s=settings.timeout_s) as sandbox:
        found = iter(run_distinct(sandbox, actions, settings.timeout_s, settings.workers, progress))
    expert = canonical(step.action)
    return [
        Shown(one, None, None)
        if one.action is None
        else Shown(one, similarity(canonical(one.action), expert), next(found))
        for one in every
    ]


def step_of(trajectory: Trajectory, k: int) -> Step:
    """Raises DataError where the trajectory has no such step."""
    if not 1 <= k <= len(trajectory.acted):
        raise DataError(f"{trajectory.id} has the steps 1 to {len(trajectory.acted)}, and no {k}")
    return Step(trajectory, k)


# --------------------------------------------------------------------------------------------- for people


def as_json(step: Step, shown: Sequence[Shown], settings: Settings) -> dict[str, Any]:
    return {
        "id": step.id,
        "sandbox": settings.kind,
        "issue": step.trajectory.issue,
        "rows": [s.as_json() for s in shown],
    }


def side_by_side(step: Step, shown: Sequence[Shown], settings: Settings, *, full: bool = False) -> RenderableType:
    """A row a command; those that did the very same share one. `full`: all lines of what it printed and changed."""
    table = Table(title=escape(f"{step.id}, each in its own fork ({settings.kind})"), show_lines=True, expand=True)
    table.add_column("whose", width=11)
    table.add_column("similar", width=7)
    for name, ratio in (("command", 5), ("what it printed", 6), ("what it changed", 5)):
        table.add_column(name, ratio=ratio)
    for who, one in _merged(shown):
        score = "" if one.similarity is None else f"{one.similarity:.3f}"
        action = one.proposal.action
        command = one.proposal.note if action is None else canonical(action)
        lines = None if full else CELL_LINES
        printed, changed = ("", "") if one.branch is None else executed_cells(executed(one.branch), lines)
        style = "green" if who.startswith("expert") else ""
        cells = (who, score, shortened(command, None if full else COMMAND_LINES), printed, changed)
        table.add_row(*(Text(readable(cell)) for cell in cells), style=style)
    return Group(Panel(escape(step.trajectory.issue), title="issue"), table)


def executed_cells(executed: Mapping[str, Any], lines: int | None = CELL_LINES) -> tuple[str, str]:
    """(what it printed, what it changed) of a branch's JSON, of so many lines each; None: all."""
    printed = executed["observation"]
    if printed is None:
        return f"lost: {executed['error']}", ""
    took = f"{executed['seconds']:.1f} s" if "seconds" in executed else ""  # a training's rows have no clock
    told = ", ".join(part for part in (_ended(executed), took) if part)
    body = "\n".join((shortened(printed, lines) or "(nothing)", *([f"[{told}]"] if told else [])))
    if executed["changes"] is None:
        return body, f"not known: {executed['error']}"
    return body, shortened(_without_heads(executed["changes"]), lines) or "(nothing)"


def _ended(executed: Mapping[str, Any]) -> str:
    """How, where it was not by itself and well. Who is killed for memory, for example, ends by SIGKILL."""
    code = executed["exit_code"]
    if executed["timed_out"]:
        return "timed out"
    if not code:
        return ""
    number = code - 128
    return f"exit code {code}" + (f": {signal.Signals(number).name}" if number in signal.valid_signals() else "")


def _merged(shown: Sequence[Shown]) -> list[tuple[str, Shown]]:
    """Rows of one action as one row, under all their names."""
    groups: dict[tuple[str, str], list[Shown]] = {}
    for one in shown:
        action = one.proposal.action
        key = ("", one.proposal.note) if action is None else (action.tool, canonical(action))
        groups.setdefault(key, []).append(one)
    return [("\n".join(one.proposal.who for one in ones), ones[0]) for ones in groups.values()]


def _without_heads(patch: str) -> str:
    """A patch for the eye: each file's name once, no hashes."""
    lines, in_head = [], False
    for line in patch.splitlines():
        if line.startswith("diff --git "):
            in_head = True
            lines.append(line.rpartition(" b/")[2])
        elif line.startswith("@@"):
            in_head = False
            lines.append(line)
        elif not (in_head and line.startswith(("index ", "--- ", "+++ "))):
            lines.append(line)
    return "\n".join(lines)


def shortened(text: str, lines: int | None = CELL_LINES) -> str:
    """The first and the last lines: an error begins with what was run, and ends with what it is."""
    rows = text.strip("\n").split("\n")
    if lines is None:
        return "\n".join(rows)
    rows = [row if len(row) <= LINE_CHARS else f"{row[:LINE_CHARS]}[… {len(row):,} characters]" for row in rows]
    if len(rows) <= lines:
        return "\n".join(rows)
    head, tail = lines - lines // 2, lines // 2
    hidden = rows[head:-tail]
    cut_before = "".join(f"; {row}" for row in hidden if row.startswith("[... ") and row.endswith(" ...]"))
    return "\n".join(
        [*rows[:head], f"[… {len(hidden):,} of {len(rows):,} lines not shown{cut_before} …]", *rows[-tail:]]
    )
