"""What a policy's answers on held-out steps amount to, each number with its interval.

A step's value is the mean over its samples; intervals are percentile bootstraps that draw whole clusters
(tasks, or trajectories), because steps of one trajectory succeed and fail together.

    context gain = similarity to the step's own expert action − mean similarity to other steps' expert actions

A policy that answers with a constant has a context gain of 0 however high its similarity is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swe_srl.actions import canonical, parse_completion
from swe_srl.errors import DataError
from swe_srl.rewards import similarity
from swe_srl.steps import kind
from swe_srl.tasks.variants import instance_of
from swe_srl.types import Action, Score, Step

Mode = Literal["greedy", "own", "t1"]  # own: greedy, too, after what the policy has really done
Floats = NDArray[np.float64]

DRAWS = 2000
OTHERS = 16  # experts of other clusters that each answer is compared with

# Per-step measures, in the order they are shown. NaN where a step has none (no well-formed sample, say).
MEASURES = (
    "similarity",  # failures of format count as 0
    "well_formed_similarity",  # of well-formed answers alone
    "reward",  # failures of format count as −1
    "exact",
    "same_tool",
    "format_error",
    "context_gain",  # failures count as 0 on both sides, so mended formats raise it too
    "well_formed_context_gain",  # of well-formed answers alone
    "most_common",  # share of the answers that are the policy's most common one
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One sample of a policy on one step. `proposed` is None for a format error.

    `cluster` is the task where the log names it, whatever its variant, else the trajectory; `kind` is that of the
    expert's action.
    """

    step_id: str
    cluster: str
    kind: str
    mode: Mode
    expert: Action
    text: str
    score: Score
    proposed: Action | None


def answer(step: Step, mode: Mode, text: str, score: Score) -> Answer:
    """A scored completion's text as an Answer to `step`; the action is read again from the text."""
    trajectory = step.trajectory
    return Answer(
        step_id=step.id,
        cluster=instance_of(trajectory),
        kind=kind(step.action),
        mode=mode,
        expert=step.action,
        text=text,
        score=score,
        proposed=None if score.format_error else parse_completion(text)[1],
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over steps and its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class KindSummary:
    """The steps whose expert action is of one kind."""

    n_steps: int
    similarity: Interval
    exact: float
    format_error: float


@dataclass(frozen=True, slots=True)
class StepValues:
    """The measures step by step: `columns[measure][i]` belongs to `step_ids[i]`."""

    step_ids: tuple[str, ...]
    clusters: tuple[str, ...]
    columns: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy in one mode. `measures` holds None where no step has a value.

    `n_unscored` samples had no reward (infrastructure) and count nowhere. `format_errors` are shares of the
    scored samples. With `n_clusters` = 1 the intervals draw steps, and speak of that trajectory alone.
    """

    mode: Mode
    n_steps: int
    n_samples: int
    n_unscored: int
    n_clusters: int
    measures: Mapping[str, Interval | None]
    format_errors: Mapping[str, float]
    kinds: Mapping[str, KindSummary]
    most_common: str
    steps: StepValues

    def __getitem__(self, measure: str) -> Interval | None:
        return self.measures[measure]


# ---------------------------------------------------------------------------------------- intervals


def bootstrap(values: Floats, clusters: Sequence[str], seed: int, draws: int = DRAWS) -> Interval | None:
    """Mean of `values` over steps, and the 95% percentile interval of `draws` resamples of whole clusters.

    NaN values are left out; None if none is left. A single cluster tells nothing of how clusters differ:
    then steps are drawn instead.
    """
    there = np.isfinite(values)
    if not there.any():
        return None
    values = values[there]
    _, codes = np.unique(np.asarray(clusters)[there], return_inverse=True)
    if codes.max() == 0:
        codes = np.arange(len(values))
    n = int(codes.max()) + 1
    sums, sizes = np.bincount(codes, values, n), np.bincount(codes, minlength=n)
    # How often each cluster is drawn: one row a resample, so the resamples are two matrix products.
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    low, high = np.percentile((drawn @ sums) / (drawn @ sizes), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def paired(a: Summary, b: Summary, seed: int = 0) -> dict[str, Interval | None]:
    """a − b, measure by measure, over the steps where both have a value.

    Raises DataError if the two did not answer the same steps.
    """
    if set(a.steps.step_ids) != set(b.steps.step_ids):
        only = len(set(a.steps.step_ids) ^ set(b.steps.step_ids))
        raise DataError(f"a paired difference needs the same steps: {only} steps were answered by one of the two")
    place = {step_id: i for i, step_id in enumerate(b.steps.step_ids)}
    order = np.array([place[step_id] for step_id in a.steps.step_ids])
    return {
        measure: bootstrap(a.steps.columns[measure] - b.steps.columns[measure][order], a.steps.clusters, seed)
        for measure in MEASURES
    }


# ------------------------------------------------------------------------------------------ summary


def summarise(answers: Sequence[Answer], seed: int = 0) -> Summary:
    """All measures of one policy's answers in one mode; several samples of a step are averaged first.

    Raises DataError if there is no answer, none was scored, or modes are mixed.
    """
    scored = [one for one in answers if one.score.value is not None]
    if not scored:
        raise DataError(f"nothing to summarise: {len(answers)} answers, none of them scored")
    modes = {one.mode for one in answers}
    if len(modes) > 1:
        raise DataError(f"a summary is of one mode: these answers are {' and '.join(sorted(modes))}")
    samples: dict[str, list[Answer]] = {}
    for one in scored:
        samples.setdefault(one.step_id, []).append(one)
    common, _ = Counter(_text(one) for one in scored).most_common(1)[0]
    steps = _step_values(samples, common, seed)
    return Summary(
        mode=scored[0].mode,
        n_steps=len(samples),
        n_samples=len(scored),
        n_unscored=len(answers) - len(scored),
        n_clusters=len(set(steps.clusters)),
        measures={name: bootstrap(steps.columns[name], steps.clusters, seed) for name in MEASURES},
        format_errors={
            reason: count / len(scored)
            for reason, count in Counter(one.score.format_error for one in scored).most_common()
            if reason is not None
        },
        kinds=_by_kind([group[0].kind for group in samples.values()], steps, seed),
        most_common=common,
        steps=steps,
    )


def _text(one: Answer) -> str:
    """What two answers are the same by: the canonical action, or the text of a failure."""
    return canonical(one.proposed) if one.proposed is not None else one.text


def _step_values(samples: Mapping[str, Sequence[Answer]], common: str, seed: int) -> StepValues:
    rows = list(samples.values())
    clusters = tuple(group[0].cluster for group in rows)
    others = other_steps([group[0].step_id for group in rows], clusters, seed)
    experts = [canonical(group[0].expert) for group in rows]
    known: dict[tuple[str, str], float] = {}  # a policy near a constant asks for the same pairs again
    columns = {name: np.full(len(rows), np.nan) for name in MEASURES}
    for i, group in enumerate(rows):
        proposed = [None if one.proposed is None else canonical(one.proposed) for one in group]
        written = [text for text in proposed if text is not None]
        share = len(written) / len(group)  # a failure's similarity is 0, so it only dilutes
        if written:
            own = np.mean([_similarity(text, experts[i], known) for text in written])
            columns["well_formed_similarity"][i] = own
            if others[i]:
                foreign = [_similarity(text, experts[j], known) for text in written for j in others[i]]
                columns["well_formed_context_gain"][i] = own - np.mean(foreign)
        columns["similarity"][i] = share * columns["well_formed_similarity"][i] if written else 0.0
        if others[i]:
            columns["context_gain"][i] = share * columns["well_formed_context_gain"][i] if written else 0.0
        columns["reward"][i] = np.mean([one.score.value for one in group])
        columns["exact"][i] = np.mean([text == experts[i] for text in proposed])
        columns["same_tool"][i] = np.mean(
            [one.proposed is not None and one.proposed.tool == one.expert.tool for one in group]
        )
        columns["format_error"][i] = 1 - share
        columns["most_common"][i] = np.mean([_text(one) == common for one in group])
    return StepValues(tuple(samples), clusters, columns)


def _similarity(proposed: str, expert: str, known: dict[tuple[str, str], float]) -> float:
    pair = (proposed, expert)
    if pair not in known:
        known[pair] = similarity(proposed, expert)
    return known[pair]


def other_steps(step_ids: Sequence[str], clusters: Sequence[str], seed: int) -> list[list[int]]:
    """For each step the positions of OTHERS steps of other clusters; the same for every policy.

    A constant has a context gain of exactly 0, not 0 give or take the sampling, because in each round every
    step is the other one of exactly one step: the steps, cluster after cluster in a random order, stand beside
    themselves rotated by at least the largest cluster, so that no pair is of one cluster. Of a cluster that is
    more than half of the steps only as many take part as there are steps beside it; the others have none.
    """
    rng = np.random.default_rng(seed)
    # Sorted by name first: the sample depends on which steps there are, not on their order of arrival.
    by_name = sorted(range(len(step_ids)), key=step_ids.__getitem__)
    part = [by_name[i] for i in rng.permutation(len(by_name))]
    largest, size = Counter(clusters).most_common(1)[0]
    surplus = max(0, 2 * size - len(part))
    left_out = set([i for i in part if clusters[i] == largest][:surplus])
    part, size = [i for i in part if i not in left_out], size - surplus
    others: list[list[int]] = [[] for _ in step_ids]
    for _ in range(OTHERS if part else 0):
        shuffled = [part[i] for i in rng.permutation(len(part))]
        rank = {name: place for place, name in enumerate(dict.fromkeys(clusters[i] for i in shuffled))}
        order = sorted(shuffled, key=lambda i: rank[clusters[i]])
        turn = int(rng.integers(size, len(order) - size + 1))
        for i, j in zip(order, order[turn:] + order[:turn], strict=True):
            others[i].append(j)
    return others


def _by_kind(kinds: Sequence[str], steps: StepValues, seed: int) -> dict[str, KindSummary]:
    """The commonest kind first."""
    found: dict[str, KindSummary] = {}
    for name, count in Counter(kinds).most_common():
        here = np.array([one == name for one in kinds])
        interval = bootstrap(np.where(here, steps.columns["similarity"], np.nan), steps.clusters, seed)
        assert interval is not None  # a scored step always has a similarity
        found[name] = KindSummary(
            count,
            interval,
            float(steps.columns["exact"][here].mean()),
            float(steps.columns["format_error"][here].mean()),
        )
    return found
