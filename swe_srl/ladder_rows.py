"""What a ladder keeps of an arm and a seed: what its training took, its values step by step, and task by task.

`SEED/ARM/row.json` is written when the arm is trained and measured; where it is, nothing of it is done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from swe_srl.disk import write_aside
from swe_srl.evaluate.metrics import Floats, StepValues, Summary
from swe_srl.ladder_config import BASE
from swe_srl.runs import read_events

KEPT = ("similarity", "well_formed_similarity", "exact", "format_error", "context_gain")  # of metrics.MEASURES


@dataclass(frozen=True, slots=True)
class Spent:
    """What a training took. `cpu_s` is of sampling and updates, those included that a stage converged after;
    `learnt` are tokens of the updates' forward passes. `dead` is the share of groups whose rewards were alike, None
    where there were no groups. `ended`: how each stage did, and which of its checkpoints is its best;
    `best_steps`: after how many updates that is. None are known of rows that an earlier version wrote."""

    cpu_s: float = 0.0
    updates: int = 0
    sampled: int = 0
    prompts: int = 0
    learnt: int = 0
    dead: float | None = None
    ended: tuple[str, ...] = ()
    best_steps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """An arm of a seed. `steps` by mode; `tasks`: task → share of its attempts that resolved it, those that were lost
    to infrastructure left out; `requested` tasks were asked for."""

    arm: str
    seed: int
    asked: str
    checkpoint: str
    spent: Spent
    floor: tuple[str, float]
    steps: Mapping[str, StepValues]
    tasks: Mapping[str, float]
    requested: int
    trained_on: str

    @property
    def is_base(self) -> bool:
        """Whether it has the base's weights: no stage's best checkpoint is of an update."""
        return self.arm != BASE and bool(self.spent.best_steps) and not any(self.spent.best_steps)


def spent(run: Path, result: Mapping[str, Any]) -> Spent:
    """Of a training's events, and of what it returned."""
    rows = [row for row in read_events(run) if row["kind"] in ("step", "converged")]
    drawn = [(row["frac_reward_zero_std"], row[f"{kind}/seen_groups"]) for row in rows if (kind := _kind(row))]
    groups = sum(n for _, n in drawn)
    return Spent(
        cpu_s=sum(row["time/cpu"] for row in rows),
        updates=sum(row["kind"] == "step" for row in rows),
        sampled=sum(row.get("tokens/sampled", 0) for row in rows),
        prompts=sum(row.get("tokens/prompts", 0) for row in rows),
        learnt=sum(row.get("num_tokens", 0) for row in rows),
        dead=sum(share * n for share, n in drawn) / groups if groups else None,
        ended=tuple(
            f"{stage['name']}: {stage['ended']}, best of step {stage['validation']['step']} of {stage['steps']}"
            for stage in result["stages"]
        ),
        best_steps=tuple(stage["validation"]["step"] for stage in result["stages"]),
    )


def _kind(row: Mapping[str, Any]) -> str | None:
    return next((kind for kind in ("srl", "rlvr") if f"{kind}/seen_groups" in row), None)


def kept(summary: Summary) -> StepValues:
    """A summary's values of the measures that a ladder shows."""
    values = summary.steps
    return StepValues(values.step_ids, values.clusters, {name: values.columns[name] for name in KEPT})


def write(path: Path, row: Row) -> None:
    document = asdict(row)  # NaN is null there
    columns = {mode: {name: one.tolist() for name, one in values.columns.items()} for mode, values in row.steps.items()}
    for mode, one in columns.items():
        document["steps"][mode]["columns"] = one
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, orjson.dumps(document))


def read(path: Path) -> Row | None:
    """The row that was written there, or None."""
    if not path.exists():
        return None
    document = orjson.loads(path.read_bytes())
    lists = {name: tuple(document["spent"].get(name, ())) for name in ("ended", "best_steps")}
    document["spent"] = Spent(**document["spent"] | lists)
    document["floor"] = tuple(document["floor"])
    document["steps"] = {mode: _values(one) for mode, one in document["steps"].items()}
    return Row(**document)


def _values(document: Mapping[str, Any]) -> StepValues:
    columns = {name: _column(values) for name, values in document["columns"].items()}
    return StepValues(tuple(document["step_ids"]), tuple(document["clusters"]), columns)


def _column(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
