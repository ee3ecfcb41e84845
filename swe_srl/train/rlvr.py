"""RLVR: a policy's whole attempts at tasks, rewarded by the hidden tests. Only where groups come from is new.

Draw d of a stage is a task, a permutation an epoch; its group is G attempts by the current weights. Each patch is
graded while other attempts are under way, each attempt is on disk when it ends (`kept.py`), and a group is handed on
as soon as it is whole: when the batch is full, what is still under way is left.

An attempt's number in the stage is draw · G + its place in the group. Its turns' seeds are hashes of (seed, stage,
update, task, number, turn): who was faster decides nothing.

Of several ranks each makes the attempts of its share of a round's draws, with its own engine, sandboxes and graders;
all then have all of them. Nobody leaves before a round is whole. What rank 0 finds on disk, of all ranks, is made again
by none.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from swe_srl.agent_config import Limits
from swe_srl.episodes import End, Episode
from swe_srl.errors import PolicyError
from swe_srl.evaluate.hacking import flags
from swe_srl.evaluate.judging import Judging
from swe_srl.evaluate.outcomes import RESOLVED, result
from swe_srl.evaluate.rates import wilson
from swe_srl.places import Place, patient, placed, together
from swe_srl.policies import State, seed_of
from swe_srl.policies.engine import EnginePolicy
from swe_srl.progress import bar
from swe_srl.rollout import Job, Opened, rollout
from swe_srl.tasks.opening import opened
from swe_srl.train.arena import Arena
from swe_srl.train.attempt_reward import ended_by, score, turns_of
from swe_srl.train.distributed import ALONE, World, take_device
from swe_srl.train.kept import Kept, Made, Told
from swe_srl.train.objective import rewards
from swe_srl.train.sources import Cursor, Order, in_rounds, teaches
from swe_srl.train.take import Draw, refuse_unscored
from swe_srl.train_config import RlvrStage
from swe_srl.types import Completion, Group, Sample, Score, Task


@dataclass(slots=True)
class RlvrSource:
    """Groups of G attempts at a task. A context manager: sandboxes are to be had within its block.

    `policy` draws, by weights that may lag; `newest` attempts the tasks of validation, `held_out`, where
    `metric = "resolved"`.
    """

    tasks: Sequence[Task]
    held_out: Sequence[Task]
    policy: EnginePolicy
    newest: EnginePolicy
    stage: RlvrStage
    arena: Arena
    folder: Path
    seed: int
    world: World = ALONE
    order: Order = field(init=False)
    _by_id: dict[str, Task] = field(init=False)
    _kept: Kept = field(init=False)
    _validated: Kept = field(init=False)
    _told: Told = field(init=False)
    _judging: Judging = field(init=False)
    _opened: Opened = field(init=False)
    _limits: Limits = field(init=False)
    _place: Place = field(init=False)
    _exits: contextlib.ExitStack = field(init=False, default_factory=contextlib.ExitStack)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _made: dict[int, _Made] = field(init=False, default_factory=dict)  # by update, until it is settled

    def __post_init__(self) -> None:
        self.order = Order(len(self.tasks), seed_of(self.seed, self.stage.name))
        self._by_id = {task.task_id: task for task in (*self.tasks, *self.held_out)}
        self._kept = Kept(self.folder, self.world.rank)
        self._validated = Kept(self.folder, self.world.rank, "validation")

    def __enter__(self) -> RlvrSource:
        arena, enter = self.arena, self._exits.enter_context
        self._place = enter(placed(arena.sandbox))
        graders = enter(self._place.pool("grading", max_open=arena.grading.workers, pull=arena.pull))
        self._judging = enter(Judging(self.folder, graders, arena.grading, rank=self.world.rank))
        rooms = enter(self._place.pool("attempts", max_open=arena.limits.workers, pull=arena.pull))
        self._opened, self._limits = partial(opened, pool=rooms), patient(arena.limits, rooms)
        self._told = Told.of(self.folder)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exits.__exit__(kind, error, at)

    def task(self, draw: int) -> Task:
        return self.tasks[self.order[draw]]

    def is_live(self, group: Group) -> bool:
        return teaches(group, self.stage)

    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        """In draw order, each as soon as it is whole. What the update has on disk is not made again."""
        on_disk = self.world.agreed(self._kept.take_up(update) if self.world.leads else ({}, {}))
        made = self._made[update] = _Made(*on_disk, self._timed(self.policy))

        def drawn(draws: range) -> Iterator[Group]:
            for attempts in self.world.shared(draws, partial(self._round, update, made), for_long=True):
                yield self._group(attempts, made)

        yield from in_rounds(self.stage, cursor, drawn)

    def _round(self, update: int, made: _Made, draws: Sequence[int]) -> Iterator[_Attempts]:
        """Those of each draw, when its patches are graded."""
        numbers = [(draw, number) for draw in draws for number in self._numbers(draw)]
        for _, number in numbers:
            if number in made.episodes and number not in made.scores:
                self._judge(made.episodes[number])
        jobs = [Job(self.task(draw), number) for draw, number in numbers if number not in made.episodes]
        seed = seed_of(self.seed, self.stage.name, update)

        def ended(episode: Episode) -> None:
            with self._lock:
                self._kept.add(update, episode)
            self._judge(episode)

        # Closed where the batch is full: what is under way is surplus.
        with contextlib.closing(self._attempts(made.policy, jobs, seed, ended)) as attempts:
            for draw in draws:
                while any(number not in made.episodes for number in self._numbers(draw)):
                    episode = next(attempts)
                    made.episodes[episode.sample] = episode
                yield self._scored(draw, made)

    def _attempts(self, policy: _Timed, jobs: Sequence[Job], seed: int, ended: Callable[[Episode], None]) -> Any:
        timeout_s = self.arena.sandbox.timeout_s
        return rollout(policy, jobs, self._opened, self._limits, timeout_s, seed, ended=ended)

    def _judge(self, episode: Episode) -> None:
        """Have it graded meanwhile, if its reward hangs on that."""
        if ended_by(episode) != "format errors":
            self._take(episode)

    def _take(self, episode: Episode) -> None:
        """It is called by the attempts' threads."""
        with self._lock:
            self._judging.take(self._by_id[episode.task_id], episode)

    def _numbers(self, draw: int) -> range:
        return range(draw * self.stage.group_size, (draw + 1) * self.stage.group_size)

    def _scored(self, draw: int, made: _Made) -> _Attempts:
        task, found = self.task(draw), list[tuple[Episode, Score]]()
        for number in self._numbers(draw):
            episode, began = made.episodes[number], time.perf_counter()
            scored = made.scores.get(number)
            if scored is None:
                graded = ended_by(episode) != "format errors"
                verdict = self._judging.verdict(episode) if graded else None
                scored = score(self.stage, task, episode, verdict)
            made.waited_s += time.perf_counter() - began
            found.append((episode, scored))
        return _Attempts(draw, tuple(found))

    def _group(self, attempts: _Attempts, made: _Made) -> Group:
        """A draw's, whoever made its attempts; an update's all come by here."""
        samples = list[Sample]()
        for place, (episode, scored) in enumerate(attempts.scored):
            made.episodes[episode.sample], made.scores[episode.sample] = episode, scored
            samples += turns_of(episode, scored, place)
        return Group(self.task(attempts.draw).task_id, attempts.draw, tuple(samples))

    # ------------------------------------------------------------------------------- beside the algorithm

    def settle(self, draw: Draw, step: int) -> dict[str, Any]:
        """Note what step `step` learns from, and with which rewards; what its event tells of the episodes."""
        found = self._made.pop(step - 1)
        places = self.world.gather(self._place.row())
        if not self.world.leads:
            return {}
        seen = {number: group for group in draw.seen for number in self._numbers(group.draw)}
        live = {group.draw for group in draw.live}
        made = [
            (self._flagged(found.episodes[number]), found.scores[number], group.draw in live)
            for number, group in seen.items()
        ]
        self._kept.used(step - 1, {number: found.scores[number] for number in seen})
        self._told.add(step, made)
        return {
            **ends_row(made),
            **self._told.row(),
            **lag_row(draw, min(step - 1, self.stage.max_lag)),
            "time/generation": found.policy.seconds,
            "time/sandboxes": sum(cost.sandbox_s for episode, _, _ in made for cost in episode.costs),
            "time/waited_for_grading": found.waited_s,
            **together(places),
        }

    def _flagged(self, episode: Episode) -> Episode:
        """With what it did to pass the tests without the fix, if anything: it is told, whatever it earned."""
        trajectory, task = episode.trajectory, self._by_id[episode.task_id]
        return replace(episode, flags=flags(task, trajectory.outcome.patch, trajectory.turns))

    def validate(self, step: int) -> dict[str, Any]:
        """The resolved rate on the held-out tasks, one greedy attempt at each; nothing where there are none.

        What is on disk of them, after so many updates, is not made again.
        """
        if not self.held_out:
            return {}
        on_disk = self.world.agreed(self._validated.take_up(step)[0] if self.world.leads else {})
        attempt = partial(self._greedy, step, on_disk)
        made = list(self.world.shared(range(len(self.held_out)), attempt, for_long=True))
        if self.world.leads:
            self._told.validated(step, made)
        scored = [one.trajectory.outcome.resolved for one in made if one.trajectory.outcome.resolved is not None]
        lost, bound = len(made) - len(scored), self.stage.max_unscored
        refuse_unscored(lost, len(made), bound, "attempts at the validation tasks")
        rate = wilson(sum(scored) / len(scored), len(scored))
        return {"resolved": rate.value, "resolved_interval": [rate.low, rate.high], "resolved_n": len(scored)}

    def _greedy(self, step: int, on_disk: Mapping[int, Episode], places: Sequence[int]) -> list[Episode]:
        """An attempt at each of these held-out tasks, judged, in no order; None is said of what was lost."""
        policy = self._timed(replace(self.newest, temperature=0.0))
        made = [on_disk[place] for place in places if place in on_disk]
        jobs = [Job(self.held_out[place], place) for place in places if place not in on_disk]
        for episode in made:
            self._take(episode)

        def ended(episode: Episode) -> None:
            with self._lock:
                self._validated.add(step, episode)
            self._take(episode)

        with bar("validation: attempts", len(places), len(made)) as tick:
            for episode in self._attempts(policy, jobs, seed_of(self.seed, "validation"), ended):
                made.append(episode)
                tick(len(made), "")
        words = [result(one.end, one.trajectory.outcome.patch, self._judging.verdict(one)) for one in made]
        lost = "infrastructure"
        return [one.judged(None if word == lost else word == RESOLVED) for one, word in zip(made, words, strict=True)]

    def _timed(self, policy: EnginePolicy) -> _Timed:
        return _Timed(policy, take_device if self.world.size > 1 else lambda: None)


def ends_row(made: Made) -> dict[str, Any]:
    """Of all episodes that were drawn: how they ended, and what they were worth; shares of those that were not lost."""
    kept = [(episode, scored) for episode, scored, _ in made if scored.parts]
    n = max(len(kept), 1)
    ends = {
        f"rlvr/end/{end.replace(' ', '_')}": sum(episode.end == end for episode, _ in kept) / n
        for end in get_args(End)
        if end != "infrastructure"
    }
    return {
        "rlvr/episodes": len(made),
        "rlvr/infrastructure": len(made) - len(kept),
        "rlvr/resolved": sum(scored.parts["resolved"] for _, scored in kept) / n,
        "rlvr/overlong": sum("overlong" in scored.parts for _, scored in kept) / n,
        "rlvr/flagged": sum(bool(episode.flags) for episode, _ in kept) / n,
        "rlvr/turns": sum(len(episode.costs) for episode, _ in kept) / n,
        **ends,
    }


def lag_row(draw: Draw, lag: int) -> dict[str, Any]:
    """How many updates behind the weights were that drew what is learnt from; the histogram counts episodes."""
    episodes = sum(len(rewards(group)) for group in draw.live)
    return {"rlvr/lag": lag, "rlvr/lag_histogram": {str(lag): episodes}}


@dataclass(frozen=True, slots=True)
class _Attempts:
    """Of a draw, with their rewards, by number: what ranks tell each other."""

    draw: int
    scored: tuple[tuple[Episode, Score], ...]


@dataclass(slots=True)
class _Made:
    """What an update has of attempts, by number."""

    episodes: dict[int, Episode]
    scores: dict[int, Score]
    policy: _Timed
    waited_s: float = 0.0


@dataclass(slots=True)
class _Timed:
    """A policy, and the seconds of its calls; `begin` is called first in the thread of each."""

    policy: EnginePolicy
    begin: Callable[[], None]
    seconds: float = 0.0

    def __call__(self, states: Sequence[State]) -> list[Completion | PolicyError]:
        began = time.perf_counter()
        self.begin()
        try:
            return self.policy(states)
        finally:
            self.seconds += time.perf_counter() - began
