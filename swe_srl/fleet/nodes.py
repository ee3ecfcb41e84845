"""The nodes of a Ray cluster that hold sandboxes, as the cluster knows them."""

from __future__ import annotations

from typing import Any

import ray

SLOT = "sandbox"  # the resource that a node has as many of as it may hold sandboxes


def nodes() -> dict[str, dict[str, Any]]:
    """By id, those that are up. Of one that fell silent the cluster learns some time after it did."""
    rows: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {row["NodeID"]: row for row in rows if row["Alive"] and row["Resources"].get(SLOT, 0) >= 1}
