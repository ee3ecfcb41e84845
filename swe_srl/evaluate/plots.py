"""Pictures: a comparison of policies beside its floors, and a run's learning curve. Matplotlib, no display."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swe_srl.errors import DataError
from swe_srl.evaluate.metrics import Interval, Mode
from swe_srl.evaluate.report import MODE_NAMES, MODES, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS: Mapping[Mode, str] = {"greedy": "#1f5fa8", "own": "#3a8f5c", "t1": "#d9822b"}
SHIFTS: Mapping[Mode, float] = {"greedy": -0.14, "own": 0.0, "t1": 0.14}
FLOOR_COLOR = "#7a7a7a"

PANELS = (
    ("similarity", "similarity to the expert"),
    ("context_gain", "context gain (own − other steps)"),
    ("format_error", "format errors"),
)


def plot(comparison: Comparison, path: Path) -> Path:
    """A PNG: a row for each floor and policy, its greedy and T=1 means with 95% intervals."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = [*comparison.floors, *comparison.policies]
    figure = Figure(figsize=(11, 1.6 + 0.42 * len(names)), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(PANELS), sharey=True, gridspec_kw={"width_ratios": [3, 2, 1.4]})
    for axes, (measure, title) in zip(panels, PANELS, strict=True):
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="#e3e3e3")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.axhline(len(comparison.floors) - 0.5, color="#b0b0b0", linewidth=0.8)
        for row, name in enumerate(names):
            if name in comparison.floors:
                _mark(axes, row, comparison.floors[name][measure], FLOOR_COLOR)
            else:
                for mode, summary in comparison.policies[name].items():
                    _mark(axes, row + SHIFTS[mode], summary[measure], COLORS[mode])
    shown = comparison.floors[comparison.best_floor]
    figure.suptitle(f"{shown.n_steps} steps of {shown.n_clusters} tasks; bars are 95% intervals", fontsize=10)
    if best := shown["similarity"]:
        panels[0].axvline(best.value, color=FLOOR_COLOR, linestyle="--", linewidth=1)
    panels[1].axvline(0, color="#b0b0b0", linewidth=0.8)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    panels[2].set_xlim(-0.04, 1.04)
    asked = [mode for mode in MODES if any(mode in modes for modes in comparison.policies.values())]
    keys = [("floor", FLOOR_COLOR), *((MODE_NAMES[mode], COLORS[mode]) for mode in asked)]
    handles = [Line2D([], [], color=color, marker="o", label=label) for label, color in keys]
    handles.append(Line2D([], [], color=FLOOR_COLOR, linestyle="--", label="best floor"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=140)
    return path


def _mark(axes: Axes, row: float, interval: Interval | None, color: str) -> None:
    if interval is not None:
        axes.plot([interval.low, interval.high], [row, row], color=color, linewidth=2, alpha=0.55)
        axes.plot([interval.value], [row], color=color, marker="o", markersize=6)


# One panel each, top to bottom: title, the kind of event, and the keys of which a row may hold one.
CURVES = (
    ("training loss", "step", ("loss",)),
    ("training reward", "step", ("reward",)),
    ("format errors in training (share)", "step", ("srl/format_error", "format_error")),
    ("validation similarity", "validation", ("similarity",)),
)


def learning_curve(rows: Iterable[Mapping[str, object]], path: Path) -> Path:
    """A PNG of a run's events (rows of `events.jsonl`): what has no row has no panel.

    Steps are counted through all stages, in their order of appearance. A validation row's `interval` is drawn
    where there is one. Raises DataError if nothing can be drawn.
    """
    from matplotlib.figure import Figure

    events = [row for row in rows if row.get("kind") in ("step", "validation") and "step" in row]
    starts = _stage_starts(events)
    drawn = [(title, points) for title, kind, keys in CURVES if (points := _points(events, starts, kind, keys))]
    if not drawn:
        raise DataError("no training step and no validation in these events: there is nothing to draw")
    figure = Figure(figsize=(9, 0.6 + 2.1 * len(drawn)), layout="constrained")
    panels: Sequence[Axes] = list(figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0])
    for axes, (title, points) in zip(panels, drawn, strict=True):
        axes.set_title(title, fontsize=11, loc="left")
        axes.grid(color="#e9e9e9")
        axes.spines[["top", "right"]].set_visible(False)
        for stage, start in starts.items():
            here = [point for point in points if point[0] == stage]
            steps, values = [point[1] for point in here], [point[2] for point in here]
            marker = "o" if len(here) < 30 else ""
            axes.plot(steps, values, color=COLORS["greedy"], marker=marker, markersize=4, linewidth=1.5)
            axes.axvline(start, color="#b0b0b0", linewidth=0.8, linestyle=":")
            for _, step, _, bounds in here:
                if bounds is not None:
                    axes.plot([step, step], bounds, color=COLORS["greedy"], alpha=0.4, linewidth=2)
    for stage, start in starts.items():
        panels[0].annotate(
            stage, (start, 0), xycoords=("data", "axes fraction"), xytext=(4, 5), textcoords="offset points"
        )
    panels[-1].set_xlabel("optimizer steps, all stages")
    figure.savefig(path, dpi=140)
    return path


Point = tuple[str, int, float, tuple[float, float] | None]  # stage, step of the run, value, interval


def _stage_starts(events: Sequence[Mapping[str, object]]) -> dict[str, int]:
    """Where each stage begins on an axis that runs through all of them."""
    lengths: dict[str, int] = {}
    for row in events:
        stage = str(row.get("stage", ""))
        lengths[stage] = max(lengths.get(stage, 0), int(str(row["step"])))
    starts: dict[str, int] = {}
    total = 0
    for stage, length in lengths.items():
        starts[stage] = total
        total += length
    return starts


def _points(
    events: Sequence[Mapping[str, object]], starts: Mapping[str, int], kind: str, keys: Sequence[str]
) -> list[Point]:
    points: list[Point] = []
    for row in events:
        value = next((row[key] for key in keys if isinstance(row.get(key), int | float)), None)
        if row["kind"] != kind or not isinstance(value, int | float):
            continue
        if "loss" in keys and "reward" in row:
            continue  # a policy gradient's loss stays around 0, whatever is learnt
        stage = str(row.get("stage", ""))
        bounds = row.get("interval")
        pair = (float(bounds[0]), float(bounds[1])) if isinstance(bounds, list | tuple) else None
        points.append((stage, starts[stage] + int(str(row["step"])), float(value), pair))
    return points
