"""What `swe-srl inspect` shows of one trajectory, one step as the policy sees it, or one update's groups of a run."""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from swe_srl.actions import canonical, is_target, render_completion
from swe_srl.errors import DataError
from swe_srl.evaluate.floors import policies
from swe_srl.ingest import open_data
from swe_srl.live_view import executed_cells, shortened
from swe_srl.prompts import SYSTEM_PROMPTS
from swe_srl.rewards import similarity
from swe_srl.runs import read_rows
from swe_srl.steps import StepFilter, kind, step_set
from swe_srl.types import Step, Trajectory

# Data has no tokenizer: only a config says how much of a text its prompts hold.
_RAN = "<returncode>0</returncode>\n<output>\n"  # how mini-swe-agent begins nearly every observation
WHOLE = "texts are whole, where a config cuts them to its budgets"
View = tuple[dict[str, Any], RenderableType]  # the same for a program and for a person


def is_run(path: Path) -> bool:
    """Whether it is a training's: a run of whole attempts is a log like any other (`rollouts/episodes.jsonl`)."""
    whole = (path / "rollouts").is_dir()
    return not whole and (path / "config.toml").exists() and (path / "events.jsonl").exists()


# ------------------------------------------------------------------------------------------------ data


def one_trajectory(trajectory: Trajectory) -> View:
    """Its steps, a line each."""
    origin = f"{trajectory.id}  ({trajectory.provenance.format}, {trajectory.provenance.file})"
    table = Table(expand=True)
    table.add_column("step", no_wrap=True, min_width=4, justify="right")
    table.add_column("kind", no_wrap=True, min_width=16)
    table.add_column("action", no_wrap=True, ratio=3)
    table.add_column("observation", no_wrap=True, ratio=2)
    rows = []
    for k, turn in enumerate(trajectory.acted, 1):
        assert turn.action is not None
        text = canonical(turn.action)
        rows.append({"k": k, "kind": kind(turn.action), "action": text, "thought": turn.thought})
        shown = _line((turn.observation or "").removeprefix(_RAN))
        table.add_row(str(k), escape(kind(turn.action)), escape(_line(text)), escape(shown))
    found = {"id": trajectory.id, "issue": trajectory.issue, "steps": rows}
    return found, Group(escape(origin), Panel(escape(trajectory.issue), title="issue"), table)


def one_step(trajectories: Sequence[Trajectory], trajectory: Trajectory, k: int, window: int | None = 2) -> View:
    """What the policy sees, the target, and what the floors would have answered. Raises DataError."""
    acted = trajectory.acted
    if not 1 <= k <= len(acted):
        raise DataError(f"{trajectory.id} has the steps 1 to {len(acted)}, and no {k}")
    step = Step(trajectory, k)
    shown = step.history[-window:] if window else step.history
    target = render_completion(step.expert.thought, step.action) if is_target(step.action) else None
    expert = canonical(step.action)
    every = step_set(trajectories, range(len(trajectories)), StepFilter(), Counter())
    others = {name: canonical(policy(step)) for name, policy in policies(every, 0).items()}
    scores = {name: similarity(text, expert) for name, text in others.items()}
    found = {
        "id": step.id,
        "issue": trajectory.issue,
        "history": [{"action": canonical(t.action), "observation": t.observation} for t in shown if t.action],
        "target": target,
        "canonical": expert,
        "floors": {name: {"action": others[name], "similarity": scores[name]} for name in others},
    }
    parts: list[RenderableType] = [
        Panel(escape(SYSTEM_PROMPTS["brief"]), title=f"system prompt (brief); below, {WHOLE}", style="dim"),
        Panel(escape(trajectory.issue), title="issue"),
    ]
    for turn in shown:
        assert turn.action is not None
        parts.append(Panel(escape(canonical(turn.action)), title="earlier command", style="cyan"))
        parts.append(Panel(escape(turn.observation or "(no output)"), title="what it printed", style="dim"))
    if target:
        parts.append(Panel(escape(target), title="target", style="green"))
    else:
        parts.append(
            Panel(escape(expert), title="what the expert did: no tool of ours, never a target", style="yellow")
        )
    table = Table("floor", "its command", "similarity", title="what policies that know nothing would have got")
    for name, score in sorted(scores.items(), key=lambda item: -item[1]):
        table.add_row(escape(name), escape(_line(others[name])), f"{score:.3f}")
    return found, Group(*parts, table)


def find(trajectories: Sequence[Trajectory], id: str) -> Trajectory:
    """The trajectory of this id, or the only one whose id begins so. Raises DataError with the nearest."""
    from swe_srl.loading import nearest

    ids = [trajectory.id for trajectory in trajectories]
    begin = [position for position, known in enumerate(ids) if known.startswith(id)]
    if id in ids or len(begin) == 1:
        return trajectories[ids.index(id) if id in ids else begin[0]]
    raise DataError(f"no trajectory {id!r} among {len(ids)}{nearest(id, ids)}")


# ------------------------------------------------------------------------------------------------- runs


def run_groups(run: Path, update: int | None) -> View:
    """The groups of one update: each sample's action, reward and why. Without a number: which there are."""
    if update is None:
        return _updates(run)
    rows = _with_turns(run, update, rollout_rows(run, update))
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["stage"], row["draw"], row["step_id"]].append(row)
    experts = _experts(run, {step_id for _, _, step_id in groups})
    executed = any("executed" in row for row in rows)
    parts: list[RenderableType] = []
    for (stage, draw, step_id), samples in groups.items():
        live = "" if samples[0]["live"] else "  (dropped: the rewards do not differ)"
        went = f"  (went on by: {samples[0]['went']})" if "went" in samples[0] else ""
        title = f"{stage}, draw {draw}: {escape(step_id)}{live}{went}"
        of_turns = "turn" in samples[0]
        shown = _attempts(samples, title) if of_turns else _answers(samples, title, experts.get(step_id), executed)
        parts.append(shown)
    found = [{**row, "expert": experts.get(row["step_id"])} for row in rows]
    return {"run": str(run), "update": update, "rows": found}, Group(*parts)


def _answers(samples: Sequence[dict[str, Any]], title: str, expert: str | None, executed: bool) -> Table:
    """Answers to one step, the expert's first."""
    table = Table("reward", "format error", "answer", title=title)
    for name in ("what it printed", "what it changed") if executed else ():
        table.add_column(name)
    did = next((row["expert_executed"] for row in samples if "expert_executed" in row), None)
    told = escape(expert or "(its data is no longer there)")
    table.add_row("expert", "", told, *_executed(did, executed), style="green")
    for row in sorted(samples, key=_best_first):
        table.add_row(*_scored(row), escape(row["text"]), *_executed(row.get("executed"), executed))
    return table


def _attempts(turns: Sequence[dict[str, Any]], title: str) -> Table:
    """Whole attempts, or passes over an expert's trajectory, turn by turn."""
    seen = any("observation" in row for row in turns)
    table = Table("attempt", "turn", "reward", "format error", title=title)
    for name in (*(["after it had seen"] if seen else []), "answer"):
        table.add_column(name)
    for row in sorted(turns, key=_best_first):
        who, before = str(row["episode"]), shortened(row.get("observation") or "(nothing)")
        if row["turn"] == 1:
            who, before = f"{who}: {row['end']}" if seen else who, "(the issue)"
            table.add_section()
        cells = [escape(before)] if seen else []
        table.add_row(who, str(row["turn"]), *_scored(row), *cells, escape(row["text"]))
    return table


def _best_first(row: Mapping[str, Any]) -> float:
    return -(row["reward"] or 0)


def _scored(row: Mapping[str, Any]) -> tuple[str, str]:
    return "none" if row["reward"] is None else f"{row['reward']:.3f}", row["format_error"] or ""


def _with_turns(run: Path, update: int, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of attempts with their turn, from 1; and, where the attempts are kept, what it was asked after.

    A step's attempts are kept in the order of their rows (`train/kept.py`).
    """
    attempts: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if "episode" in row:
            attempts[row["stage"], row["draw"], row["episode"]].append(row)
    kept = {stage: _episodes(run, stage, update) for stage in {stage for stage, _, _ in attempts}}
    for (stage, _, _), turns in attempts.items():
        episode = next(kept[stage], None)
        for number, row in enumerate(turns, 1):
            row["turn"] = number
            if episode is not None:
                before = episode["turns"][number - 2]["observation"] if number > 1 else None
                row |= {"end": episode["end"], "observation": before}
    return list(rows)


def _episodes(run: Path, stage: str, update: int) -> Iterator[dict[str, Any]]:
    file = run / "stages" / stage / "rollouts" / f"episodes_{update}.jsonl.zst"
    return iter(read_rows(file) if file.exists() else [])


def rollout_rows(run: Path, update: int) -> list[dict[str, Any]]:
    """All answers of one update, with their stage. Raises DataError where there are none."""
    files = _rollouts(run)
    numbers = [_number(file) for file in files]
    if update not in numbers:
        raise DataError(f"{run} has rollouts of the updates {min(numbers)} to {max(numbers)}, and none of {update}")
    here = [file for file in files if _number(file) == update]
    return [{"stage": file.parent.parent.name, **row} for file in here for row in read_rows(file)]


def _updates(run: Path) -> View:
    table = Table("stage", "updates with rollouts", title=escape(str(run)))
    by_stage: dict[str, list[int]] = defaultdict(list)
    for file in _rollouts(run):
        by_stage[file.parent.parent.name].append(_number(file))
    for stage, steps in by_stage.items():
        table.add_row(stage, f"{len(steps)}: {min(steps)} to {max(steps)}; look at one with --step N")
    return {"run": str(run), "updates": dict(by_stage)}, table


def _rollouts(run: Path) -> list[Path]:
    files = sorted(run.glob("stages/*/rollouts/step_*.jsonl.zst"), key=lambda file: (file.parts, _number(file)))
    if not files:
        raise DataError(f"{run} has no rollouts yet: an SRL stage writes stages/*/rollouts/step_N.jsonl.zst")
    return files


def _executed(executed: dict[str, Any] | None, wanted: bool) -> tuple[str, ...]:
    """The cells of what a command did, where the run executed its answers."""
    if not wanted:
        return ()
    return ("", "") if executed is None else tuple(map(escape, executed_cells(executed)))


def _experts(run: Path, step_ids: set[str]) -> dict[str, str]:
    """The experts' turns of these steps, from the data that the run was trained on; {} where that is gone."""
    path = tomllib.loads((run / "config.toml").read_text())["data"]["path"]
    if not Path(path).exists():
        return {}
    found = {}
    for trajectory in open_data(path):
        for k, turn in enumerate(trajectory.acted, 1):
            step = Step(trajectory, k)
            if step.id in step_ids:
                found[step.id] = render_completion(turn.thought, step.action)
    return found


def _number(file: Path) -> int:
    return int(file.name.split("_")[1].split(".")[0])


def _line(text: str) -> str:
    return " ⏎ ".join(text.split("\n"))[:100]
