"""The node's end: a process that holds a sandbox at a time, with its forks. Ray runs it as an actor.

Nothing here knows of tasks, policies or runs, and of Ray only the name of the node. What a sandbox raises reaches the
driver as it is: SandboxError and OSError.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import swe_srl
from swe_srl.errors import SandboxError
from swe_srl.fleet.trees import Packed
from swe_srl.sandboxes import ExecResult, ImageTree, Sandbox, Wanted, owner, start
from swe_srl.sandboxes.choice import working
from swe_srl.sandboxes.per_process import per_process
from swe_srl.sandboxes.reaper import sweep_once

_ROOMS = ("fleet", "sandboxes", "tasks")


@dataclass(frozen=True, slots=True)
class Facts:
    """Where a process runs, and which code. `node` is what the node is called."""

    node: str
    node_id: str
    code: str


@per_process
def facts() -> Facts:
    """This process's, on its node."""
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    return Facts(node_name(str(ray.util.get_node_ip_address()), node_id), node_id, code())  # type: ignore[no-untyped-call]


def node_name(address: str, node_id: str) -> str:
    """What a node is called; an address may have several."""
    return f"{address}/{node_id[:6]}"


@per_process
def code() -> str:
    """A hash of the sources that a node runs: a version's number says too little of them."""
    top, found = Path(swe_srl.__file__).parent, hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (top / room).glob("*.py")):
        found.update(f"{path.relative_to(top)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def survey(kind: str | None) -> tuple[Facts, str]:
    """A node's facts, and the kind of its sandboxes; one is opened and tried. Raises ConfigError."""
    return facts(), working(kind)


class Room:
    """Sandboxes by number. Its methods are called side by side: one closes what another waits for."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._boxes: dict[int, Sandbox] = {}
        self._numbers, self._lock = count(), threading.Lock()
        sweep_once(with_docker=kind == "docker")  # what a killed one left here

    def facts(self) -> Facts:
        return facts()

    def open(self, source: Packed | ImageTree | Wanted) -> tuple[int, str]:
        """A sandbox's number and its base. Images are had, and looked at, here."""
        if not isinstance(source, Packed):
            return self._keep(start(self._kind, source))
        with tempfile.TemporaryDirectory(prefix=owner.temporary()) as folder:
            return self._keep(start(self._kind, source.unpack(Path(folder, "tree"))))

    def exec(self, number: int, command: str, timeout_s: float) -> ExecResult:
        return self._box(number).exec(command, timeout_s)

    def read(self, number: int, path: str) -> bytes:
        return self._box(number).read(path)

    def write(self, number: int, path: str, data: bytes) -> None:
        self._box(number).write(path, data)

    def fork(self, number: int) -> tuple[int, str]:
        return self._keep(self._box(number).fork())

    def close(self, number: int) -> None:
        with self._lock:
            box = self._boxes.pop(number, None)
        if box is not None:
            box.close()

    def leave(self) -> None:
        """Close all of them: the process is about to be ended."""
        for number in list(self._boxes):
            with contextlib.suppress(SandboxError, OSError):
                self.close(number)

    def _box(self, number: int) -> Sandbox:
        box = self._boxes.get(number)
        if box is None:
            raise SandboxError("this sandbox was closed")
        return box

    def _keep(self, box: Sandbox) -> tuple[int, str]:
        with self._lock:
            number = next(self._numbers)
            self._boxes[number] = box
        return number, box.base
