"""Sandboxes on the nodes of a Ray cluster, behind the same seam as those of this machine (docs/fleet.md).

with reach("runc", "auto") as fleet:
    with fleet.pool("attempts", max_open=64, pull=True) as pool, pool.open(folder) as sandbox: ...

`trees` and `room` are the node's end, `remote` the driver's, `rooms` how many there are, `nodes` where, `line` who
waits for Ray's answer, `ledger` what is seen of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

# A thread that still waits for an answer when the driver leaves its cluster would start another cluster by asking.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from swe_srl.errors import ConfigError, NodeLostError
from swe_srl.fleet.ledger import Ledger
from swe_srl.fleet.line import Line
from swe_srl.fleet.nodes import SLOT, nodes
from swe_srl.fleet.remote import ANSWER_S
from swe_srl.fleet.room import code, node_name, survey
from swe_srl.fleet.rooms import Rooms
from swe_srl.sandboxes import Sandbox, Source, Wanted
from swe_srl.sandboxes.pool import Pool
from swe_srl.tasks.images import behind
from swe_srl.types import Task

_GIVEN = f"--resources='{{\"{SLOT}\": 16}}'"
_CONNECT_S = 20.0
_SURVEY_S = 900.0  # of a node's first task: where nothing was cached it makes an image


@contextlib.contextmanager
def reach(kind: str | None, address: str) -> Iterator[Fleet]:
    """The fleet of a cluster, each of its nodes tried once; at the end its sandboxes are closed.

    Raises ConfigError where no cluster answers, none of its nodes holds sandboxes, or one of them could not.
    """
    ours = not ray.is_initialized()
    if ours:
        _connect(address)
    try:
        fleet = Fleet(_surveyed(kind), Ledger())
        try:
            yield fleet
        finally:
            fleet.close()
    finally:
        if ours:
            ray.shutdown()


class Fleet:
    """A `Place` (`places.py`) of many machines."""

    def __init__(self, kind: str, ledger: Ledger) -> None:
        self.kind, self._ledger, self._line = kind, ledger, Line()
        self._rooms = Rooms(kind, ledger, self._line)

    def pool(self, what: str, *, max_open: int, pull: bool) -> Pool:
        """Sandboxes on the nodes; who waits for room on a node waits as long as there is a node."""
        gone = threading.Event()

        def start(source: Source | Wanted) -> Sandbox:
            return self._rooms.open(source, what, gone)

        def stop() -> None:
            gone.set()
            self._rooms.wake()

        return Pool(self.kind, max_open=max_open, pull=pull, elsewhere=start, gone=stop)

    def ahead(self, tasks: Iterable[Task], *, prune: bool, pull: bool) -> None:
        """Nothing: a node pulls the images that it needs, when it needs them."""

    def behind(self, task: Task) -> None:
        """Remove a task's image on every node that answers, and wait for it."""
        with contextlib.suppress(NodeLostError), self._line.call():
            for ref in [_on(node_id, behind).remote(task) for node_id in nodes()]:
                with contextlib.suppress(RayError):
                    ray.get(ref, timeout=ANSWER_S)

    @property
    def words(self) -> str:
        return self._ledger.words

    def row(self) -> dict[str, Any]:
        return self._ledger.row()

    def close(self) -> None:
        self._rooms.close()


def _connect(address: str) -> None:
    try:
        _refuse_silence(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"sandbox.ray_address = {address!r}: no Ray cluster can be had ({said}). Start its head, `ray start "
            f"--head`, and on each machine that shall hold sandboxes `ray start --address=HOST:6379 {_GIVEN}`"
        ) from None


def _refuse_silence(address: str) -> None:
    """Ray itself waits for ever for a head that does not answer. Raises OSError and ValueError."""
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), _CONNECT_S).close()


def _surveyed(kind: str | None) -> str:
    """The kind of sandboxes on all nodes. Raises ConfigError."""
    there = nodes()
    if not there:
        raise ConfigError(
            f"no node of the Ray cluster holds sandboxes: start those that shall with {_GIVEN}, as many as may be open "
            "there at a time"
        )
    found = _answers(kind, there)
    first, *others = dict.fromkeys(one for one, _ in found.values())
    if others:
        told = ", ".join(f"{name}: {one}" for name, (one, _) in found.items())
        raise ConfigError(f"the nodes would take sandboxes of several kinds ({told}): name one, sandbox.kind=…")
    told = ", ".join(f"{name} {slots}" for name, (_, slots) in found.items())
    total = sum(slots for _, slots in found.values())
    print(f"swe-srl: up to {total} sandboxes of kind {first} at a time: {told}", file=sys.stderr)
    return first


def _answers(kind: str | None, there: dict[str, dict[str, Any]]) -> dict[str, tuple[str, int]]:
    """By name, each node's kind of sandboxes and how many it holds. One that goes meanwhile is left out.

    Raises ConfigError.
    """
    asked = {node_id: _on(node_id, survey).remote(kind) for node_id in there}
    found, trouble = dict[str, tuple[str, int]](), ConfigError("no node was asked")
    for node_id, ref in asked.items():
        name = node_name(there[node_id]["NodeManagerAddress"], node_id)
        try:
            facts, its_kind = _told(name, ref)
        except ConfigError as error:
            if node_id in nodes():
                raise
            trouble = error
            continue
        if facts.code != code():
            raise ConfigError(f"node {name} runs another version of swe-srl ({facts.code}, here {code()}): install it")
        found[name] = its_kind, int(there[node_id]["Resources"][SLOT])
    if not found:
        raise trouble
    return found


def _told(name: str, ref: Any) -> Any:
    try:
        return ray.get(ref, timeout=_SURVEY_S)
    except RayTaskError as error:
        said = str(error.cause)
    except RayError as error:
        said = str(error)
    raise ConfigError(f"node {name} cannot hold sandboxes: {said.strip().splitlines()[-1][:500]}")


def _on(node_id: str, function: Any) -> Any:
    """A function as a task of that node."""
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
