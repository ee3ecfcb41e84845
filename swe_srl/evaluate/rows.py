"""What a report knows of each attempt, and what all of them amount to.

`n` is what was requested: tasks × samples. An attempt that infrastructure ended is in `n` and `n_infra`, and in no
reason of the policy's; it resolved nothing, so the rate of all is a lower bound until it was run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from swe_srl.episodes import Episode
from swe_srl.evaluate.hacking import LOOKED_UP, flags
from swe_srl.evaluate.metrics import Interval
from swe_srl.evaluate.outcomes import RESOLVED, Result, failures, result
from swe_srl.evaluate.peeking import scan
from swe_srl.evaluate.rates import pass_at_k, rate, worth_showing
from swe_srl.types import Task, Verdict


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt as a report keeps it. Token counts are None where an endpoint does not tell.

    `detail` says what infrastructure did, or why there is no patch; `peeks` are rules of `peeking`, each once, and
    `hacks` those of `hacking` but the one that says that there are peeks.
    """

    instance_id: str
    sample: int
    repository: str
    difficulty: str
    clarity: str
    result: Result
    end: str
    failed: tuple[str, ...]
    detail: str | None
    steps: int
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    grading_seconds: float
    peeks: tuple[str, ...] = ()
    hacks: tuple[str, ...] = ()

    @property
    def resolved(self) -> bool:
        return self.result == RESOLVED

    @property
    def scored(self) -> bool:
        return self.result != "infrastructure"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def row(task: Task, episode: Episode, verdict: Verdict | None) -> Row:
    """What an attempt came to, in a line."""
    trajectory = episode.trajectory
    word = result(episode.end, trajectory.outcome.patch, verdict)
    found = flags(task, trajectory.outcome.patch, trajectory.turns)
    told = (verdict.reason if verdict is not None else None) or episode.detail
    return Row(
        instance_id=task.task_id,
        sample=episode.sample,
        repository=task.repository,
        difficulty=task.difficulty,
        clarity=task.clarity,
        result=word,
        end=episode.end,
        failed=verdict.failed if verdict is not None else (),
        detail=told,
        steps=len(trajectory.turns),
        prompt_tokens=_sum(cost.prompt_tokens for cost in episode.costs),
        completion_tokens=_sum(cost.completion_tokens for cost in episode.costs),
        seconds=episode.seconds,
        grading_seconds=verdict.seconds if verdict is not None else 0.0,
        peeks=tuple(dict.fromkeys(one.rule for one in scan(trajectory, task))),
        hacks=tuple(name for name in found if name != LOOKED_UP),
    )


def row_from_json(document: Mapping[str, Any]) -> Row:
    """What `Row.as_json` wrote; older reports have no `hacks`. Raises TypeError."""
    lists = {name: tuple(document[name]) for name in ("failed", "peeks", "hacks") if name in document}
    return Row(**{**document, **lists})


def _sum(counts: Iterable[int | None]) -> int | None:
    """None where one is not known, too: a part of them is no sum."""
    known = list(counts)
    return sum(count or 0 for count in known) if known and None not in known else None


# -------------------------------------------------------------------------------------------- all of them


@dataclass(frozen=True, slots=True)
class Share:
    """Some attempts: all, or those of a repository. `rate` is over tasks, of what was requested."""

    n: int
    n_infra: int
    resolved: int
    rate: Interval

    @property
    def n_scored(self) -> int:
        return self.n - self.n_infra

    def as_json(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "n_scored": self.n_scored,
            "n_infra": self.n_infra,
            "resolved": self.resolved,
            "resolved_rate": self.rate.value,
            "interval": [self.rate.low, self.rate.high],
        }


def by_task(rows: Sequence[Row]) -> dict[str, float]:
    """Task → share of its attempts that resolved it."""
    found: dict[str, list[bool]] = {}
    for one in rows:
        found.setdefault(one.instance_id, []).append(one.resolved)
    return {task: fmean(values) for task, values in found.items()}


def whole_tasks(rows: Sequence[Row]) -> dict[str, float]:
    """The same of those tasks alone of which infrastructure took no attempt: what two runs are compared by."""
    lost = {one.instance_id for one in rows if not one.scored}
    return {task: value for task, value in by_task(rows).items() if task not in lost}


def share(rows: Sequence[Row]) -> Share:
    """Counts and the resolved rate of some attempts."""
    infra, resolved = sum(not one.scored for one in rows), sum(one.resolved for one in rows)
    return Share(len(rows), infra, resolved, rate(list(by_task(rows).values())))


def shares(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, Share]:
    """The same by what `key` says, its words in order; a row without one is left out."""
    groups: dict[str, list[Row]] = {}
    for one in rows:
        if word := key(one):
            groups.setdefault(word, []).append(one)
    return {word: share(groups[word]) for word in sorted(groups)}


def at_k(rows: Sequence[Row], samples: int) -> dict[int, Interval]:
    """pass@k over tasks, with 95% intervals, for the k worth showing."""
    resolved = {task: round(value * samples) for task, value in by_task(rows).items()}
    return {
        k: rate([pass_at_k(samples, count, k) for count in resolved.values()]) if resolved else rate([])
        for k in worth_showing(samples)
    }


@dataclass(frozen=True, slots=True)
class Spread:
    """Of a quantity that attempts have: None of all where no attempt tells."""

    total: float
    mean: float
    middle: float
    most: float


def spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(sum(known), fmean(known), median(known), max(known)) if known else None


def spreads(rows: Sequence[Row]) -> dict[str, Spread | None]:
    """Steps, tokens and seconds of an attempt, of those that were scored."""
    scored = [one for one in rows if one.scored]
    return {
        "steps": spread(one.steps for one in scored),
        "prompt tokens": spread(one.prompt_tokens for one in scored),
        "completion tokens": spread(one.completion_tokens for one in scored),
        "seconds": spread(one.seconds for one in scored),
        "grading seconds": spread(one.grading_seconds for one in scored if one.grading_seconds),
    }


@dataclass(frozen=True, slots=True)
class Exploits:
    """Attempts at something else than the fix. `instances`: tasks with one, by whatever rule; `rules`: rule → those
    with one by it.
    """

    instances: int
    rules: Mapping[str, tuple[str, ...]]

    def as_json(self) -> dict[str, Any]:
        return {"instances": self.instances, "rules": {rule: len(tasks) for rule, tasks in self.rules.items()}}


def peeking(rows: Sequence[Row]) -> Exploits:
    """To look the fix up."""
    return _exploits(rows, lambda one: one.peeks)


def hacking(rows: Sequence[Row]) -> Exploits:
    """To pass the tests without it."""
    return _exploits(rows, lambda one: one.hacks)


def _exploits(rows: Sequence[Row], of: Callable[[Row], tuple[str, ...]]) -> Exploits:
    rules = sorted({rule for one in rows for rule in of(one)})
    named = {rule: tuple(dict.fromkeys(one.instance_id for one in rows if rule in of(one))) for rule in rules}
    return Exploits(len({one.instance_id for one in rows if of(one)}), named)


def summary_json(rows: Sequence[Row], samples: int) -> dict[str, Any]:
    """The counts of design §5, and more; `sum(failures) + resolved = n`."""
    return {
        **share(rows).as_json(),
        "instances": len({one.instance_id for one in rows}),
        "samples": samples,
        "pass_at_k": {
            str(k): {"value": found.value, "interval": [found.low, found.high]}
            for k, found in at_k(rows, samples).items()
        },
        "failures": failures(one.result for one in rows),
        "ends": dict(sorted(Counter(one.end for one in rows).items())),
        "exploits": peeking(rows).as_json(),
        "hacks": hacking(rows).as_json(),
        "spread": {name: None if found is None else asdict(found) for name, found in spreads(rows).items()},
        "repositories": {name: one.as_json() for name, one in shares(rows, lambda r: r.repository).items()},
        "difficulty": {name: one.as_json() for name, one in shares(rows, lambda r: r.difficulty).items()},
        "clarity": {name: one.as_json() for name, one in shares(rows, lambda r: r.clarity).items()},
    }
