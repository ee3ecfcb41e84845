"""An overview for a terminal: counts with bars, distributions with a line of blocks."""

from __future__ import annotations

from collections.abc import Mapping

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from swe_srl.overview import NoIssue, Overview
from swe_srl.overview.distribution import Distribution, Histogram

ROWS = 8  # of a table of counts; what is rarer is summed up
BAR = 12  # columns of the longest bar
HALF = 58  # columns of a table, of which two stand side by side
NAME = 36  # columns of a name at most

_EIGHTHS = " ▏▎▍▌▋▊▉"
_BLOCKS = " ▁▂▃▄▅▆▇█"


def table(found: Overview) -> RenderableType:
    """All of it, on about one screen and a half."""
    words = f"{found.trajectories:,} trajectories, {found.steps:,} steps"
    if found.steps:
        words += f", {found.targets:,} of them ({found.targets / found.steps:.1%}) targets"
    missing = found.no_issue
    more = ", …" if found.trajectories > len(found.ids) else ""
    counts = {
        "formats (trajectories)": found.formats,
        "outcomes (trajectories)": found.outcomes,
        "repositories (trajectories)": found.repositories,
        "dropped turns (by reason)": found.dropped,
        "tools (steps)": found.tools,
        "no tool of ours (steps)": found.no_tool_of_ours,
        "programs (bash steps that run it)": found.programs,
        "kinds (targets)": found.kinds,
    }
    tables = [_counts(title, numbers) for title, numbers in counts.items() if numbers]
    return Group(
        Text(words, style="bold"),
        Text(f"ids {', '.join(found.ids)}{more}", style="dim"),
        *([Text(_no_issue(missing))] if missing.trajectories else []),
        Columns(tables, width=HALF),
        _distributions({"steps a trajectory": found.steps_per_trajectory, **found.lengths}),
        *([_floors(found)] if found.floors.n else []),
        Text(_repeats(found)),
    )


def _counts(title: str, numbers: Mapping[str, int]) -> Table:
    grid = Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, width=HALF, pad_edge=False
    )
    grid.add_column("name", no_wrap=True, max_width=NAME)
    grid.add_column("n", justify="right")
    grid.add_column("bar", width=BAR, style="blue")
    rows = sorted(numbers.items(), key=lambda item: -item[1])
    for name, n in rows[:ROWS]:
        grid.add_row(escape(" ".join(name.split())), f"{n:,}", bar(n / rows[0][1]))
    if rest := rows[ROWS:]:
        grid.add_row(f"{len(rest):,} more", f"{sum(n for _, n in rest):,}", "", style="dim")
    return grid


def _distributions(rows: Mapping[str, Distribution]) -> Table:
    grid = Table(
        title="lengths; ×2: a bin holds twice as much as the one before", title_justify="left", title_style="bold"
    )
    grid.add_column("what")
    grid.add_column("unit")
    for name in ("n", "min", "median", "p90", "max"):
        grid.add_column(name, justify="right")
    grid.add_column("from min to max", no_wrap=True)
    for name, found in rows.items():
        numbers = (found.n, found.min, found.median, found.p90, found.max)
        shown = ("" if number is None else f"{number:,}" for number in numbers)
        doubling = " ×2" if found.histogram.spacing == "doubling" else ""
        grid.add_row(name, found.unit, *shown, Text(blocks(found.histogram) + doubling, style="blue"))
    return grid


def _no_issue(missing: NoIssue) -> str:
    logs = "1 log" if missing.trajectories == 1 else f"{missing.trajectories:,} logs"
    return f"{missing.steps:,} steps of {logs} without an issue: no targets"


def _floors(found: Overview) -> RenderableType:
    floors = found.floors
    title = f"what policies that know nothing would get, on {floors.n} steps"  # wider than the table
    grid = Table("floor", "similarity", "")
    for name, value in sorted(floors.similarity.items(), key=lambda item: -item[1]):
        grid.add_row(escape(name), f"{value:.3f}", Text(bar(value, 2 * BAR), style="blue"))
    return Group(Text(title, style="bold italic"), grid)


def _repeats(found: Overview) -> str:
    repeated, near = found.repeated_issues, found.near_duplicates
    if not repeated.issues:
        return "no issue has more than one trajectory"
    words = (
        f"{repeated.issues:,} issues have more than one trajectory, {repeated.trajectories:,} in all; nearly the same "
        f"actions (ratio ≥ {near.similar}): {near.groups:,} groups, {near.removable:,} trajectories beyond the first"
    )
    if near.not_compared:
        words += f"; {near.not_compared:,} not compared"
    lines = [", ".join(group) for group in near.examples]
    if more := near.groups - len(lines):
        lines.append(f"… and {more:,} more group{'s' * (more != 1)}")
    return "\n  ".join((words, *lines))


def bar(share: float, width: int = BAR) -> str:
    """A bar of `width` columns for 1; anything above 0 is seen."""
    eighths = max(round(8 * width * share), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def blocks(histogram: Histogram) -> str:
    """A column for each bin; an empty one is blank, and any other is seen."""
    top = max(histogram.counts, default=0)
    return "".join(_BLOCKS[-(-8 * count // top)] for count in histogram.counts)
