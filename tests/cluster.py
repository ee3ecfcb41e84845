"""A Ray cluster on this machine for tests and benchmarks; every node holds sandboxes, and each but the first can go."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_TRIES = 8
# Before Ray is imported: a busy machine takes longer for all this than a cluster's would.
os.environ.setdefault("RAY_worker_register_timeout_seconds", "400")
os.environ.setdefault("RAY_agent_register_timeout_ms", "400000")


@contextmanager
def cluster(nodes: int, slots: int) -> Iterator[Any]:
    """`nodes` of `slots` sandboxes each. This process is not connected to it; all of it ends with the block."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"include_dashboard": False, "include_log_monitor": False}
    found: Any = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head | _node(slots)))
    try:
        for _ in range(nodes - 1):
            add_node(found, slots)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def add_node(found: Any, slots: int) -> Any:
    return _patiently(lambda: found.add_node(**_node(slots)))


def _node(slots: int) -> dict[str, Any]:
    """With ports of our choice: its raylet waits less long for those that its agents would choose."""
    agents = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in agents]
        ports = {name: one.getsockname()[1] for name, one in zip(agents, sockets, strict=True)}
    return {"num_cpus": 1, "object_store_memory": 100 * 2**20, "resources": {"sandbox": slots}, **ports}


def _patiently(start: Callable[[], Any]) -> Any:
    """Ray gives a node half a minute to start in, which a busy machine may take longer for."""
    for left in reversed(range(_TRIES)):
        try:
            return start()
        except Exception as error:  # Ray raises no other
            if "timed out" not in str(error) or not left:
                raise
    raise AssertionError
