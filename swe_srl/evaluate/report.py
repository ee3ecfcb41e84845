"""Named policies on the same held-out steps: a table, differences, remarks in words, and JSON.

Floors come first everywhere, since no similarity means anything without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from swe_srl.errors import DataError
from swe_srl.evaluate.metrics import MEASURES, Answer, Interval, Mode, Summary, paired, summarise

MODES: tuple[Mode, ...] = ("greedy", "own", "t1")
MODE_NAMES: Mapping[Mode, str] = {"greedy": "greedy", "own": "own history", "t1": "T=1"}

Differences = Mapping[str, Interval | None]  # by measure


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything a report shows. `differences[policy][mode]` is the policy minus `baseline`, paired by step."""

    floors: Mapping[str, Summary]
    policies: Mapping[str, Mapping[Mode, Summary]]
    best_floor: str
    baseline: str
    differences: Mapping[str, Mapping[Mode, Differences]]
    remarks: tuple[str, ...]


def compare(
    floors: Mapping[str, Sequence[Answer]],
    policies: Mapping[str, Sequence[Answer]],
    *,
    baseline: str | None = None,
    seed: int = 0,
) -> Comparison:
    """Summaries of floors and policies, and each policy minus `baseline` (a policy's or a floor's name).

    A policy's answers may be of both modes. Without a baseline it is the best floor. Raises DataError where
    there is no floor, the baseline is unknown, a name is used twice, or policies answered different steps.
    """
    if not floors:
        raise DataError("a comparison needs floors: a similarity alone says nothing")
    if twice := floors.keys() & policies.keys():
        raise DataError(f"{', '.join(sorted(twice))}: the name of a floor; give the policy another one")
    known = {name: summarise(answers, seed) for name, answers in floors.items()}
    measured = {name: _by_mode(answers, seed) for name, answers in policies.items()}
    best = max(known, key=lambda name: _value(known[name]["similarity"]))
    baseline = best if baseline is None else baseline
    if baseline not in known and baseline not in measured:
        raise DataError(f"no policy or floor is called {baseline!r}: there are {', '.join([*known, *measured])}")
    differences: dict[str, dict[Mode, Differences]] = {}
    remarks: list[str] = []
    for name, modes in measured.items():
        for mode, summary in modes.items():
            where = f"{name} ({MODE_NAMES[mode]})"
            remarks += _beside_floor(where, best, paired(summary, known[best], seed)["similarity"])
            # A floor has one answer a step, whatever the temperature.
            other = known.get(baseline) or measured[baseline].get(mode)
            if name != baseline and other is not None:
                difference = paired(summary, other, seed)
                differences.setdefault(name, {})[mode] = difference
                remarks += drift(where, baseline, difference)
    if any(summary.n_clusters == 1 for summary in known.values()):
        remarks.append("One task only: the intervals are over its steps and say nothing of other tasks.")
    return Comparison(known, measured, best, baseline, differences, tuple(remarks))


def drift(name: str, baseline: str, difference: Differences) -> list[str]:
    """A sentence where similarity rose while the context gain fell, else nothing.

    Mended formats alone raise both, since failures count 0 in both; so the context gain of the well-formed
    answers is looked at as well.
    """
    rise = difference["similarity"]
    if rise is None or rise.value <= 0:
        return []
    for measure, words in (("context_gain", ""), ("well_formed_context_gain", " of its well-formed answers")):
        fall = difference[measure]
        if fall is not None and fall.value < 0:
            verdict = (
                "drift towards a constant, not better use of the context."
                if rise.low > 0 and fall.high < 0
                else "perhaps drift towards a constant; not certain, since an interval holds 0."
            )
            return [
                f"{name}: similarity rose by {rise} over {baseline} while the context gain{words} fell by "
                f"{-fall.value:.3f} [{-fall.high:.3f}, {-fall.low:.3f}]: {verdict}"
            ]
    return []


def _beside_floor(name: str, floor: str, difference: Interval | None) -> list[str]:
    if difference is None or difference.low > 0:
        return []
    verdict = "is below" if difference.high < 0 else "is not distinguishable from"
    return [f"{name} {verdict} {floor}, a policy that knows nothing: similarity differs by {difference}."]


def _by_mode(answers: Sequence[Answer], seed: int) -> dict[Mode, Summary]:
    parts = {mode: [one for one in answers if one.mode == mode] for mode in MODES}
    if not answers:
        raise DataError("a policy without an answer cannot be compared")
    return {mode: summarise(part, seed) for mode, part in parts.items() if part}


def _value(interval: Interval | None) -> float:
    return float("-inf") if interval is None else interval.value


# --------------------------------------------------------------------------------------- in the terminal


def table(comparison: Comparison) -> Table:
    """Floors first, then policies, one row a mode; similarity of failures is 0, intervals are 95%."""
    first = next(iter(comparison.floors.values()))
    shown = _table(f"{first.n_steps} steps of {first.n_clusters} tasks")
    for heading in ("similarity", "well-\nformed", "exact", "tool", "format\nerrors", "context gain"):
        shown.add_column(heading, justify="right", no_wrap=True)
    # In a narrow terminal this column alone gives way.
    shown.add_column("most common answer", max_width=28)
    for name, summary in comparison.floors.items():
        mode = "best floor" if name == comparison.best_floor else "floor"
        shown.add_row(f"{escape(name)}\n  {mode}", *_cells(summary), style="dim")
    for name, modes in comparison.policies.items():
        shown.add_section()
        for mode, summary in modes.items():
            shown.add_row(f"{escape(name)}\n  {MODE_NAMES[mode]}", *_cells(summary))
    return shown


def difference_table(comparison: Comparison) -> Table:
    """Each policy minus the baseline, on the same steps."""
    shown = _table(f"minus {escape(comparison.baseline)}, paired by step")
    measures = ("similarity", "well_formed_similarity", "exact", "format_error", "context_gain")
    for measure in measures:
        shown.add_column(measure.replace("_similarity", "").replace("_", " "), justify="right", no_wrap=True)
    for name, modes in comparison.differences.items():
        for mode, difference in modes.items():
            cells = [_two_lines(difference[measure], "+.3f") for measure in measures]
            shown.add_row(f"{escape(name)}\n  {MODE_NAMES[mode]}", *cells)
    return shown


def kind_table(comparison: Comparison, rows: int = 10) -> Table:
    """Similarity by kind of step, the commonest kinds first: the best floor, then each policy and mode."""
    floor = comparison.floors[comparison.best_floor]
    columns = {comparison.best_floor: floor} | {
        f"{name}\n{MODE_NAMES[mode]}": summary
        for name, modes in comparison.policies.items()
        for mode, summary in modes.items()
    }
    shown = Table(title="similarity by kind of step", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("kind")
    shown.add_column("steps", justify="right")
    for heading in columns:
        shown.add_column(escape(heading), justify="right")
    for kind, of_floor in list(floor.kinds.items())[:rows]:
        cells = [f"{summary.kinds[kind].similarity.value:.3f}" for summary in columns.values()]
        shown.add_row(escape(kind), str(of_floor.n_steps), *cells)
    return shown


def _table(title: str) -> Table:
    shown = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("policy", no_wrap=True)
    return shown


def _cells(summary: Summary) -> list[str | Text]:
    wanted = ("well_formed_similarity", "exact", "same_tool", "format_error")
    plain = ["–" if (one := summary[name]) is None else f"{one.value:.3f}" for name in wanted]
    common = " ".join(summary.most_common.removeprefix("bash\n").split())
    return [
        _two_lines(summary["similarity"], ".3f"),
        *plain,
        _two_lines(summary["context_gain"], "+.3f"),
        Text(f"{_value(summary['most_common']):.0%}\n{common or '(empty)'}", no_wrap=True, overflow="ellipsis"),
    ]


def _two_lines(interval: Interval | None, form: str) -> str:
    if interval is None:
        return "–"
    return f"{interval.value:{form}}\n[{interval.low:.3f}, {interval.high:.3f}]"


# ------------------------------------------------------------------------------------------------ as JSON


def as_json(comparison: Comparison) -> dict[str, object]:
    """A JSON-able object; every `interval` is [low, high]."""
    return {
        "floors": {name: summary_json(summary) for name, summary in comparison.floors.items()},
        "best_floor": comparison.best_floor,
        "policies": {
            name: {mode: summary_json(summary) for mode, summary in modes.items()}
            for name, modes in comparison.policies.items()
        },
        "baseline": comparison.baseline,
        "differences": {
            name: {mode: _measures_json(difference) for mode, difference in modes.items()}
            for name, modes in comparison.differences.items()
        },
        "remarks": list(comparison.remarks),
    }


def summary_json(summary: Summary) -> dict[str, object]:
    """One summary; `similarity` and its `interval` stand at the top, all measures under `measures`."""
    similarity = summary["similarity"]
    assert similarity is not None  # a summary has at least one scored step
    return {
        "similarity": similarity.value,
        "interval": [similarity.low, similarity.high],
        "n_steps": summary.n_steps,
        "n_samples": summary.n_samples,
        "n_unscored": summary.n_unscored,
        "n_clusters": summary.n_clusters,
        "measures": _measures_json(summary.measures),
        "format_errors": dict(summary.format_errors),
        "most_common_answer": summary.most_common,
        "kinds": {
            name: {
                "n_steps": one.n_steps,
                **_interval_json("similarity", one.similarity),
                "exact": one.exact,
                "format_error": one.format_error,
            }
            for name, one in summary.kinds.items()
        },
    }


def _measures_json(measures: Differences) -> dict[str, object]:
    return {name: None if (one := measures[name]) is None else _interval_json("value", one) for name in MEASURES}


def _interval_json(key: str, interval: Interval) -> dict[str, object]:
    return {key: interval.value, "interval": [interval.low, interval.high]}
