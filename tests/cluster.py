"""A Ray cluster on this machine for tests and benchmarks; every node holds sandboxes, and each but the first can go."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STORE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
_START_S = 400.0
# Before Ray is imported: a busy machine takes longer for all this than a cluster's would.
os.environ.setdefault("RAY_worker_register_timeout_seconds", str(int(_START_S)))
os.environ.setdefault("RAY_agent_register_timeout_ms", str(int(_START_S * 1000)))


@contextmanager
def cluster(nodes: int, slots: int) -> Iterator[Any]:
    """`nodes` of `slots` sandboxes each. This process is not connected to it; all of it ends with the block."""
    import ray
    from ray.cluster_utils import Cluster

    with _patience():
        head = {"include_dashboard": False, "include_log_monitor": False, "resources": {"sandbox": slots}, **STORE}
        found: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            add_node(found, slots)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def add_node(found: Any, slots: int) -> Any:
    with _patience():
        return found.add_node(resources={"sandbox": slots}, **STORE)


@contextmanager
def _patience() -> Iterator[None]:
    """Ray gives a node half a minute to start in, and no setting says otherwise: what it asks waits longer here."""
    from ray._private import services

    asked = services.get_node

    def get_node(*args: Any) -> Any:
        end = time.monotonic() + _START_S
        while True:
            try:
                return asked(*args)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = asked
