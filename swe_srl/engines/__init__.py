"""The seam below the policy: ids → ids with log-probabilities.

An engine samples until the model's end of turn or `max_tokens`, never until a string. Every sampling field is
explicit: a model's own `generation_config` is never inherited. Log-probabilities are those of the
distribution that was sampled: logits / T, in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from swe_srl.types import Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Request:
    """One answer wanted. `seed` alone decides its random draws, whatever shares its batch."""

    prompt_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 is greedy, its log-probabilities those of T = 1. `end_id` ends an answer, and is kept."""

    temperature: float
    max_tokens: int
    end_id: int


class Engine(Protocol):
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Tokens]:
        """Answers in the requests' order. One that does not end with `end_id` was cut by `max_tokens`."""

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take new weights by their Hugging Face names; anything cached under the old ones is dropped."""

    def rest(self) -> None:
        """No answer is wanted before the next weights come: give back memory, where the engine can."""

    def stats(self) -> dict[str, float]:
        """What was counted since the last call, under the names of a step's event."""

    def close(self) -> None:
        """Give back what the engine holds; a second call does nothing."""
