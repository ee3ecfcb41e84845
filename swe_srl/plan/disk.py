"""What a training's folder comes to: checkpoints that are kept, and the state that it goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swe_srl.plan.memory import ADAM, FLOAT32
from swe_srl.plan.shape import Shape


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes. `checkpoint` is a Hugging Face folder, `state` weights and Adam's moments; `peak` while one is written."""

    checkpoint: int
    state: int
    kept: int
    peak: int
    how: str


def disk(shape: Shape, keep_last: Sequence[int]) -> Disk:
    """Of a chain of stages, by how many checkpoints each keeps beside its best one."""
    adapter = FLOAT32 * shape.adapter
    checkpoint = FLOAT32 * shape.parameters + adapter
    state = (FLOAT32 + ADAM) * shape.trained
    kept = sum((keep + 1) * checkpoint + state for keep in keep_last)
    how = (
        f"a checkpoint {FLOAT32} B × {shape.parameters:,}"
        + (f" and its adapter {FLOAT32} B × {shape.adapter:,}" if adapter else "")
        + f", a state {FLOAT32 + ADAM} B × {shape.trained:,}; by stage the best, the last "
        + f"{', '.join(map(str, keep_last))} and one state; one of each more while they are written"
    )
    return Disk(checkpoint, state, kept, kept + checkpoint + state, how)
