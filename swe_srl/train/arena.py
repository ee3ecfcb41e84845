"""What RLVR's attempts are made at, and where: a config's tasks by what data holds out, sandboxes, graders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from swe_srl.agent_config import GradeConfig, ImagesConfig, Limits, TasksConfig
from swe_srl.config import TrainSandbox
from swe_srl.data import Dataset
from swe_srl.errors import ConfigError, DataError
from swe_srl.evaluate.trained_on import plain
from swe_srl.places import placed
from swe_srl.sandboxes.choice import working
from swe_srl.steps import SPLITS
from swe_srl.tasks import load
from swe_srl.tasks.variants import base_id
from swe_srl.train_config import TrainConfig
from swe_srl.types import Task


@dataclass(frozen=True, slots=True)
class Tasks:
    """A config's, by what data's splits hold out: a task of a held-out repository is never learnt from."""

    train: list[Task]
    validation: list[Task]

    @classmethod
    def of(cls, config: TrainConfig, dataset: Dataset) -> Tasks:
        """Raises ConfigError and DataError, also where nothing is left to learn from, or to validate on."""
        found: dict[str, list[Task]] = {name: [] for name in SPLITS}
        held_out = {name: _held_out(dataset, name) for name in ("test", "validation")}
        for name, asked in (("test", config.data.test), ("validation", config.data.validation)):
            held_out[name] |= set() if isinstance(asked, int | float) else set(map(plain, asked))
        for task in load(config.tasks or TasksConfig()):
            names = {plain(task.repository), base_id(task.task_id)}
            found[next((name for name, known in held_out.items() if names & known), "train")].append(task)
        sizes = ", ".join(f"{name} {len(tasks)}" for name, tasks in found.items())
        if not found["train"]:
            raise DataError(f"[tasks]: every task is of a repository that [data] holds out ({sizes})")
        if not found["validation"] and any(stage.metric == "resolved" for stage in config.stage):
            raise ConfigError(
                f'metric = "resolved" is of tasks of the repositories in data.validation: [tasks] has none ({sizes})'
            )
        print(f"tasks by the repositories that [data] holds out: {sizes}", file=sys.stderr)
        return cls(found["train"], found["validation"])


def _held_out(dataset: Dataset, split: str) -> set[str]:
    """The repositories and the instances of a split, those too of which no step was kept."""
    links = [dataset.trajectories[position].task for position in dataset.positions[split]]
    names = {plain(link.repository) for link in links if link.repository}
    return names | {base_id(link.task_id) for link in links if link.task_id}


@dataclass(frozen=True, slots=True)
class Arena:
    """Where attempts are made and graded."""

    sandbox: TrainSandbox  # of a kind that works
    limits: Limits
    grading: GradeConfig
    pull: bool

    @classmethod
    def of(cls, config: TrainConfig, tasks: Sequence[Task], ranks: int = 1) -> Arena:
        """A config's, tried once; absent images are pulled. Raises ConfigError."""
        sandbox, images = config.sandbox or TrainSandbox(), config.images or ImagesConfig()
        limits, grading = config.rollout or Limits(), config.grade or GradeConfig()
        with placed(sandbox, tasks, working) as place:
            if sandbox.fleet is not None and ranks > 1:
                _refuse_too_few_rooms(ranks, limits.workers + grading.workers)
            place.ahead(tasks, prune=False, pull=images.pull)
            sandbox = sandbox.model_copy(update={"kind": place.kind})
        return cls(sandbox, limits, grading, images.pull)


def _refuse_too_few_rooms(ranks: int, each: int) -> None:
    """A rank keeps the rooms that it has: another one would wait for them for ever. Raises ConfigError."""
    from swe_srl.fleet.nodes import SLOT, nodes

    there = sum(int(row["Resources"][SLOT]) for row in nodes().values())
    if there < ranks * each:
        raise ConfigError(
            f"each of {ranks} ranks keeps up to {each} sandboxes of the fleet (rollout.workers + grade.workers), and "
            f"its nodes have room for {there}: lower these, or start more nodes"
        )
