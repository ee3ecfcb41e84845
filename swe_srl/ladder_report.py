"""A ladder's report: its arms over all seeds, each beside the base and one other, and what each of them took.

How seeds are pooled: a step's value is the mean over the seeds, a task's the mean over the seeds and attempts, and
intervals draw whole tasks. So they say how far other tasks would differ, given these seeds; what another seed would
change is told by the seeds one by one, which stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import orjson

from swe_srl.disk import write_aside
from swe_srl.evaluate.grids import Grid, percent
from swe_srl.evaluate.metrics import Floats, Interval, bootstrap
from swe_srl.evaluate.rates import Paired, paired, rate
from swe_srl.ladder_config import BASE, LadderConfig
from swe_srl.ladder_rows import KEPT, Row, Spent
from swe_srl.train_config import SPENT

NAMES = {"greedy": "greedy", "t1": "T = 1", "own": "own history"}  # in the order they are shown


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean over steps or tasks with its interval, and the same of each seed alone."""

    interval: Interval
    by_seed: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        found = self.interval
        return {"value": found.value, "interval": [found.low, found.high], "by_seed": list(self.by_seed)}


@dataclass(frozen=True, slots=True)
class Against:
    """An arm minus another one, over the same steps and tasks."""

    other: str
    similarity: Mapping[str, Measured]  # by mode
    resolved: Paired | None


@dataclass(frozen=True, slots=True)
class ArmReport:
    """An arm over all seeds: `steps[mode][measure]`. `n` tasks were scored in every seed, of `requested`."""

    name: str
    rows: tuple[Row, ...]
    steps: Mapping[str, Mapping[str, Measured]]
    resolved: Measured | None
    n: int
    requested: int
    against: tuple[Against, ...]

    @property
    def spent(self) -> list[Spent]:
        return [row.spent for row in self.rows]


@dataclass(frozen=True, slots=True)
class Report:
    """All that is shown; `found` is the JSON object of the command."""

    arms: tuple[ArmReport, ...]
    grids: tuple[Grid, ...]
    found: Mapping[str, Any]


def written(config: LadderConfig, rows: Sequence[Row], seeds: Sequence[int]) -> Report:
    """ladder.json, report.md and ladder.png, over these seeds."""
    from swe_srl.ladder_plot import plot

    by_name = {name: [row for row in rows if row.arm == name] for name in (BASE, *(arm.name for arm in config.arm))}
    arms = tuple(_arm(found, [by_name[other] for other in config.against(name)]) for name, found in by_name.items())
    folder = Path(config.run)
    grids = (result_grid(arms, rows, seeds), *paired_grids(arms), cost_grid(arms, config))
    places = {"report": "ladder.json", "table": "report.md", "plot": "ladder.png"}
    found = {
        "run_dir": config.run,
        "seeds": list(seeds),
        "budget_cpu_s": config.budget_cpu_s,
        "floor": {"name": rows[0].floor[0], "similarity": rows[0].floor[1]},
        "arms": [_json(arm) for arm in arms],
        **{name: str(folder / file) for name, file in places.items()},
    }
    plot(arms, rows[0].floor, folder / places["plot"])
    text = "\n".join([f"![the same as a picture]({places['plot']})\n", *(grid.markdown() for grid in grids)])
    write_aside(folder / places["table"], text.encode())
    write_aside(folder / places["report"], orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return Report(arms, grids, found)


# ---------------------------------------------------------------------------------------------- pooling


def _arm(rows: Sequence[Row], others: Sequence[Sequence[Row]]) -> ArmReport:
    tasks = _tasks(rows)
    return ArmReport(
        name=rows[0].arm,
        rows=tuple(rows),
        steps={
            mode: {measure: found for measure in KEPT if (found := _measured(rows, mode, measure)) is not None}
            for mode in NAMES
            if mode in rows[0].steps
        },
        resolved=_rate(rows, tasks) if tasks else None,
        n=len(tasks),
        requested=rows[0].requested,
        against=tuple(_against(rows, other) for other in others),
    )


def _measured(rows: Sequence[Row], mode: str, measure: str, minus: Sequence[Row] | None = None) -> Measured | None:
    """The mean over seeds, step by step, and then over steps; less the other arm's of the same seed and step."""
    values = np.stack([_column(row, mode, measure, rows[0]) for row in rows])
    if minus is not None:
        values = values - np.stack([_column(row, mode, measure, rows[0]) for row in minus])
    there = np.isfinite(values).all(axis=0)
    pooled = np.where(there, np.where(there, values, 0.0).mean(axis=0), np.nan)
    interval = bootstrap(pooled, rows[0].steps[mode].clusters, seed=0)
    return None if interval is None else Measured(interval, tuple(float(one[there].mean()) for one in values))


def _column(row: Row, mode: str, measure: str, like: Row) -> Floats:
    """A row's values in the order of another's steps."""
    place = {step_id: i for i, step_id in enumerate(row.steps[mode].step_ids)}
    return row.steps[mode].columns[measure][[place[step_id] for step_id in like.steps[mode].step_ids]]


def _tasks(rows: Sequence[Row]) -> dict[str, float]:
    """Task → its mean over seeds; those alone that were scored in every seed."""
    return {
        task: fmean(row.tasks[task] for row in rows) for task in rows[0].tasks if all(task in r.tasks for r in rows)
    }


def _rate(rows: Sequence[Row], tasks: Mapping[str, float]) -> Measured:
    return Measured(rate(list(tasks.values())), tuple(fmean(row.tasks[task] for task in tasks) for row in rows))


def _against(rows: Sequence[Row], others: Sequence[Row]) -> Against:
    differences = {mode: _measured(rows, mode, "similarity", others) for mode in NAMES if mode in rows[0].steps}
    before, after = _tasks(others), _tasks(rows)
    return Against(
        others[0].arm,
        {mode: found for mode, found in differences.items() if found is not None},
        paired(before, after) if before.keys() & after.keys() else None,
    )


# ----------------------------------------------------------------------------------------------- tables


def result_grid(arms: Sequence[ArmReport], rows: Sequence[Row], seeds: Sequence[int]) -> Grid:
    modes = list(arms[0].steps)
    sampled = "t1" if "t1" in modes else modes[0]
    columns = (
        "arm",
        *(f"similarity, {NAMES[mode]}" for mode in modes),
        *(f"{NAMES[sampled]}: context gain", "format errors"),
    )
    cells = []
    for arm in arms:
        shown = [str(arm.steps[mode]["similarity"].interval) for mode in modes]
        gain = arm.steps[sampled].get("context_gain")
        shown.append(f"{gain.interval.value:+.3f}" if gain else "")
        shown.append(f"{arm.steps[sampled]['format_error'].interval.value:.3f}")
        shown.append("" if arm.resolved is None else percent(arm.resolved.interval))
        shown.append("" if arm.resolved is None else f"{arm.n} of {arm.requested}")
        cells.append((arm.name + _same(arm.rows), *shown))
    values = rows[0].steps[modes[0]]
    name, floor = rows[0].floor
    caption = (
        f"{len(values.step_ids)} steps of {len(set(values.clusters))} held-out tasks; the best floor there, {name}, "
        f"has {floor:.3f}. {_seeds(seeds)} Attempts: {arms[-1].rows[-1].trained_on or 'none'}."
    )
    if any(row.is_base for row in rows):
        caption += " = base: by validation nothing that it learnt was better than the base, so it is the base."
    return Grid("The ladder on held-out steps and tasks", (*columns, "resolved", "tasks scored"), tuple(cells), caption)


def _same(rows: Sequence[Row]) -> str:
    """What says that an arm's numbers are the base's because its weights are, in all seeds or in some."""
    seeds = [str(row.seed) for row in rows if row.is_base]
    if not seeds:
        return ""
    return " = base" if len(seeds) == len(rows) else f" (seed {', '.join(seeds)} = base)"


def _seeds(seeds: Sequence[int]) -> str:
    named = ", ".join(map(str, seeds))
    if len(seeds) == 1:
        return f"Seed {named} alone; 95% intervals over tasks."
    return f"Means over seeds {named}; 95% intervals over tasks, given these seeds."


def paired_grids(arms: Sequence[ArmReport]) -> list[Grid]:
    """Each arm minus the base, and minus its other; nothing where there is only a base."""
    modes = list(arms[0].steps)
    cells = [
        (f"{arm.name} minus {one.other}", *(_signed(one.similarity[mode]) for mode in modes), *_flips(one.resolved))
        for arm in arms
        for one in arm.against
    ]
    columns = (
        "difference",
        *(f"similarity, {NAMES[mode]}" for mode in modes),
        "resolved, points",
        "gained : lost",
        "p",
    )
    seeds = "; in parentheses each seed's own difference" if len(arms[0].rows) > 1 else ""
    caption = (
        f"Paired by step and by task{seeds}. p is of the exact sign test over tasks whose share of resolved attempts "
        "differs."
    )
    return [Grid("Paired differences", columns, tuple(cells), caption)] if cells else []


def _signed(found: Measured) -> str:
    one = found.interval
    seeds = f" ({', '.join(f'{value:+.3f}' for value in found.by_seed)})" if len(found.by_seed) > 1 else ""
    return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]{seeds}"


def _flips(found: Paired | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    low, high = 100 * found.difference.low, 100 * found.difference.high
    points = f"{100 * found.difference.value:+.1f} [{low:+.1f}, {high:+.1f}]"
    return points, f"{len(found.gained)} : {len(found.lost)}", f"{found.p:.2g}"


def cost_grid(arms: Sequence[ArmReport], config: LadderConfig) -> Grid:
    """What training took, means over seeds."""
    cells = []
    for arm in arms:
        costs = arm.spent
        dead = [one.dead for one in costs if one.dead is not None]
        tokens = (f"{fmean(getattr(one, name) for one in costs):,.0f}" for name in ("sampled", "prompts", "learnt"))
        ends = " / ".join(dict.fromkeys("; ".join(one.ended) for one in costs)).replace(f" {SPENT},", "")
        share = f"{fmean(dead):.1%}" if dead else ""
        updates = f"{fmean(one.updates for one in costs):.0f}"
        cells.append((arm.name, f"{fmean(one.cpu_s for one in costs):,.0f}", updates, *tokens, share, ends))
    columns = ("arm", "CPU s", "updates", "tokens sampled", "in prompts", "in updates", "dead groups", "how it ended")
    caption = (
        f"Budget: {config.budget_cpu_s:,.0f} CPU seconds an arm, after the base, of this process's sampling and "
        "updates; sandboxes' commands, grading in them and validation are not counted. An update that is begun is "
        "ended. Means over seeds; tokens in updates are those of the forward passes, shared prefixes "
        "once; a dead group is one whose rewards are alike. How it ended, if not by its CPU seconds, and of which step "
        "the checkpoint is; seeds by strokes."
    )
    return Grid("What training took", columns, tuple(cells), caption)


# ------------------------------------------------------------------------------------------------ as JSON


def _json(arm: ArmReport) -> dict[str, Any]:
    resolved = None if arm.resolved is None else {"n": arm.n, "requested": arm.requested, **arm.resolved.as_json()}
    return {
        "name": arm.name,
        "checkpoints": [row.checkpoint for row in arm.rows],
        "steps": {mode: {name: one.as_json() for name, one in found.items()} for mode, found in arm.steps.items()},
        "resolved": resolved,
        "trained_on": [row.trained_on for row in arm.rows],
        "spent": [_spent(one) for one in arm.spent],
        "against": {
            one.other: {
                "similarity": {mode: found.as_json() for mode, found in one.similarity.items()},
                "resolved": None if one.resolved is None else one.resolved.as_json(),
            }
            for one in arm.against
        },
    }


def _spent(one: Spent) -> dict[str, Any]:
    tokens = {"sampled": one.sampled, "prompts": one.prompts, "updates": one.learnt}
    return {
        "cpu_s": one.cpu_s,
        "updates": one.updates,
        "tokens": tokens,
        "dead_groups": one.dead,
        "ended": list(one.ended),
        "best_steps": list(one.best_steps),
    }
