"""What a checkpoint carries beside its weights: what it was trained on, along the whole chain, and on which prompts.

An evaluation asks it twice: how many of its instances were trained on, and how a prompt looks to this model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from swe_srl.tasks.variants import base_id, instance_of
from swe_srl.types import Task, Trajectory

FILE = "trained_on.json"


@dataclass(frozen=True, slots=True)
class Lineage:
    """`instances` are task ids, or trajectory ids where a log names no task; `prompt` is the config's table."""

    repositories: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    prompt: dict[str, Any] | None = None

    def extended(
        self, trajectories: Iterable[Trajectory], stage: str, prompt: dict[str, Any], tasks: Iterable[Task] = ()
    ) -> Lineage:
        """After one more stage, on these trajectories, or on attempts at these tasks."""
        repositories, instances = set(self.repositories), set(self.instances)
        for trajectory in trajectories:
            instances.add(instance_of(trajectory))
            if trajectory.task.repository:
                repositories.add(trajectory.task.repository)
        for task in tasks:
            instances.add(base_id(task.task_id))
            repositories.add(task.repository)
        return Lineage(tuple(sorted(repositories)), tuple(sorted(instances)), (*self.stages, stage), prompt)

    def other_prompts(self, prompt: Mapping[str, Any]) -> list[str]:
        """What was otherwise in the prompts that it was trained in, as one sets it: key=value."""
        mine = {key: value for key, value in (self.prompt or {}).items() if key in prompt and value != prompt[key]}
        return [
            f"prompt.{key}={value if isinstance(value, str) else orjson.dumps(value).decode()}"
            for key, value in mine.items()
        ]

    def as_bytes(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)


def read_lineage(checkpoint: str | Path) -> Lineage:
    """A checkpoint's own; an empty one for a model that carries none."""
    file = Path(checkpoint) / FILE
    if not file.exists():
        return Lineage()
    found = orjson.loads(file.read_bytes())
    lists = {name: tuple(found.get(name, ())) for name in ("repositories", "instances", "stages")}
    return Lineage(**lists, prompt=found.get("prompt"))
