"""How close a proposed action is to the expert's: the paper's reward (§4.2), and nothing of the thought.

    r = 2M / T   M = total length of the matching blocks that difflib finds, T = sum of both lengths
    r = −1       where the completion does not follow the format

`cydifflib` computes the same floats as `difflib.SequenceMatcher(None, proposed, expert, autojunk=False)`
an order of magnitude quicker. The ratio is not symmetric: the proposed text comes first, always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cydifflib import SequenceMatcher

from swe_srl.actions import canonical, parse_call, parse_completion, without_thought
from swe_srl.errors import DataError, FormatError
from swe_srl.types import Action, Score

FORMAT_PENALTY = -1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A completion's text beside the expert's action: all that a step-wise reward may look at."""

    text: str
    truncated: bool
    expert: Action


Reward = Callable[[Attempt], Score]


def similarity(proposed: str, expert: str) -> float:
    """2M/T of two texts, in 0…1; 1.0 for two empty ones. Quadratic in length at worst."""
    return float(SequenceMatcher(None, proposed, expert, autojunk=False).ratio())


def similarity_reward(attempt: Attempt) -> Score:
    """The paper's step reward, on canonical texts. `parts` is empty for a format error."""
    try:
        _, action = parse_completion(attempt.text, truncated=attempt.truncated)
    except FormatError as error:
        return Score(FORMAT_PENALTY, {}, error.reason)
    value = similarity(canonical(action), canonical(attempt.expert))
    return Score(value, {"similarity": value, "same_tool": float(action.tool == attempt.expert.tool)})


REWARDS: dict[str, Reward] = {"similarity": similarity_reward}


def score_files(expert: Path, proposed: Path) -> dict[str, Any]:
    """The JSON object of `swe-srl score`. A think block before the expert's call is ignored.

    Raises DataError for a file that cannot be read, or an expert's file that holds no call.
    """
    text, answer = _read(expert), _read(proposed)
    try:
        action = parse_call(without_thought(text))
    except FormatError as error:
        raise DataError(f"{expert}: {error}. Expected one call: <function=NAME> … </function>") from None
    score = similarity_reward(Attempt(answer, False, action))
    found = {"reward": score.value, "parts": dict(score.parts), "format_error": score.format_error}
    try:
        parse_completion(answer)
    except FormatError as error:
        found["detail"] = str(error)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()  # line ends as they are: they are content
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from None


class Scorer:
    """Scores attempts, beside the generation of the next ones when `workers` > 0.

    Use as a context manager; `start` returns at once with a future when there are workers.
    """

    def __init__(self, kind: str = "similarity", workers: int = 0) -> None:
        self._reward = REWARDS[kind]
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers else None

    def start(self, attempts: Sequence[Attempt]) -> Future[list[Score]]:
        if self._pool is not None:
            return self._pool.submit(_score_all, self._reward, attempts)
        done: Future[list[Score]] = Future()
        done.set_result(_score_all(self._reward, attempts))
        return done

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _score_all(reward: Reward, attempts: Sequence[Attempt]) -> list[Score]:
    return [reward(attempt) for attempt in attempts]
