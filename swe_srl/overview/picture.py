"""An overview as a picture: a panel for each distribution. Matplotlib, no display."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swe_srl.errors import UserError
from swe_srl.evaluate.plots import COLORS, FLOOR_COLOR
from swe_srl.overview import Overview
from swe_srl.overview.distribution import Distribution
from swe_srl.overview.lengths import BUDGETS, PARTS, TOKENS
from swe_srl.overview.sample import Floors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "overview.png"

OURS, OTHER = COLORS["greedy"], COLORS["t1"]
BARS = 10  # of a panel of counts
LETTERS = 34  # of a name
ACROSS = 3  # panels in a row
CHARACTERS_A_TOKEN = 4  # of code and English, roughly: where no tokenizer says

BUDGETS_TOKENS: Mapping[str, int] = {
    "issue": BUDGETS.issue_tokens,
    "action": BUDGETS.action_tokens,
    "observation": BUDGETS.observation_tokens,
}

Panel = Callable[["Axes"], None]


def refuse_no_folder(folder: Path) -> None:
    """UserError where no folder is and none can be made: before the work whose picture it is for."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"--pictures: {there} is a file. Give a folder, which is made if need be")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--pictures: nothing can be written into {there}")


def draw(found: Overview, folder: Path) -> Path:
    """Write the picture into the folder, which is made if need be."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = _panels(found)
    rows = -(-len(panels) // ACROSS)
    figure = Figure(figsize=(15, 0.6 + 2.8 * rows), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12))
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, ACROSS, place)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        panel(axes)
    figure.suptitle(f"{found.trajectories:,} trajectories, {found.steps:,} steps", fontsize=13)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    figure.savefig(path, dpi=90)
    return path


def _panels(found: Overview) -> list[Panel]:
    """What is drawn, in reading order. Lengths are in tokens where a tokenizer was given."""
    ours = {name: OURS if share >= 0.5 else OTHER for name, share in found.share_expressible.by_tool.items()}
    repeats = {
        "trajectories": found.trajectories,
        "sharing their issue": found.repeated_issues.trajectories,
        "near-duplicates": found.near_duplicates.removable,
    }
    panels: list[Panel] = [
        partial(_bars, title="formats", unit="trajectories", counts=found.formats),
        partial(_bars, title="outcomes", unit="trajectories", counts=found.outcomes),
        partial(_bars, title="repeats", unit="trajectories", counts=repeats),
        partial(_bars, title="tools", unit="steps; orange: no tool of ours", counts=found.tools, colors=ours),
        partial(_bars, title="programs", unit="bash steps that run it", counts=found.programs),
        partial(_bars, title="dropped turns", unit="turns", counts=found.dropped),
        partial(_distribution, name="steps a trajectory", counted="trajectories", found=found.steps_per_trajectory),
    ]
    names = [f"{part}_tokens" for part in (*PARTS, "prompt", "target")]
    for name in [name for name in names if name in found.lengths] or PARTS:
        counted = "trajectories" if name.startswith("issue") else "steps"
        panels.append(partial(_distribution, name=name, counted=counted, found=found.lengths[name]))
    panels.append(partial(_floors, found=found.floors))
    return panels


# -------------------------------------------------------------------------------------------- panels


def _bars(
    axes: Axes, title: str, unit: str, counts: Mapping[str, int], colors: Mapping[str, str] | None = None
) -> None:
    """The most common names, and the rest as one."""
    shown = list(counts.items())[:BARS]
    names = [_label(name) for name, _ in shown]
    numbers = [number for _, number in shown]
    paints = [(colors or {}).get(name, OURS) for name, _ in shown]
    if rest := list(counts.values())[BARS:]:
        names.append(f"{len(rest):,} more")
        numbers.append(sum(rest))
        paints.append(FLOOR_COLOR)
    _rows(axes, title, names, numbers, paints, [f"{number:,}" for number in numbers])
    if shown:
        axes.set_xlabel(unit, fontsize=8)


def _floors(axes: Axes, found: Floors) -> None:
    rows = sorted(found.similarity.items(), key=lambda item: -item[1])
    values = [value for _, value in rows]
    names = [_label(name) for name, _ in rows]
    _rows(axes, "floors", names, values, [FLOOR_COLOR] * len(rows), [f"{value:.3f}" for value in values])
    axes.set_xlim(0, 1)
    axes.set_xticks((0, 0.5, 1))
    axes.set_xlabel(f"mean similarity on {found.n} steps", fontsize=8)


def _rows(
    axes: Axes, title: str, names: Sequence[str], values: Sequence[float], colors: Sequence[str], words: Sequence[str]
) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines["left"].set_visible(False)
    if not names:
        axes.set_axis_off()
        axes.text(0, 0.9, "none", transform=axes.transAxes, color=FLOOR_COLOR)
        return
    bars = axes.barh(range(len(names)), values, color=colors, height=0.7)
    axes.bar_label(bars, words, padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(max(len(names), 4) - 0.5, -0.5)  # few bars are no blocks
    axes.set_xlim(0, 1.18 * max(*values, 1e-9))  # room for the numbers
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines["bottom"].set_visible(False)  # the numbers are beside the bars
    axes.set_xticks([])


def _distribution(axes: Axes, name: str, counted: str, found: Distribution) -> None:
    """Bins that double are drawn as wide as each other: a logarithmic axis on which 0 has a place."""
    from matplotlib.ticker import MaxNLocator

    part = name.removesuffix("_tokens")
    axes.set_title(part, fontsize=11, loc="left")
    axes.grid(axis="y", color="#e9e9e9")
    axes.tick_params(labelsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel(found.unit, fontsize=8)
    axes.set_ylabel(counted, fontsize=8)
    if not found.n:
        return
    words = f"median {found.median:,}   90% ≤ {found.p90:,}   max {found.max:,}"
    axes.set_title(words, fontsize=8, loc="right", color=FLOOR_COLOR)
    edges = found.histogram.edges
    places = edges if found.histogram.spacing == "equal" else range(len(edges))
    axes.stairs(found.histogram.counts, places, fill=True, color=OURS)
    axes.set_ylim(0, 1.15 * max(found.histogram.counts))  # room for the words of a mark
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if found.histogram.spacing == "doubling":
        every = -(-len(edges) // 10)
        axes.set_xticks(places[::every], [_short(edge) for edge in edges[::every]])
    budget = BUDGETS_TOKENS.get(part, 0) * (1 if found.unit == TOKENS else CHARACTERS_A_TOKEN)
    if 0 < budget < edges[-1]:
        about = "" if found.unit == TOKENS else "≈ "
        _mark(axes, float(np.interp(budget, edges, places)), f"{about}{BUDGETS_TOKENS[part]:,} tokens")


def _mark(axes: Axes, at: float, words: str) -> None:
    """Where a prompt begins to cut the text by default."""
    low, high = axes.get_xlim()
    side, shift = ("left", 4) if at < (low + high) / 2 else ("right", -4)
    axes.axvline(at, color=OTHER, linewidth=1.2, linestyle="--")
    axes.annotate(
        words,
        (at, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(shift, 0),
        textcoords="offset points",
        horizontalalignment=side,
        verticalalignment="top",
        color=OTHER,
        fontsize=8,
    )


def _label(name: str) -> str:
    """On one line, and without what matplotlib takes for mathematics."""
    name = " ".join(name.split())
    return (name if len(name) <= LETTERS else name[: LETTERS - 1] + "…").replace("$", r"\$")


def _short(number: int) -> str:
    """1024 as 1k, 65536 as 64k."""
    for size, unit in ((1 << 20, "M"), (1 << 10, "k")):
        if number >= size:
            return f"{number // size}{unit}"
    return str(number)
