"""Groups that another run has drawn (`rollouts.from`): the same answers with the same rewards, learnt from in order.

What a run keeps of its answers is all that an update needs, but for the prompts: they are rendered again from the logs.
So a change of the objective, of the batch's shares or of the hardware is compared on equal batches, without sampling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from swe_srl.errors import DataError
from swe_srl.render import Renderer
from swe_srl.runs import read_rows
from swe_srl.train.sources import Cursor, teaches
from swe_srl.train_config import SrlStage
from swe_srl.types import Group, Sample, Score, Step, Tokens


@dataclass(slots=True)
class RecordedSource:
    """The groups of the stage of the same name in another run, an update's at a time."""

    run: Path
    steps: Sequence[Step]
    renderer: Renderer
    stage: SrlStage
    folder: Path = field(init=False)
    _by_id: Mapping[str, Step] = field(init=False)

    def __post_init__(self) -> None:
        """Raises DataError where the run has no such stage, or none of its answers."""
        found = sorted(self.run.glob(f"stages/*-{self.stage.name}/rollouts"))
        if not found or not self._file(found[0], 0).exists():
            stages = ", ".join(path.name for path in sorted(self.run.glob("stages/*"))) or "none"
            raise DataError(
                f"rollouts.from: {self.run} has no answers of a stage {self.stage.name!r}; its stages are {stages}. "
                "Name this run's stage as that one's"
            )
        self.folder = found[0]
        self._by_id = {step.id: step for step in self.steps}

    @property
    def updates(self) -> int:
        """How many there are, one after another from the first."""
        n = 0
        while self._file(self.folder, n).exists():
            n += 1
        return n

    def is_live(self, group: Group) -> bool:
        return teaches(group, self.stage)

    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        """All that the update saw, in draw order; the cursor is where it saw them."""
        path = self._file(self.folder, update)
        for draw, of_group in groupby(read_rows(path), key=lambda row: row["draw"]):
            rows = list(of_group)
            prompt = self._prompt(path, rows[0])
            samples = [
                Sample(
                    Tokens(prompt, tuple(row["ids"]), tuple(row["logps"])),
                    Score(row["reward"], row["parts"], row["format_error"]),
                    row["text"],
                )
                for row in rows
            ]
            yield Group(rows[0]["step_id"], draw, tuple(samples), rows[0].get("went"))

    def _prompt(self, path: Path, row: Mapping[str, Any]) -> tuple[int, ...]:
        """Raises DataError for an answer that is not to these logs, or in another tokenizer's ids."""
        if self.renderer.decode(row["ids"]) != row["text"]:
            raise DataError(f"{path}: the ids are another tokenizer's; take the model that the run began with")
        if "prompt_ids" in row:  # after the policy's own history, which no log holds
            return tuple(row["prompt_ids"])
        step = self._by_id.get(row["step_id"])
        if step is None:
            raise DataError(f"{path}: data.path has no training step {row['step_id']}; take the logs of that run")
        return self.renderer.prompt_ids(step.trajectory.issue, step.history)

    @staticmethod
    def _file(folder: Path, update: int) -> Path:
        return folder / f"step_{update + 1}.jsonl.zst"
