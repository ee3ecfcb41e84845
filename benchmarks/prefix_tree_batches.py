"""What is learnt from at once: made runs, and runs of data; and how much of it has to be computed.

A made run has N steps: issue 300 tokens, a command and its observation 240, an answer 120, all of random ids. Of data,
prompts and answers are rendered as in training. A policy's answers are not there, so the G answers of a step are the
expert's and those of G − 1 other steps, drawn by a seed: their lengths are real, and all differ.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swe_srl.render import Renderer
    from swe_srl.train.tree import Strand
    from swe_srl.types import Step, Trajectory

VOCABULARY, LAYERS, WIDTH, INNER, HEADS, KV_HEADS = 1024, 4, 256, 688, 4, 2
ISSUE, PAIR, ANSWER, GROUP = 300, 240, 120, 8
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups of answers: (prompt, its answers). `window` is None where prompts hold the full history."""

    name: str
    window: int | None
    groups: list[tuple[Ids, list[Ids]]]

    def strands(self) -> list[list[Strand]]:
        """By group, each with its slots."""
        from swe_srl.train.tree import Strand

        found: list[list[Strand]] = []
        slot = 0
        for prompt, answers in self.groups:
            found.append([])
            for answer in answers:
                found[-1].append(Strand(prompt, answer, slot))
                slot += len(answer)
        return found


# ------------------------------------------------------------------------------------ what has to be computed


def work(batch: Batch) -> tuple[float, float]:
    """Multiplications in a layer of separate sequences, and of the trie: matrices by tokens, attention by pairs."""
    from swe_srl.train.tree import grow

    matrices = 2 * WIDTH * WIDTH * (1 + KV_HEADS / HEADS) + 3 * WIDTH * INNER
    lengths = [len(strand.inputs) for group in batch.strands() for strand in group]
    tree = grow(strand for group in batch.strands() for strand in group)
    pairs = sum(n * (n + 1) / 2 for n in lengths), sum(depth + 1 for depth in tree.depth)
    alone, shared = (n * matrices + 2 * WIDTH * p for n, p in zip((sum(lengths), len(tree.ids)), pairs, strict=True))
    return alone, shared


# --------------------------------------------------------------------------------------------------- made


def made(steps: int, window: int | None, prompt: int) -> Batch:
    rng = random.Random(0)

    def ids(n: int) -> Ids:
        return tuple(rng.randrange(VOCABULARY) for _ in range(n))

    issue, history, groups = ids(prompt or ISSUE), list[Ids](), list[tuple[Ids, list[Ids]]]()
    for _ in range(steps):
        shown = history if window is None else history[len(history) - min(window, len(history)) :]
        start = (*issue, *(token for part in shown for token in part))
        groups.append((start, [ids(ANSWER) for _ in range(GROUP)]))
        history.append(ids(PAIR))
    return Batch(f"P = {prompt}, N = {steps}" if prompt else f"N = {steps}", window, groups)


# ------------------------------------------------------------------------------------------------- of data


@dataclass(frozen=True, slots=True)
class Data:
    """The steps of logs, and the tokenizer that they are rendered with."""

    steps: Sequence[Step]
    tokenizer: Any
    observation_tokens: int

    def whole_runs(self, count: int, window: int | None) -> Iterator[Batch]:
        """Every step of a run: runs that lie evenly among all when ordered by their number of steps."""
        runs: dict[str, list[Step]] = {}
        for step in self.steps:
            runs.setdefault(step.trajectory.id, []).append(step)
        ordered = sorted(runs.values(), key=lambda run: (len(run), run[0].trajectory.id))
        for n in range(count):
            run = ordered[(2 * n + 1) * len(ordered) // (2 * count)]
            yield self._batch(f"a run of {len(run)}", run, window)

    def drawn(self, count: int, window: int | None) -> Batch:
        """Steps of any runs, as training draws them."""
        return self._batch(f"{count} steps drawn", random.Random(0).sample(self.steps, count), window)

    def _batch(self, name: str, steps: Sequence[Step], window: int | None) -> Batch:
        from swe_srl.prompts import PromptSettings
        from swe_srl.render import Renderer

        settings = PromptSettings(window, observation_tokens=self.observation_tokens)
        renderer, rng = Renderer(self.tokenizer, settings), random.Random(0)
        groups = []
        for step in steps:
            answered = [step, *rng.sample(self.steps, GROUP - 1)]
            prompt = renderer.prompt_ids(step.trajectory.issue, step.history)
            groups.append((_folded(prompt), [_answer(renderer, one) for one in answered]))
        return Batch(name, window, groups)


def _answer(renderer: Renderer, step: Step) -> Ids:
    return _folded(renderer.target_ids(step.expert.thought, step.action))


def _folded(ids: Sequence[int]) -> Ids:
    """Which ids they are changes nothing of what is shared: with few, any tokenizer can be had for one network."""
    return tuple(id % VOCABULARY for id in ids)


def read(path: str, tokenizer: str | None, observation_tokens: int) -> Data:
    """DATA, with a tokenizer's folder, or one that is learnt from the logs as training does where no model is named."""
    from swe_srl.ingest import open_data
    from swe_srl.steps import StepFilter, step_set
    from swe_srl.train.model import load_tokenizer

    trajectories = open_data(path)
    steps = step_set(trajectories, range(len(trajectories)), StepFilter(), Counter())
    if tokenizer is not None:
        return Data(steps, load_tokenizer(tokenizer), observation_tokens)
    with tempfile.TemporaryDirectory() as folder:
        return Data(steps, _learnt(trajectories, Path(folder)), observation_tokens)


def _learnt(trajectories: Sequence[Trajectory], folder: Path) -> Any:
    from swe_srl.config import Scratch
    from swe_srl.train.model import build_scratch, load_tokenizer

    turns = (turn for trajectory in trajectories for turn in trajectory.turns)
    texts = (text for turn in turns for text in (turn.thought, *_values(turn.action), turn.observation or ""))
    build_scratch(texts, Scratch(vocabulary=VOCABULARY), 0, folder)
    return load_tokenizer(str(folder))


def _values(action: Any) -> Sequence[str]:
    return list(action.arguments.values()) if action else []
