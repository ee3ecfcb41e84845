"""The driver's end of a room, and a sandbox in it: a call that is not answered is a room that was lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, OutOfMemoryError, RayError, RayTaskError

from swe_srl.errors import NodeLostError, SandboxError
from swe_srl.fleet.line import Line
from swe_srl.fleet.nodes import nodes
from swe_srl.fleet.room import Facts
from swe_srl.sandboxes import ExecResult

ANSWER_S = 120.0  # to read, write, fork or close, and for an answer beyond a command's own time


class Door:
    """An actor on a node. Once it did not answer it is `lost`, in these words, and nothing is asked of it any more.

    `alone`: its process ended, and its node did not.
    """

    def __init__(self, line: Line, actor: Any, at: Facts, emptied: Callable[[Door], None]) -> None:
        self._line, self.actor, self.node, self.node_id = line, actor, at.node, at.node_id
        self.lost, self.alone = "", False
        self.what = ""  # that its sandbox is for
        self._emptied, self._open, self._lock = emptied, 0, threading.Lock()

    def ask(self, limit_s: float, method: str, *args: Any) -> Any:
        """A method's answer. Raises what it raised on the node, and NodeLostError."""
        if self.lost:
            raise NodeLostError(f"{self.lost}, and this sandbox with it")
        with self._line.call():
            try:
                return ray.get(getattr(self.actor, method).remote(*args), timeout=limit_s)
            except GetTimeoutError:
                lost, why = f"node {self.node} does not answer", f"for {limit_s:g} seconds"
            except RayTaskError as error:
                raise error.cause from None
            except (ActorDiedError, OutOfMemoryError) as error:
                self.alone = self.node_id in nodes()
                lost = f"a sandbox's process on node {self.node} ended" if self.alone else f"node {self.node} was lost"
                why = _said(error)
            except RayError as error:  # its machine or the network between: Ray itself does not know yet
                lost, why = f"node {self.node} does not answer", _said(error)
        self.lost = lost
        raise NodeLostError(f"{lost}, and this sandbox with it ({why})")

    def enter(self) -> None:
        """One more sandbox is open in it."""
        with self._lock:
            self._open += 1

    def leave(self) -> None:
        """One less; when the last has gone, the room is free."""
        with self._lock:
            self._open -= 1
            empty = self._open == 0
        if empty:
            self._emptied(self)


class RemoteSandbox:
    """A sandbox on another machine. A fork is on the same node, in the same room."""

    def __init__(self, door: Door, number: int, base: str) -> None:
        self._door, self._number, self.base = door, number, base
        self._closed, self._lock = False, threading.Lock()
        door.enter()

    def exec(self, command: str, timeout_s: float) -> ExecResult:
        found: ExecResult = self._ask(timeout_s + ANSWER_S, "exec", command, timeout_s)
        return found

    def read(self, path: str) -> bytes:
        return bytes(self._ask(ANSWER_S, "read", path))

    def write(self, path: str, data: bytes) -> None:
        self._ask(ANSWER_S, "write", path, data)

    def fork(self) -> RemoteSandbox:
        number, _ = self._ask(ANSWER_S, "fork")
        return RemoteSandbox(self._door, number, self.base)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            with contextlib.suppress(NodeLostError):  # it is closed, then
                self._door.ask(ANSWER_S, "close", self._number)
        finally:
            self._door.leave()

    def _ask(self, limit_s: float, method: str, *args: Any) -> Any:
        if self._closed:
            raise SandboxError("this sandbox was closed")
        return self._door.ask(limit_s, method, self._number, *args)


def _said(error: RayError) -> str:
    """Why, in Ray's words: the last of its lines on the actor, before which it says what the actor was."""
    lines = str(error).strip().splitlines()
    return next((line for line in reversed(lines) if line.startswith("The actor ")), lines[0])[:300]
