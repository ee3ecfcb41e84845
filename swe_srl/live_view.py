"""Commands at one step, each run in a fork of its own, side by side: what `inspect --live` and `rollout` show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from swe_srl.actions import canonical
from swe_srl.errors import DataError
from swe_srl.live import SUITE, Branch, at_step, readable, run_distinct
from swe_srl.rewards import similarity
from swe_srl.sandboxes.choice import chosen
from swe_srl.types import Action, Step, Trajectory

if TYPE_CHECKING:
    from swe_srl.config import LiveSandbox

CELL_LINES, CELL_CHARS = 12, 1200  # what a person sees of an output or a patch; JSON has more
COMMAND_LINES = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """Where commands run: the sandbox's kind, how many at a time, how long one may take, whose tasks."""

    kind: str
    workers: int = 4
    timeout_s: float = 60.0
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
            "executed": None if self.branch is None else self.branch.as_json(),
        }


def live_settings(sandbox: LiveSandbox) -> Settings:
    """Where commands run, as a config has it. Raises ConfigError where no sandbox works."""
    return Settings(chosen(sandbox.kind), sandbox.workers, sandbox.timeout_s, sandbox.tasks or SUITE)


def run_all(step: Step, proposals: Sequence[Proposal], settings: Settings) -> list[Shown]:
    """The expert's command at a step and every proposal, each in a fork. Raises as `at_step` does."""
    every = [Proposal("expert", step.action), *proposals]
    actions = [one.action for one in every if one.action is not None]
    with at_step(step, settings.kind, suite=settings.suite, timeout_s=settings.timeout_s) as sandbox:
        found = iter(run_distinct(sandbox, actions, settings.timeout_s, settings.workers))
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


def side_by_side(step: Step, shown: Sequence[Shown], settings: Settings) -> RenderableType:
    """A row a command; those that did the very same share one."""
    table = Table(title=escape(f"{step.id}, each in its own fork ({settings.kind})"), show_lines=True, expand=True)
    table.add_column("whose", width=11)
    table.add_column("similar", width=7)
    for name, ratio in (("command", 5), ("what it printed", 6), ("what it changed", 5)):
        table.add_column(name, ratio=ratio)
    for who, one in _merged(shown):
        score = "" if one.similarity is None else f"{one.similarity:.3f}"
        action = one.proposal.action
        command = one.proposal.note if action is None else canonical(action)
        printed, changed = ("", "") if one.branch is None else executed_cells(one.branch.as_json())
        style = "green" if who.startswith("expert") else ""
        cells = (who, score, _cut(command, COMMAND_LINES), printed, changed)
        table.add_row(*(Text(readable(cell)) for cell in cells), style=style)
    return Group(Panel(escape(step.trajectory.issue), title="issue"), table)


def executed_cells(executed: Mapping[str, Any]) -> tuple[str, str]:
    """(what it printed, what it changed) of a branch's JSON, short enough for a cell."""
    printed = executed["observation"]
    if printed is None:
        return f"lost: {executed['error']}", ""
    code = executed["exit_code"]
    told = "timed out" if executed["timed_out"] else f"exit code {code}" if code else ""
    body = "\n".join(part for part in (_cut(printed, CELL_LINES), told and f"[{told}]") if part)
    if executed["changes"] is None:
        return body, f"not known: {executed['error']}"
    return body or "(nothing)", _cut(_without_heads(executed["changes"]), CELL_LINES) or "(nothing)"


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


def _cut(text: str, lines: int) -> str:
    text = text.strip("\n")
    kept = text[:CELL_CHARS].split("\n")[:lines]
    return "\n".join(kept) + ("\n[…]" if len("\n".join(kept)) < len(text) else "")
