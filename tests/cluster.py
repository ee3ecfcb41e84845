"""A Ray cluster on this machine for tests and benchmarks: a head that holds no sandboxes, and nodes that do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STORE = {"object_store_memory": 100 * 2**20}


@contextmanager
def cluster(nodes: int, slots: int) -> Iterator[Any]:
    """`nodes` of `slots` sandboxes each. This process is not connected to it; all of it ends with the block."""
    import ray
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **STORE})
    try:
        for _ in range(nodes):
            add_node(found, slots)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def add_node(found: Any, slots: int) -> Any:
    return found.add_node(num_cpus=1, resources={"sandbox": slots}, **STORE)
