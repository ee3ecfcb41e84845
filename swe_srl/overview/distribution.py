"""Many numbers as a few: how many, the middle, the end, and counts between edges."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Literal

import numpy as np

BINS = 30  # equal bins, at most
SMALL = 1000  # numbers that are all below this have equal bins; others spread over orders of magnitude

Spacing = Literal["equal", "doubling"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` numbers are at least `edges[i]` and below `edges[i + 1]`.

    A bin is as wide as the one before it, or holds twice as much: 0, 1, 2 and 3, 4 to 7, …
    """

    spacing: Spacing = "equal"
    edges: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Distribution:
    """`median` and `p90` are numbers that occur: half, and nine tenths, are at most that. None for no numbers."""

    unit: str
    n: int
    min: int | None
    median: int | None
    p90: int | None
    max: int | None
    histogram: Histogram


def integers() -> array[int]:
    """An empty row of integers, eight bytes each."""
    return array("q")


def distribution(numbers: array[int], unit: str) -> Distribution:
    """The distribution of numbers that are not negative."""
    if not numbers:
        return Distribution(unit, 0, None, None, None, None, Histogram())
    values = np.frombuffer(numbers, dtype=np.int64)
    low, high = int(values.min()), int(values.max())
    spacing: Spacing = "equal" if high < SMALL else "doubling"
    edges = _equal(low, high) if spacing == "equal" else _doubling(low, high)
    counts, _ = np.histogram(values, edges)
    histogram = Histogram(spacing, tuple(edges), tuple(counts.tolist()))
    median, p90 = (int(value) for value in np.quantile(values, (0.5, 0.9), method="inverted_cdf"))
    return Distribution(unit, len(values), low, median, p90, high, histogram)


def _doubling(low: int, high: int) -> list[int]:
    """0, 1, 2, 4, … from the last that is not above `low` to the first that is above `high`."""
    edges = [0, *(1 << power for power in range(high.bit_length() + 1))]
    first = max(i for i, edge in enumerate(edges) if edge <= low)
    return edges[first:]


def _equal(low: int, high: int) -> list[int]:
    """Multiples of the least of 1, 2, 5, 10, … that needs no more than BINS bins."""
    widths = (digit * 10**power for power in range(20) for digit in (1, 2, 5))
    width = next(width for width in widths if high // width - low // width < BINS)
    return [width * number for number in range(low // width, high // width + 2)]
