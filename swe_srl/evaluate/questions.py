"""Attempts at tasks by a prompt or two, without an agent's loop: what oracle edit and localise-then-repair share.

A protocol is a generator: it yields messages, is sent the answer's text, and returns what it proposes. Sandboxes are
open only while it reads the tree or changes it, never while it waits for an answer.

    for episode in attempts(oracle_edit, policy, jobs, opened, limits, seed=0):
        append(path, episode)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from swe_srl.actions import TRUNCATED
from swe_srl.cpu import CpuMeter
from swe_srl.episodes import Cost, End, Episode, as_trajectory
from swe_srl.errors import ContextError, FormatError, PolicyError, SweSrlError
from swe_srl.evaluate.edits import EDIT_FORMAT, Edit, apply_edits, show_files
from swe_srl.live import readable
from swe_srl.policies import Asker, Question, seed_of
from swe_srl.prompts import Message
from swe_srl.rollout import Job, Opened, cost_of
from swe_srl.sandboxes import Sandbox, changes
from swe_srl.sandboxes.leased import leased
from swe_srl.threads import in_order
from swe_srl.tries import Tries
from swe_srl.types import Completion, Task, Turn

if TYPE_CHECKING:
    from swe_srl.agent_config import EpisodeLimits

WAVE = 64  # attempts whose questions are one call

SYSTEM = (
    "You are a software engineer. You resolve an issue in a repository. First reason inside <think> and </think>, then "
    "answer in the form that is asked for."
)
ISSUE = "This is the issue:\n\n<issue>\n{issue}\n</issue>\n\n"
REPAIR = "{told}:\n\n{files}\n\nWhich edits resolve the issue? " + EDIT_FORMAT


@dataclass(frozen=True, slots=True)
class Proposed:
    """A patch, and what of the answers could not be followed."""

    patch: str
    remarks: tuple[str, ...] = ()


Fresh = Callable[[], AbstractContextManager[Sandbox]]  # a sandbox with the task's tree as it was at first
Steps = Generator[tuple[Message, ...], str, Proposed]
Protocol = Callable[[Task, Fresh], Steps]


def prompt(text: str) -> tuple[Message, ...]:
    return Message("system", SYSTEM), Message("user", text)


def repair_prompt(issue: str, files: dict[str, str], told: str) -> tuple[Message, ...]:
    """The question for edits: the issue and the files, whole."""
    shown = show_files({path: text.encode("utf-8", "replace").decode() for path, text in files.items()})
    return prompt(ISSUE.format(issue=issue) + REPAIR.format(told=told, files=shown))


def proposed(fresh: Fresh, edits: Sequence[Edit], remarks: Sequence[str] = ()) -> Proposed:
    """What edits make of the tree. Raises FormatError where none can be applied, and SandboxError."""
    with fresh() as sandbox:
        refused = apply_edits(sandbox, edits)
        return Proposed(changes(sandbox), (*remarks, *refused))


def attempts(
    protocol: Protocol,
    asker: Asker,
    jobs: Sequence[Job],
    opened: Opened,
    limits: EpisodeLimits,
    seed: int,
    meter: CpuMeter | None = None,
) -> Generator[Episode]:
    """Make all attempts and yield each as an episode when it ends; `limits.workers` sandboxes are open at a time.

    A turn is a prompt's answer; the last one's observation says what could not be followed. What infrastructure ended
    is tried again, `limits.attempts` times in all.
    """
    meter = meter or CpuMeter()
    for start in range(0, len(jobs), WAVE):
        live = [_Attempt(job, protocol, opened, limits, meter) for job in jobs[start : start + WAVE]]
        while live:
            for _ in in_order(_Attempt.go_on, live, limits.workers):
                pass
            yield from (attempt.episode() for attempt in live if attempt.end)
            live = [attempt for attempt in live if not attempt.end]
            waiting = [attempt for attempt in live if attempt.messages]
            began = time.monotonic()
            with meter.part("policy"):
                answers = asker.ask([attempt.question(seed) for attempt in waiting])
            seconds = time.monotonic() - began
            for attempt, answer in zip(waiting, answers, strict=True):
                attempt.hear(answer, seconds)


@dataclass(slots=True)
class _Attempt:
    job: Job
    protocol: Protocol
    opened: Opened
    limits: EpisodeLimits
    meter: CpuMeter
    steps: Steps = field(init=False)
    messages: tuple[Message, ...] = ()  # that want an answer
    heard: str | None = None
    turns: list[Turn] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    end: End | None = None
    patch: str | None = ""
    detail: str | None = None
    tries: Tries = field(init=False)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.tries = Tries(self.limits.attempts)
        self.begin()

    def begin(self) -> None:
        self.tries.begin()
        self.steps = self.protocol(self.job.task, self.fresh)
        self.messages, self.heard = (), None
        self.turns, self.costs, self.completions = [], [], []

    def fresh(self) -> AbstractContextManager[Sandbox]:
        return leased(lambda: self.opened(self.job.task), self.limits.open_s, self.meter)

    def go_on(self) -> None:
        """To its next question, or to its end."""
        if self.end:
            return
        began = time.monotonic()
        try:
            with self.meter.part("sandboxes"):
                self.messages = self.steps.send(self.heard)  # type: ignore[arg-type]  # None begins a generator
        except StopIteration as ended:
            self.end, self.patch = "submitted", ended.value.patch
            self.remark("\n".join(ended.value.remarks))
        except FormatError as error:
            self.end = "format errors"
            self.remark(str(error), error.reason)
        except (SweSrlError, OSError) as error:
            self.lost(error)
        taken = time.monotonic() - began
        self.seconds += taken
        if self.costs:
            self.costs[-1] = replace(self.costs[-1], sandbox_s=taken)

    def question(self, seed: int) -> Question:
        job = self.job
        return Question(
            job.task, self.messages, seed_of(seed, "question", job.task.task_id, job.sample, len(self.turns))
        )

    def hear(self, answer: Completion | PolicyError, seconds: float) -> None:
        self.messages, self.seconds = (), self.seconds + seconds
        if isinstance(answer, ContextError):
            self.end, self.detail = "context too long", str(answer)
        elif isinstance(answer, PolicyError):
            self.lost(answer)
        else:
            self.heard = readable(answer.text)
            self.turns.append(Turn(self.heard, None, None))
            self.costs.append(cost_of(answer, seconds))
            self.completions.append(answer)
            if answer.truncated:
                self.end = "format errors"
                self.remark("truncated: the answer reached max_tokens before its end", TRUNCATED)

    def remark(self, text: str, format_error: str | None = None) -> None:
        """What the last answer's observation says."""
        if self.turns and text:
            self.turns[-1] = replace(self.turns[-1], observation=readable(text))
            self.costs[-1] = replace(self.costs[-1], format_error=format_error)

    def lost(self, error: Exception) -> None:
        if self.tries.again(error):
            self.begin()
        else:
            self.end, self.patch, self.detail = "infrastructure", None, str(error)

    def episode(self) -> Episode:
        assert self.end is not None
        task, sample = self.job.task, self.job.sample
        trajectory = as_trajectory(task, sample, self.turns, self.end, self.patch, "fresh")
        costs, answers = tuple(self.costs), tuple(self.completions)
        return Episode(
            task.task_id, sample, trajectory, costs, self.end, self.detail, self.seconds, self.tries.made, answers
        )
