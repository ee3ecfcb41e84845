"""The picture of a ladder: a row an arm, similarity and resolved rate with their intervals, and each seed's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swe_srl.evaluate.plots import COLORS, FLOOR_COLOR, SHIFTS
from swe_srl.ladder_report import NAMES, ArmReport, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESOLVED_COLOR = "#2c7a51"


def plot(arms: Sequence[ArmReport], floor: tuple[str, float], path: Path) -> Path:
    """A PNG. Small marks are single seeds."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(11, 1.8 + 0.5 * len(arms)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [3, 2]})
    _panel(left, "similarity to the expert, held-out steps")
    _panel(right, "resolved, held-out tasks")
    for row, arm in enumerate(arms):
        for mode, measures in arm.steps.items():
            _mark(left, row + SHIFTS[mode], measures["similarity"], COLORS[mode])  # type: ignore[index]
        if arm.resolved is not None:
            _mark(right, row, arm.resolved, RESOLVED_COLOR)
    left.axvline(floor[1], color=FLOOR_COLOR, linestyle="--", linewidth=1)
    left.set_yticks(range(len(arms)), [arm.name for arm in arms])
    left.set_ylim(len(arms) - 0.5, -0.5)
    right.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if all(arm.resolved is None for arm in arms):
        right.text(0.5, 0.5, "no attempts", ha="center", va="center", color=FLOOR_COLOR, transform=right.transAxes)
    handles = [
        Line2D([], [], color=COLORS[mode], marker="o", label=NAMES[mode])  # type: ignore[index]
        for mode in arms[0].steps
    ]
    handles.append(Line2D([], [], color=RESOLVED_COLOR, marker="o", label="resolved"))
    handles.append(Line2D([], [], color=FLOOR_COLOR, linestyle="--", label=f"best floor: {floor[0]}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    seeds = len(arms[0].rows)
    figure.suptitle(f"means over {seeds} seed{'s' * (seeds > 1)}; bars are 95% intervals over tasks", fontsize=10)
    figure.savefig(path, dpi=140)
    return path


def _panel(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#e3e3e3")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _mark(axes: Axes, row: float, found: Measured, color: str) -> None:
    one = found.interval
    axes.plot([one.low, one.high], [row, row], color=color, linewidth=2, alpha=0.55)
    axes.plot([one.value], [row], color=color, marker="o", markersize=6)
    if len(found.by_seed) > 1:
        axes.plot(found.by_seed, [row] * len(found.by_seed), "|", color=color, markersize=9, alpha=0.8)
