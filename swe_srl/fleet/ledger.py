"""What the driver sees of its fleet: sandboxes that are open, were closed and were lost, by node, and how fast."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class _Node:
    open: Counter[str] = field(default_factory=Counter)  # by what they are for
    closed: Counter[str] = field(default_factory=Counter)
    lost: int = 0

    def as_json(self, minutes: float) -> dict[str, Any]:
        counts = {"open": dict(+self.open), "closed": dict(+self.closed), "lost": self.lost}
        return {**counts, "per_minute": round(self.closed.total() / minutes, 2)}


class Ledger:
    """Counted by the threads that open and leave sandboxes."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._told = set[str]()
        self._lock, self._began = threading.Lock(), time.monotonic()

    def entered(self, node: str, what: str) -> None:
        with self._lock:
            self._nodes.setdefault(node, _Node()).open[what] += 1

    def left(self, node: str, what: str, lost: str) -> None:
        """A room is empty; or was `lost`, in these words, which are told once."""
        with self._lock:
            one = self._nodes[node]
            one.open[what] -= 1
            one.closed[what] += not lost
            one.lost += bool(lost)
            new = bool(lost) and lost not in self._told
            self._told.add(lost)
        if new:
            print(f"swe-srl: {lost}; what was open there is done again in another room", file=sys.stderr)

    @property
    def words(self) -> str:
        """Open sandboxes by node, for a bar; "" before the first."""
        with self._lock:
            shown = [(name, one.open.total(), one.lost) for name, one in self._nodes.items()]
        return ", ".join(f"{name} {count}" + (f" ({lost} lost)" if lost else "") for name, count, lost in shown)

    def row(self) -> dict[str, Any]:
        """For events: all of it hangs on the clock. Rates are sandboxes that were closed, a minute since the start."""
        minutes = max(time.monotonic() - self._began, 1e-9) / 60
        with self._lock:
            nodes = {name: one.as_json(minutes) for name, one in self._nodes.items()}
            every = list(self._nodes.values())
            totals = {
                "open": sum(one.open.total() for one in every),
                "lost": sum(one.lost for one in every),
                "per_minute": round(sum(one.closed.total() for one in every) / minutes, 2),
            }
        return {"time/fleet/nodes": nodes, **{f"time/fleet/{name}": value for name, value in totals.items()}}
