"""Whether a checkpoint has seen what it is evaluated on: by instance, and by repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swe_srl.lineage import Lineage
from swe_srl.tasks.variants import base_id
from swe_srl.types import Task


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """`instances` of the `evaluated` tasks were trained on; `neighbours` are others of a repository that was.

    `known` is False for a model that carries no list: a served one, or one from elsewhere.
    """

    evaluated: int
    instances: tuple[str, ...]
    neighbours: int
    repositories: tuple[str, ...]
    stages: tuple[str, ...]
    known: bool

    @property
    def words(self) -> str:
        """What every table says."""
        told = f"trained on {len(self.instances)} of {self.evaluated}"
        if not self.known:
            return f"{told} as far as is known: it carries no list"
        if self.neighbours:
            told += f", and on the repositories of {self.neighbours} more ({', '.join(self.repositories)})"
        return told

    def as_json(self) -> dict[str, Any]:
        """The keys of the offline evaluation, and which instances."""
        return {
            "words": self.words,
            "evaluated": self.evaluated,
            "evaluated_and_trained_on": len(self.instances),
            "instances": list(self.instances),
            "of_trained_repositories": self.neighbours,
            "repositories": list(self.repositories),
            "stages": list(self.stages),
            "known": self.known,
        }


def trained_on(carried: Lineage | None, tasks: Sequence[Task]) -> TrainedOn:
    """How many of the tasks a lineage holds; None: nobody knows. A variant of a task is that task."""
    lineage = carried or Lineage()
    seen = {base_id(instance) for instance in lineage.instances}
    repositories = {plain(repository): repository for repository in lineage.repositories}
    # A log that names no repository names it in its instance: pallets__flask-5014.
    repositories |= {
        plain(name): name for name in map(_repository_of, seen) if name and plain(name) not in repositories
    }
    instances = tuple(task.task_id for task in tasks if base_id(task.task_id) in seen)
    others = [task for task in tasks if base_id(task.task_id) not in seen and plain(task.repository) in repositories]
    return TrainedOn(
        evaluated=len(tasks),
        instances=instances,
        neighbours=len(others),
        repositories=tuple(sorted({task.repository for task in others})),
        stages=lineage.stages,
        known=carried is not None,
    )


def _repository_of(instance: str) -> str:
    """ "pallets__flask-5014" → "pallets/flask"; "" for an id of another form."""
    owner, mark, rest = instance.partition("__")
    return f"{owner}/{rest.rpartition('-')[0]}" if mark and "-" in rest else ""


def plain(repository: str) -> str:
    """A repository as logs variously name it: owner/name, owner__name."""
    return repository.replace("__", "/").lower()
