"""`srl.execute`: what the policy's commands would really have done, beside the expert's.

Each answer of a drawn group runs in a fork of the sandbox at its step. It runs beside the update, and nothing of
it reaches the update: rewards, draws and weights are the same with it and without. Only the rollouts' rows have more.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from swe_srl.config import LiveSandbox
from swe_srl.errors import DataError, SandboxError
from swe_srl.live import Branch, Unopenable, at_step, run_distinct, task_of
from swe_srl.live_view import Settings, working
from swe_srl.steps import StepSet
from swe_srl.train.measure import action_of
from swe_srl.types import Group, Step

ROW_CHARS = 8 * 1024  # of an output or a patch: an update has thousands of rows


@dataclass(frozen=True, slots=True)
class Execution:
    """A group's: the JSON of the expert's branch, and of each sample's; None for one without an action."""

    expert: dict[str, Any]
    samples: tuple[dict[str, Any] | None, ...]


Executed = Mapping[int, Execution]  # draw → what its commands did


def usable(sandbox: LiveSandbox, train: StepSet, path: str) -> Settings:
    """Where a training's answers will run, tried once. Raises ConfigError and DataError where they could not."""
    settings = working(sandbox, "execute = true")
    reasons = Counter[str]()
    for position in dict.fromkeys(position for position, _ in train.references):
        try:
            task_of(train.trajectories[position], settings.suite)
        except Unopenable as error:
            reasons[str(error)] += 1
        else:
            return settings
    told = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(4))
    raise DataError(f"execute = true, but no training trajectory of {path} has a task that can be opened ({told})")


class Executor:
    """Executes groups by `settings.workers` threads, one group a thread. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.workers)

    def start(self, groups: Sequence[tuple[Step, Group]]) -> Callable[[], Executed]:
        """Begin with these, and return what waits for them. Nothing that a sandbox does raises: it is in the rows."""
        futures: dict[int, Future[Execution]] = {
            group.draw: self._pool.submit(_execute, step, group, self._settings) for step, group in groups
        }

        def wait() -> Executed:
            found = {draw: future.result() for draw, future in futures.items()}
            _tell(found)
            return found

        return wait

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _execute(step: Step, group: Group, settings: Settings) -> Execution:
    """The expert's command and every answer's, one after another, equal ones once."""
    proposed = [action_of(sample) for sample in group.samples]
    actions = [step.action, *(action for action in proposed if action is not None)]
    try:
        with at_step(step, settings.kind, suite=settings.suite, timeout_s=settings.timeout_s) as sandbox:
            branches = run_distinct(sandbox, actions, settings.timeout_s, workers=1)
    except (Unopenable, SandboxError, OSError) as error:
        branches = [Branch(action, error=str(error)) for action in actions]
    expert, *rest = (branch.as_json(ROW_CHARS) for branch in branches)
    answers = iter(rest)
    return Execution(expert, tuple(None if action is None else next(answers) for action in proposed))


def _tell(found: Executed) -> None:
    """A line on stderr where commands could not be executed: silence would look like success."""
    every = [one for execution in found.values() for one in execution.samples if one is not None]
    lost = Counter(one["error"] for one in every if one["error"] is not None)
    if lost:
        reason, _ = lost.most_common(1)[0]
        print(f"{lost.total()} of {len(every)} commands were not executed to the end: {reason}", file=sys.stderr)
