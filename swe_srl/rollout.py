"""The agent loop, on one screen: attempts at tasks, each a plain loop in a thread of its own, sharing one policy.

    for episode in rollout(policy, jobs, opened, limits, command_timeout_s=30, seed=0):
        append(path, episode)

Their next turns are answered in waves (`waves.py`), their commands run side by side. What a policy does depends on
(seed, task, sample, turn) alone: not on how many attempts there are, nor on which of them is faster.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING

from swe_srl.actions import parse_completion, thought_of
from swe_srl.cpu import CpuMeter
from swe_srl.episodes import Cost, End, Episode, as_trajectory
from swe_srl.errors import ContextError, FormatError, SandboxError, SweSrlError
from swe_srl.live import readable
from swe_srl.policies import Policy, State, seed_of
from swe_srl.sandboxes import Sandbox, changes
from swe_srl.sandboxes.held import Held
from swe_srl.sandboxes.leased import leased
from swe_srl.tools import SUBMIT, execute
from swe_srl.tries import Tries
from swe_srl.types import Completion, Task, Turn
from swe_srl.waves import Stopped, Waves

if TYPE_CHECKING:
    from swe_srl.agent_config import Limits

Opened = Callable[[Task], AbstractContextManager[Sandbox]]

REFUSED = "That answer was not executed: {}. Reason inside <think> and </think>, then make exactly one call."
_ALIVE_S = 20.0  # for a command that does nothing, in a sandbox whose repository is broken
_STOP_S = 30.0  # that threads have to end in when a run is left early


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt to be made: the `sample`-th at a task, from 0."""

    task: Task
    sample: int


def rollout(
    policy: Policy,
    jobs: Sequence[Job],
    opened: Opened,
    limits: Limits,
    command_timeout_s: float,
    seed: int,
    meter: CpuMeter | None = None,
    calls: int = 1,
    ended: Callable[[Episode], object] = lambda episode: None,
) -> Generator[Episode]:
    """Make all attempts, `limits.workers` at a time, and yield each as an episode when it ends.

    `calls` of the policy may be under way at a time: one for an engine, which gains by large batches (`waves.py`).
    A slow consumer holds nobody; `ended` is told of each episode first, in the attempt's own thread. Nothing that a
    sandbox or a policy's answer does is raised: it is how an episode ends. Left early (an exception, Ctrl-C, a
    `break`), the open sandboxes are closed.
    """
    meter = meter or CpuMeter()
    with Waves(policy, meter, calls) as waves:
        crew = _Crew(waves, opened, limits, command_timeout_s, seed, meter, deque(jobs), ended)
        threads = [
            threading.Thread(target=crew.work, name="swe-srl-attempt", daemon=True)
            for _ in range(min(limits.workers, len(jobs)))
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in jobs:
                episode = crew.ended.get()
                if not isinstance(episode, Episode):
                    raise episode
                yield episode
        finally:
            crew.stop(threads)


@dataclass(slots=True)
class _Log:
    """An attempt so far. `refused` counts the answers in a row that were."""

    turns: list[Turn] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    refused: int = 0
    tokens: int = 0

    def add(self, turn: Turn, cost: Cost, completion: Completion) -> None:
        self.turns.append(turn)
        self.costs.append(cost)
        self.completions.append(completion)
        self.refused = self.refused + 1 if turn.action is None else 0
        self.tokens += (cost.prompt_tokens or 0) + (cost.completion_tokens or 0)


@dataclass(slots=True)
class _Crew:
    """What the threads share. Each takes the next job when it has ended one."""

    waves: Waves
    opened: Opened
    limits: Limits
    command_timeout_s: float
    seed: int
    meter: CpuMeter
    jobs: deque[Job]
    tell: Callable[[Episode], object]
    ended: SimpleQueue[Episode | BaseException] = field(default_factory=SimpleQueue)
    held: Held = field(default_factory=Held)
    stopped: bool = False

    # ------------------------------------------------------------------------------------------ the loop

    def attempt(self, job: Job, sandbox: Sandbox, log: _Log) -> End:
        """Observe, generate, parse, execute, until it is over. Raises SandboxError and PolicyError."""
        began = time.monotonic()
        while (end := self.over(log, time.monotonic() - began)) is None:
            seed = seed_of(self.seed, "episode", job.task.task_id, job.sample, len(log.turns))
            try:
                completion, generation_s = self.waves.ask(State(job.task, tuple(log.turns), seed))
            except ContextError:
                return "context too long"
            text = readable(completion.text)
            cost = cost_of(completion, generation_s)
            try:
                thought, action = parse_completion(text, truncated=completion.truncated)
            except FormatError as error:
                told = Turn(thought_of(text), None, REFUSED.format(error))
                log.add(told, replace(cost, format_error=error.reason), completion)
                continue
            if action.tool == SUBMIT.name:  # its observation is the patch, which every end asks for
                log.add(Turn(thought, action, None), cost, completion)
                return "submitted"
            asked = time.monotonic()
            with self.meter.part("sandboxes"):
                observation = readable(execute(action, sandbox, self.command_timeout_s))
            cost = replace(cost, sandbox_s=time.monotonic() - asked)
            log.add(Turn(thought, action, observation), cost, completion)
        return end

    def over(self, log: _Log, elapsed_s: float) -> End | None:
        """Why there is no next turn. Refused answers are turns, too."""
        limits = self.limits
        if log.refused >= limits.format_errors:
            return "format errors"
        if len(log.turns) >= limits.max_steps:
            return "max steps"
        if limits.token_budget is not None and log.tokens >= limits.token_budget:
            return "token budget"
        return "wall time" if elapsed_s >= limits.wall_s else None

    # ------------------------------------------------------------------------------- its sandbox, its thread

    def tried(self, job: Job) -> Episode:
        """An attempt, again where infrastructure ended it, as often as the limits say."""
        tries = Tries(self.limits.attempts)
        while True:
            tries.begin()
            log, began = _Log(), time.monotonic()
            try:
                with leased(lambda: self.opened(job.task), self.limits.open_s, self.meter) as sandbox:
                    began = time.monotonic()
                    with self.held.keep(sandbox), self.waves.taking_part():
                        end = self.attempt(job, sandbox, log)
                    with self.meter.part("sandboxes"):
                        patch, detail = _patch(sandbox)
                    seconds = time.monotonic() - began
            except (SweSrlError, OSError) as error:
                if self.stopped:
                    raise Stopped from None
                if tries.again(error):
                    continue
                end, patch, detail = "infrastructure", None, str(error)
                seconds = time.monotonic() - began
            return _episode(job, log, end, patch, detail, seconds, tries.made)

    def work(self) -> None:
        """A thread: one job after the other."""
        with self.meter.part("harness"):
            while self.jobs:
                try:
                    job = self.jobs.popleft()
                except IndexError:  # another thread took the last one
                    return
                try:
                    self.tell(episode := self.tried(job))
                    self.ended.put(episode)
                except Stopped:
                    return
                except BaseException as error:  # a defect of ours: raised to whom it may concern
                    self.ended.put(error)
                    return

    def stop(self, threads: Sequence[threading.Thread]) -> None:
        """Begin nothing more, and let go of what is under way: a command ends when its sandbox is closed."""
        self.stopped = True
        self.jobs.clear()
        self.waves.close()
        self.held.close()
        deadline = time.monotonic() + _STOP_S
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))


def cost_of(completion: Completion, generation_s: float) -> Cost:
    """What an answer took: the engine's own count of tokens, or what an endpoint says."""
    if completion.tokens is not None:
        return Cost(len(completion.tokens.prompt_ids), len(completion.tokens.ids), generation_s, 0.0)
    prompt_tokens, completion_tokens = completion.usage or (None, None)
    return Cost(prompt_tokens, completion_tokens, generation_s, 0.0)


def _patch(sandbox: Sandbox) -> tuple[str, str | None]:
    """What the sandbox became. Where its own commands broke its repository that is nothing, and why.

    Raises SandboxError where the sandbox is lost.
    """
    try:
        return changes(sandbox), None
    except SandboxError as error:
        sandbox.exec("true", _ALIVE_S)
        return "", str(error)


def _episode(
    job: Job, log: _Log, end: End, patch: str | None, detail: str | None, seconds: float, tries: int
) -> Episode:
    task = job.task
    if end == "submitted":
        log.turns[-1] = replace(log.turns[-1], observation=readable(patch or ""))
    trajectory = as_trajectory(task, job.sample, log.turns, end, patch, "persistent")
    return Episode(
        task.task_id, job.sample, trajectory, tuple(log.costs), end, detail, seconds, tries, tuple(log.completions)
    )
