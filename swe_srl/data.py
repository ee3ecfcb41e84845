"""DATA → trajectories and their steps by split, as training, evaluation and `inspect` all see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from swe_srl.config import DataConfig
from swe_srl.errors import DataError
from swe_srl.ingest import open_data
from swe_srl.steps import SPLITS, StepFilter, StepSet, split, step_set
from swe_srl.types import Trajectory

_SPLIT_SEED = 0  # the same split for every seed of a run: seeds differ in what is sampled, not in what is held out


@dataclass(frozen=True, slots=True)
class Dataset:
    """Steps by split. `skipped` counts, by reason, the actions that are no target.

    `positions` are the trajectories by split, whether or not a step of theirs was kept.
    """

    trajectories: Sequence[Trajectory]
    positions: dict[str, list[int]]
    splits: dict[str, StepSet]
    skipped: Counter[str]


def load_dataset(config: DataConfig) -> Dataset:
    """Read, filter and split. Raises DataError where a named repository is not there, or nothing is left."""
    trajectories = open_data(config.path)
    positions = split(trajectories, validation=config.validation, test=config.test, seed=_SPLIT_SEED)
    keep = StepFilter(config.resolved_only, tuple(config.tools), config.include_last)
    skipped: Counter[str] = Counter()
    splits = {name: step_set(trajectories, positions[name], keep, skipped) for name in SPLITS}
    return Dataset(trajectories, positions, splits, skipped)


def require(dataset: Dataset, name: str, path: str) -> StepSet:
    """A split that must not be empty. Raises DataError, with what was left out and why."""
    steps = dataset.splits[name]
    if not len(steps):
        reasons = ", ".join(f"{reason} ({n})" for reason, n in dataset.skipped.most_common(5)) or "nothing left out"
        sizes = ", ".join(f"{split} {len(steps)}" for split, steps in dataset.splits.items())
        raise DataError(
            f"{path}: no {name} steps (steps by split: {sizes}; left out: {reasons}). Change data.validation and "
            "data.test (a share, or a list of repositories), or the filters under [data]"
        )
    return steps
