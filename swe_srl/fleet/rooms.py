"""Rooms on the nodes of a Ray cluster: Ray decides where one is, and a room that a sandbox has left is used again.

A room is an actor that takes one of its node's `sandbox` resources, and a process: to start one takes a second, to open
a sandbox in it a fraction of that. So who wants a room takes an empty one, or waits for the first that is: one that
Ray finds a place for meanwhile, or one that another sandbox leaves.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from swe_srl.errors import NodeLostError, SandboxError
from swe_srl.fleet.ledger import Ledger
from swe_srl.fleet.line import Line
from swe_srl.fleet.nodes import SLOT, nodes
from swe_srl.fleet.remote import Door, RemoteSandbox
from swe_srl.fleet.room import Facts, Room, code
from swe_srl.fleet.trees import Packed
from swe_srl.sandboxes import ImageTree, Source, Wanted

_THREADS = 64  # of a room: calls of a sandbox and its forks that may wait at a time
_TRIES = 4  # of rooms that are lost before a sandbox is open: a lost node takes its empty ones with it
_OPEN_S = 900.0  # a room has to open a sandbox in: an image may have to be pulled
_LOOK_S = 5.0  # between two looks at whether any node is left
_LEAVE_S = 20.0  # that rooms have to close their sandboxes in at the end


class Rooms:
    """Of one kind of sandbox. Threads may call it side by side."""

    def __init__(self, kind: str, ledger: Ledger, line: Line) -> None:
        self._kind, self._ledger, self._line = kind, ledger, line
        self._actor: Any = ray.remote(Room).options(
            num_cpus=0,
            resources={SLOT: 1},
            max_concurrency=_THREADS,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        self._changed = threading.Condition()
        self._empty: deque[Door | SandboxError] = deque()  # an error: why one could not be had
        self._actors: set[Any] = set()
        self._placed: set[Any] = set()  # of them, those that have a place
        self._waiting = self._starting = 0
        self._closed = self._told = False

    def open(self, source: Source | Wanted, what: str, gone: threading.Event) -> RemoteSandbox:
        """A sandbox on some node, when there is room; whoever is `gone` waits no more.

        Raises what opening it raised there, and SandboxError.
        """
        sent = Packed.of(source) if isinstance(source, Path) else source
        for left in reversed(range(_TRIES)):
            try:
                return self._opened(self._take(gone), sent, what)
            except NodeLostError:
                if not left:
                    raise
        raise AssertionError

    def _opened(self, door: Door, sent: Packed | ImageTree | Wanted, what: str) -> RemoteSandbox:
        self._ledger.entered(door.node, what)
        door.what = what
        door.enter()  # until its sandbox is counted
        try:
            return RemoteSandbox(door, *door.ask(_OPEN_S, "open", sent))
        finally:
            door.leave()

    def close(self) -> None:
        """Close all sandboxes and end all rooms; nobody waits for one any more."""
        with self._changed:
            self._closed = True
            actors, self._actors = list(self._actors), set()
            placed = list(self._placed)
            self._changed.notify_all()
        left = [actor.leave.remote() for actor in placed]
        with contextlib.suppress(Exception):  # of lost ones nothing is left to close
            ray.wait(left, num_returns=max(len(left), 1), timeout=_LEAVE_S)
        for actor in actors:
            _end(actor)
        self._line.cut(_LEAVE_S)

    def wake(self) -> None:
        """Let those look again who wait."""
        with self._changed:
            self._changed.notify_all()

    def _take(self, gone: threading.Event) -> Door:
        with self._changed:
            self._waiting += 1
            try:
                while not self._empty:
                    if self._closed or gone.is_set():
                        raise SandboxError("the fleet's sandboxes were closed")
                    if self._starting < self._waiting:
                        self._start()
                    if not self._changed.wait(_LOOK_S) and not self._closed:
                        self._look()
                found = self._empty.popleft()
            finally:
                self._waiting -= 1
        if isinstance(found, SandboxError):
            raise found
        return found

    def _look(self) -> None:
        """Nothing has changed for a while: is there a node, and whose are its slots? Holds the lock."""
        there = nodes()
        if not there:
            raise SandboxError(f"no node of the Ray cluster is left that holds sandboxes ({SLOT!r})")
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        if self._told or free.get(SLOT, 0) >= 1:  # a room is being started
            return
        self._told = True
        slots = sum(int(row["Resources"][SLOT]) for row in there.values())
        print(
            f"swe-srl: {self._waiting} wait for room: all {slots} sandboxes that the fleet's nodes may hold are taken, "
            f"{len(self._placed)} of them by this run. They go on when one is closed; another node makes more room",
            file=sys.stderr,
        )

    def _start(self) -> None:
        """Ask Ray for a room. Holds the lock."""
        actor = self._actor.remote(self._kind)
        self._starting += 1
        self._actors.add(actor)
        # No callback: Ray would call it in the thread that all its answers come by.
        threading.Thread(target=self._welcome, args=(actor,), name="swe-srl-room", daemon=True).start()

    def _welcome(self, actor: Any) -> None:
        """Wait until it has a place, or none can be had for it."""
        found: Door | SandboxError
        try:
            with self._line.call():
                facts: Facts = ray.get(actor.facts.remote())
            if facts.code == code():
                found = Door(self._line, actor, facts, self._emptied)
            else:  # a node that came later: the others were asked at the beginning
                found = SandboxError(f"node {facts.node} runs another version of swe-srl: install this one there")
        except NodeLostError as error:
            found = error
        except RayError as error:
            found = NodeLostError(f"a room on the fleet did not start: {str(error).strip().splitlines()[-1][:300]}")
        if isinstance(found, SandboxError):
            _end(actor)
        with self._changed:
            self._starting -= 1
            if isinstance(found, SandboxError):
                self._actors.discard(actor)
            else:
                self._placed.add(actor)
            self._empty.append(found)
            self._changed.notify_all()

    def _emptied(self, door: Door) -> None:
        self._ledger.left(door.node, door.what, door.lost)
        with self._changed:
            lost = self._forgotten(door) if door.lost else []
            if not lost:
                self._empty.append(door)
            self._changed.notify_all()
        for actor in lost:
            _end(actor)

    def _forgotten(self, lost: Door) -> list[Any]:
        """The actors of a lost room, and of its node's empty ones with it, unless it ended alone. Holds the lock.

        The cluster learns up to half a minute later that a node went: were they tried one by one until then, an
        attempt's tries could all be theirs. Where the node did not go, to start a room again takes a second.
        """
        empty = [one for one in self._empty if isinstance(one, Door) and one.node_id == lost.node_id and not lost.alone]
        for one in empty:
            self._empty.remove(one)
        actors = [one.actor for one in (lost, *empty)]
        self._actors.difference_update(actors)
        self._placed.difference_update(actors)
        return actors


def _end(actor: Any) -> None:
    with contextlib.suppress(Exception):  # it has ended
        ray.kill(actor)
