"""A policy on an expert's path, by its own steps: each of the expert's steps is asked after what has really happened.

At the expert's step k the policy answers in the context of its own earlier commands and of what the sandbox printed.
Each answer is scored against the expert's step k, as always. Then the trajectory goes on by the first answer:

    own        it is near the expert's command (similarity ≥ threshold), and leaves files and shell as that one does:
               it is executed, and k + 1 is next
    ahead      it is the expert's command k + 1 word for word, and the expert's k-th only looks, so nothing is missing
               without it: the answer is executed, and k + 2 is next
    put back   all else, a bad format too: the expert's command is executed in its place, and k + 1 is next

What a command leaves is tried in a fork, unless it is the expert's word for word. Texts alone cannot tell: a wrong
edit scores .98, and `cd /testbed && …` before the very same command .84 (docs/own-history.md). So files and shell are
the expert's at every question, its next command can always be run, and k says what is to be done next. What the
policy has seen may differ: a near look at the wrong place stays in its history, as it does when it acts alone. No
alignment is searched: nothing says what the expert would have done after a detour. Steps that are no target (another's
tool, a filter) are the expert's.

Walks go in lockstep: one call of the policy for the next questions of all of them, then their commands side by side.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

from swe_srl.actions import canonical, parse_completion
from swe_srl.errors import DataError, SandboxError
from swe_srl.live import Unopenable, again, readable, require_commands, task_of
from swe_srl.live_view import Settings
from swe_srl.policies.engine import EnginePolicy
from swe_srl.replay_rules import normalise
from swe_srl.rewards import Attempt, Scorer
from swe_srl.sandboxes import Sandbox, snapshot
from swe_srl.sandboxes.held import Held
from swe_srl.steps import StepSet
from swe_srl.tasks.bugfix import task_sandbox
from swe_srl.threads import in_order
from swe_srl.types import Action, Completion, Score, Step, Trajectory, Turn, Went

TOGETHER = 16  # walks in lockstep: so many sandboxes are open. A constant, because a batch's shape follows from it
_TRIES = 2  # sandboxes a walk: a lost one is made again from the walk's own commands, once
_SHELL = "pwd; umask; unset OLDPWD; export -p; declare -f; set +o; shopt -p"  # what persists (sandboxes/shell.py)
_LOOK_S = 20.0
_WORD_FOR_WORD = Score(1.0, {"similarity": 1.0, "same_tool": 1.0})


@dataclass(frozen=True, slots=True)
class Walk:
    """A trajectory to be walked. `seeds[k]` are those of the answers to the expert's step k; the others are not asked.
    It ends with the last question."""

    trajectory: Trajectory
    seeds: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Walking:
    """Where the commands run, and from which similarity on a command of the policy's own is gone on from."""

    sandbox: Settings
    threshold: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One of the expert's steps: the answers, and how the walk `went` on.

    "done": not asked, because the answer before was this step already; that answer stands here, too. "lost": no sandbox
    could be had, so that it was asked after the expert's history, and what was answered counts nowhere (Score None).
    """

    step: Step
    completions: tuple[Completion, ...]
    scores: tuple[Score, ...]
    went: Went
    why: str | None = None


def walkable(steps: StepSet, settings: Settings, path: str, split: str) -> StepSet:
    """The steps of the trajectories that can be walked, told on stderr if that is not all. Raises DataError."""
    reasons = Counter[str]()
    positions = dict.fromkeys(position for position, _ in steps.references)
    for position in positions.copy():
        trajectory = steps.trajectories[position]
        try:
            task_of(trajectory, settings.suite)
            require_commands(trajectory.acted)
        except Unopenable as error:
            reasons[str(error)] += 1
            del positions[position]
    told = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(4))
    if not positions:
        raise DataError(f'history = "own", but no {split} trajectory of {path} has a task that can be opened ({told})')
    if reasons:
        print(f"{reasons.total()} {split} trajectories cannot be walked, and are left out: {told}", file=sys.stderr)
    return StepSet(steps.trajectories, [one for one in steps.references if one[0] in positions])


def walked(
    walks: Sequence[Walk], policy: EnginePolicy, scorer: Scorer, temperature: float, walking: Walking
) -> Iterator[list[Asked]]:
    """Walk them all, TOGETHER at a time; what was asked of each, in the walks' order. No sandbox's loss is raised."""
    for first in range(0, len(walks), TOGETHER):
        with ExitStack() as open_ones:
            held = open_ones.enter_context(closing(Held()))
            walkers = [_Walker(walk, walking, held) for walk in walks[first : first + TOGETHER]]
            for walker in walkers:
                open_ones.callback(walker.let_go)
            _in_lockstep(walkers, policy, scorer, temperature, walking.sandbox.workers, held)
        yield from (walker.asked for walker in walkers)


def _in_lockstep(
    walkers: Sequence[_Walker], policy: EnginePolicy, scorer: Scorer, temperature: float, workers: int, held: Held
) -> None:
    """All next questions, their answers, all next commands; until nobody has a question."""
    for _ in in_order(_Walker.to_a_question, walkers, workers, held.close):
        pass
    while asking := [walker for walker in walkers if not walker.over]:
        prompts = [prompt for walker in asking for prompt in [walker.prompt(policy)] * len(walker.seeds)]
        answers = policy.answer(prompts, [seed for walker in asking for seed in walker.seeds], temperature)
        experts = [walker.step.action for walker in asking for _ in walker.seeds]
        attempts = [Attempt(one.text, one.truncated, expert) for one, expert in zip(answers, experts, strict=True)]
        scored = iter(zip(answers, scorer.start(attempts).result(), strict=True))
        for walker in asking:
            walker.answered = [next(scored) for _ in walker.seeds]
        for _ in in_order(_Walker.go_on, asking, workers, held.close):
            pass


@dataclass(slots=True)
class _Walker:
    """A walk under way. `turns` is what really happened; `k` the expert's step that is next."""

    walk: Walk
    walking: Walking
    held: Held
    k: int = 1
    turns: list[Turn] = field(default_factory=list)
    answered: list[tuple[Completion, Score]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    boxes: ExitStack = field(default_factory=ExitStack)
    sandbox: Sandbox | None = None  # opened by the first command
    opened: int = 0
    lost: str | None = None

    @property
    def step(self) -> Step:
        return Step(self.walk.trajectory, self.k)

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.walk.seeds[self.k]

    @property
    def last(self) -> int:
        return max(self.walk.seeds)

    @property
    def over(self) -> bool:
        return self.k > self.last

    def prompt(self, policy: EnginePolicy) -> tuple[int, ...]:
        history = self.turns if self.lost is None else self.step.history
        return policy.renderer.prompt_ids(self.walk.trajectory.issue, history)

    def to_a_question(self) -> None:
        """The expert's commands up to the next step that is asked."""
        while not self.over and self.k not in self.walk.seeds:
            self.execute(self.step.action)
            self.k += 1

    def go_on(self) -> None:
        """From the first answer to the next question, as the module says."""
        step, (first, score) = self.step, self.answered[0]
        own = None if score.format_error else parse_completion(first.text)[1]
        went = self.way(own, score)
        self.execute(own if own is not None and went != "put back" else step.action)
        self.keep(Asked(step, *_columns(self.answered), went))
        self.k += 1
        if went == "ahead":
            self.keep(Asked(self.step, (first,), (_WORD_FOR_WORD,), "done"))
            self.k += 1
        self.to_a_question()

    def keep(self, asked: Asked) -> None:
        if self.lost is not None and asked.went == "lost":
            unscored = tuple(Score(None, {}, score.format_error) for score in asked.scores)
            asked = Asked(asked.step, asked.completions, unscored, "lost", self.lost)
        self.asked.append(asked)

    def way(self, own: Action | None, score: Score) -> Went:
        """How to go on from this answer."""
        if self.lost is not None:
            return "lost"
        if own is None:
            return "put back"
        if self.is_ahead(own):
            return "ahead"
        return "own" if self.is_near(own, score) else "put back"

    def is_near(self, own: Action, score: Score) -> bool:
        expert = self.step.action
        if canonical(own) == canonical(expert):
            return True
        if score.parts.get("similarity", 0.0) < self.walking.threshold:
            return False
        left = self.left_by(own)
        return left is not None and left == self.left_by(expert)

    def is_ahead(self, own: Action) -> bool:
        """The last question is never skipped: an agent has to learn to stop."""
        after = self.k + 1
        if after not in self.walk.seeds or after == self.last:
            return False
        text = canonical(own)
        if text == canonical(self.step.action) or text != canonical(Step(self.walk.trajectory, after).action):
            return False
        before = self.left_by(None)
        return before is not None and before == self.left_by(self.step.action)

    def left_by(self, action: Action | None) -> tuple[str, str] | None:
        """Files and shell as a command leaves them, tried in a fork; None: as they are. None if nobody can say."""
        try:
            with closing(self.box().fork()) as fork, self.held.keep(fork):
                if action is not None:
                    self.run(action, fork)
                return snapshot(fork), normalise(fork.exec(_SHELL, _LOOK_S).output)
        except (SandboxError, OSError, ValueError):  # ValueError: what a policy writes may be no path at all
            return None

    def run(self, action: Action, sandbox: Sandbox) -> str:
        """What it printed."""
        turn = Turn("", action, None)
        return readable(again(turn, self.walk.trajectory, sandbox, self.walking.sandbox.timeout_s).observation)

    def execute(self, action: Action) -> None:
        """Run it, if there is still a question after it, and remember what it printed. Sets `lost`."""
        while self.lost is None and self.k < self.last:
            try:
                printed = self.run(action, self.box())
            except (SandboxError, OSError) as error:
                self.let_go()
                self.lost = str(error) if self.opened >= _TRIES else None
            else:
                self.turns.append(Turn("", action, printed))
                return

    def box(self) -> Sandbox:
        """The walk's sandbox; a new one is brought to where the walk is. Raises SandboxError and OSError."""
        if self.sandbox is None:
            self.opened += 1
            settings = self.walking.sandbox
            task = task_of(self.walk.trajectory, settings.suite)
            sandbox = self.boxes.enter_context(task_sandbox(task, settings.kind))
            self.boxes.enter_context(self.held.keep(sandbox))
            for turn in self.turns:
                again(turn, self.walk.trajectory, sandbox, settings.timeout_s)
            self.sandbox = sandbox
        return self.sandbox

    def let_go(self) -> None:
        """Close its sandbox; how that ends is nobody's business."""
        self.sandbox = None
        with suppress(SandboxError, OSError):
            self.boxes.close()


def _columns(answered: Sequence[tuple[Completion, Score]]) -> tuple[tuple[Completion, ...], tuple[Score, ...]]:
    return tuple(completion for completion, _ in answered), tuple(score for _, score in answered)
