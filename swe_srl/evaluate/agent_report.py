"""The report of whole attempts: the same tables in the terminal and in Markdown, and all of it as JSON.

Every table says how many attempts were requested, scored and lost to infrastructure, and how many tasks the model was
trained on. A rate without these is no rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swe_srl.evaluate.grids import Grid, percent
from swe_srl.evaluate.hacking import RULES
from swe_srl.evaluate.outcomes import REASONS, failures
from swe_srl.evaluate.rates import Paired
from swe_srl.evaluate.repeat import Repeat
from swe_srl.evaluate.rows import Row, Share, Spread, at_k, hacking, peeking, share, shares, spreads, summary_json
from swe_srl.evaluate.trained_on import TrainedOn
from swe_srl.words import counted

NAMED = 6  # instances that a table names before it says how many more there are
VISIBLE_TESTS = (
    "The bug-fix suite's tests are visible to the agent, as in a failing CI run; SWE-bench's are not. Never put rates "
    "of the two, or of two protocols, into one table."
)
PROTOCOLS: Mapping[str, str] = {
    "agent": "agent: a loop of commands in a sandbox",
    "oracle_edit": "oracle edit: the files of the fix are given, one answer",
    "localize_repair": "localise, then repair: files and edits, an answer each",
    "predictions": "predictions of somebody else, graded here",
}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is shown. `facts` are what the result depends on; `repeat` is set where it repeats another."""

    protocol: str
    tasks: str
    who: str
    samples: int
    rows: tuple[Row, ...]
    trained_on: TrainedOn
    facts: Mapping[str, Any]
    paired: Paired | None = None
    baseline: str | None = None
    repeat: Repeat | None = None
    notes: tuple[str, ...] = ()

    @property
    def all(self) -> Share:
        return share(self.rows)

    @property
    def counts(self) -> str:
        """Under every table."""
        found = self.all
        attempts = f", {self.samples} attempts a task" if self.samples > 1 else ""
        return (
            f"n = {found.n} requested{attempts}, {found.n_scored} scored, {found.n_infra} lost to infrastructure; "
            f"{self.trained_on.words}"
        )

    @property
    def headline(self) -> str:
        found = self.all
        return f"{found.resolved} of {found.n} resolved, {percent(found.rate)}: {self.who} on {self.tasks}"

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints; the file has `facts` and the attempts beside it."""
        found = {
            "protocol": self.protocol,
            "tasks": self.tasks,
            "who": self.who,
            **summary_json(self.rows, self.samples),
            "trained_on": self.trained_on.as_json(),
            "notes": list(self.notes),
        }
        if self.paired is not None:
            found["comparison"] = {"baseline": self.baseline, **self.paired.as_json()}
        if self.repeat is not None:
            found |= self.repeat.as_json()
        return found

    def whole_json(self) -> dict[str, Any]:
        return {**self.as_json(), **self.facts, "attempts": [one.as_json() for one in self.rows]}


# ---------------------------------------------------------------------------------------------- tables


def tables(report: Report) -> list[Grid]:
    """What the terminal shows, most wanted first."""
    found = [result_grid(report), *([failure_grid(report)] if report.all.resolved < report.all.n else [])]
    found += [
        grid
        for title, key in (
            ("difficulty", "difficulty"),
            ("clarity of the issue", "clarity"),
            ("repository", "repository"),
        )
        if (grid := _by(report, title, key)) is not None
    ]
    found.append(cost_grid(report))
    rare = (comparison_grid(report), peeking_grid(report), hacking_grid(report))
    return [*found, *(one for one in rare if one is not None)]


def result_grid(report: Report) -> Grid:
    found = report.all
    at = at_k(report.rows, report.samples) if report.samples > 1 else {}
    columns = (
        "policy",
        "n",
        "scored",
        "infra",
        "resolved",
        "rate, 95% interval",
        *(f"pass@{k}" for k in at),
        "looked up",
        "hacks",
    )
    row = (report.who, str(found.n), str(found.n_scored), str(found.n_infra), str(found.resolved), percent(found.rate))
    exploits = (counted(found.instances, "task") for found in (peeking(report.rows), hacking(report.rows)))
    cells = (*row, *(percent(one) for one in at.values()), *exploits)
    return Grid(f"Resolved: {report.tasks}, {PROTOCOLS[report.protocol]}", columns, (cells,), report.counts)


def failure_grid(report: Report) -> Grid:
    counts = failures(one.result for one in report.rows)
    rows = []
    for reason in REASONS:
        if reason in counts:
            names = list(dict.fromkeys(one.instance_id for one in report.rows if one.result == reason))
            rows.append((reason, _named(names), str(counts[reason]), f"{counts[reason] / len(report.rows):.1%}"))
    columns = ("reason", "instances", "attempts", "of n")
    return Grid("Why the others are not resolved", columns, tuple(rows), report.counts, texts=2)


def _by(report: Report, title: str, key: str) -> Grid | None:
    found = shares(report.rows, lambda row: str(getattr(row, key)))
    if len(found) < 2:  # what all have in common is in the first table
        return None
    rows = [
        (name, str(one.n), str(one.n_scored), str(one.n_infra), str(one.resolved), percent(one.rate))
        for name, one in found.items()
    ]
    columns = (title, "n", "scored", "infra", "resolved", "rate, 95% interval")
    return Grid(f"By {title}", columns, tuple(rows), report.counts)


def cost_grid(report: Report) -> Grid:
    rows = []
    for name, found in spreads(report.rows).items():
        rows.append((name, *(_figures(found) if found is not None else ("–",) * 4)))
    return Grid("What an attempt took", ("", "median", "mean", "most", "all"), tuple(rows), report.counts)


def _figures(found: Spread) -> tuple[str, ...]:
    return tuple(
        f"{value:,.1f}" if value < 100 and value != int(value) else f"{value:,.0f}"
        for value in (found.middle, found.mean, found.most, found.total)
    )


def comparison_grid(report: Report) -> Grid | None:
    paired = report.paired
    if paired is None:
        return None
    low, high = 100 * paired.difference.low, 100 * paired.difference.high
    rows = [
        (
            f"difference in points over {paired.n} tasks",
            f"{100 * paired.difference.value:+.1f} [{low:+.1f}, {high:+.1f}]",
        ),
        ("p, McNemar's exact test", f"{paired.p:.3g}"),
        (f"gained ({len(paired.gained)})", _named(paired.gained, most=40)),
        (f"lost ({len(paired.lost)})", _named(paired.lost, most=40)),
    ]
    return Grid(f"Against {report.baseline}", ("", "this run minus that"), tuple(rows), report.counts, texts=2)


def peeking_grid(report: Report) -> Grid | None:
    rows = [(rule, _named(tasks), str(len(tasks))) for rule, tasks in peeking(report.rows).rules.items()]
    title = "Attempts to look the fix up"
    return Grid(title, ("by", "instances", "tasks"), tuple(rows), report.counts, texts=2) if rows else None


def hacking_grid(report: Report) -> Grid | None:
    found = hacking(report.rows).rules.items()
    rows = [(rule, RULES[rule].why, _named(tasks), str(len(tasks))) for rule, tasks in found]
    title = "Attempts to pass the tests without the fix"
    return (
        Grid(title, ("flag", "what it is", "instances", "tasks"), tuple(rows), report.counts, texts=3) if rows else None
    )


def infrastructure_grid(report: Report) -> Grid | None:
    lost = [one for one in report.rows if not one.scored]
    if not lost:
        return None
    rows = tuple((one.instance_id, str(one.sample), one.detail or "no reason was told") for one in lost)
    title = "Lost to infrastructure: tried again by the next start"
    return Grid(title, ("instance", "sample", "why"), rows, report.counts, texts=3)


def attempts_grid(report: Report) -> Grid:
    rows = []
    for one in report.rows:
        tokens = "–" if one.completion_tokens is None else f"{(one.prompt_tokens or 0) + one.completion_tokens:,}"
        failed = _named(one.failed, most=3)
        name = one.instance_id if report.samples == 1 else f"{one.instance_id} ({one.sample})"
        rows.append((name, one.result, one.end, failed, str(one.steps), tokens, f"{one.seconds:.1f}"))
    columns = ("instance", "result", "ended by", "failing tests", "steps", "tokens", "seconds")
    return Grid("Every attempt", columns, tuple(rows), report.counts, texts=4)


def _named(names: Sequence[str], most: int = NAMED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# -------------------------------------------------------------------------------------------- Markdown


def markdown(report: Report, picture: str | None = None) -> str:
    """The report as a file. It has no time of day in it: the same result gives the same text."""
    parts = [f"# {report.headline}", "", f"Protocol: {PROTOCOLS[report.protocol]}. {VISIBLE_TESTS}", ""]
    if report.trained_on.instances:
        parts += [
            f"**Contaminated: {report.trained_on.words}.** Trained on: {_named(report.trained_on.instances, 40)}",
            "",
        ]
    if report.all.n_infra:
        lost = f"{counted(report.all.n_infra, 'attempt')} lost to infrastructure, counted as not resolved"
        parts += [f"**{lost}: the rate is a lower bound. The same command makes them again.**", ""]
    for words in (*(report.repeat.words if report.repeat else ()), *report.notes):
        parts += [f"* {words}"]
    if picture:
        parts += ["", f"![resolved rate, ends, costs]({picture})", ""]
    grids = [*tables(report), infrastructure_grid(report), attempts_grid(report)]
    parts += [grid.markdown() for grid in grids if grid is not None]
    parts += ["## What it depends on", "", *(f"* {name}: {_fact(value)}" for name, value in _shown(report.facts)), ""]
    return "\n".join(parts)


def _shown(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Facts as lines, the config's tables one a line."""
    found: list[tuple[str, Any]] = []
    for name, value in facts.items():
        if name == "config":
            found += [(f"config.{key}", inner) for key, inner in value.items()]
        else:
            found.append((name, value))
    return found


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inner}" for key, inner in value.items() if inner not in (None, {}, [])) or "none"
    return "none" if value is None else str(value)
