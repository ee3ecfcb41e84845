"""A Ray cluster on this machine for tests and benchmarks: a head that holds no sandboxes, and nodes that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STORE = {"object_store_memory": 100 * 2**20}
_TRIES = 5


@contextmanager
def cluster(nodes: int, slots: int) -> Iterator[Any]:
    """`nodes` of `slots` sandboxes each. This process is not connected to it; all of it ends with the block."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, **STORE}
    found: Any = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        for _ in range(nodes):
            add_node(found, slots)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def add_node(found: Any, slots: int) -> Any:
    return _patiently(lambda: found.add_node(num_cpus=1, resources={"sandbox": slots}, **STORE))


def _patiently(start: Callable[[], Any]) -> Any:
    """Ray gives a node half a minute to start in, which a busy machine may take longer for."""
    for left in reversed(range(_TRIES)):
        try:
            return start()
        except Exception as error:  # Ray raises no other
            if "timed out" not in str(error) or not left:
                raise
    raise AssertionError
