"""Many sandboxes at a time, from threads or asyncio: so many open at most, some of them before they are asked for.

    with Pool("runc", max_open=16, warm=4) as pool:
        with pool.open(folder) as sandbox: ...          # in a thread
        async with pool.open(folder) as sandbox:        # in a coroutine
            result = await pool.run(sandbox.exec, "ls", 30)

What is asked for while `max_open` are open waits its turn. Leaving the pool, by an exception or Ctrl-C too, closes
all of them, and who waits gets a SandboxError.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from swe_srl.errors import ConfigError, SandboxError
from swe_srl.sandboxes import BACKENDS, Sandbox, Source, Wanted, docker, start
from swe_srl.sandboxes.reaper import sweep_once

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_CLOSED = "the pool of sandboxes was closed"


class Pool:
    """`warm` sandboxes are kept ready on the folder that was asked for last; they count as open.

    Under Docker they are containers without a tree, ready for any folder, and for forks. `pull` False: images that are
    absent stay so. Raises SandboxError.

    `elsewhere` starts its sandboxes where they are not of this machine; `gone` is told when nobody waits for one any
    more.
    """

    def __init__(
        self,
        kind: str,
        *,
        max_open: int,
        warm: int = 0,
        pull: bool = True,
        elsewhere: Callable[[Source | Wanted], Sandbox] | None = None,
        gone: Callable[[], object] = lambda: None,
    ) -> None:
        if kind not in BACKENDS:
            raise ConfigError(f"sandbox.kind: {kind!r} is none of {', '.join(BACKENDS)}")
        if not 0 <= warm < max_open:
            raise ConfigError(f"{warm} warm sandboxes are among the {max_open} that may be open: leave room for one")
        self._elsewhere = elsewhere is not None
        if not self._elsewhere:
            sweep_once(with_docker=kind == "docker")  # what a killed run left is the next one's to remove
        self.kind, self.pull = kind, pull
        self._start, self._most, self._warm = elsewhere or partial(start, kind), max_open, warm
        self._gone = gone
        self._containers_wait = kind == "docker" and warm > 0
        if self._containers_wait:
            self._warm = 0
            docker.keep_waiting(warm)
        self._lock = threading.Lock()
        self._asked: deque[tuple[Source | Wanted, Future[Sandbox]]] = deque()
        self._ready: deque[tuple[Source | Wanted, Sandbox]] = deque()
        self._open: set[Sandbox] = set()  # the ready ones, too
        self._opening = 0
        self._spares = 0  # of them, those that nobody asked for
        self._last: Source | Wanted | None = None
        self._closed = False
        self._threads = ThreadPoolExecutor(max_open, "swe-srl-pool")  # each sandbox does one thing at a time

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, source: Source | Wanted | str) -> Lease:
        """A sandbox for the length of a `with` or `async with` block. Raises SandboxError."""
        return Lease(self, Path(source) if isinstance(source, str) else source)

    def patience(self, open_s: float) -> float:
        """How long who asks for a sandbox waits for it, where one opens within `open_s`.

        For ever elsewhere: there may be no room for as long as an attempt takes. It is counted from when there is.
        """
        return threading.TIMEOUT_MAX if self._elsewhere else open_s

    async def run(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        """Call what waits for a sandbox (`sandbox.exec`) in a thread of the pool."""
        return await asyncio.wrap_future(self._threads.submit(function, *args, **named))

    def close(self) -> None:
        """Close every sandbox, in use or not, and wait for it."""
        with self._lock:
            self._closed = True
            boxes, self._open = list(self._open), set()
            asked = [future for _, future in self._asked]
            self._asked.clear()
            self._ready.clear()
        for future in asked:
            _refuse(future, SandboxError(_CLOSED))
        self._gone()
        for box in boxes:
            _close(box)
        if self._containers_wait:
            docker.keep_waiting(0)
        self._threads.shutdown(cancel_futures=True)

    def ask(self, source: Source | Wanted) -> Future[Sandbox]:
        """One on this folder, in its turn; it is to be given back, once."""
        future: Future[Sandbox] = Future()
        with self._lock:
            if self._closed:
                raise SandboxError(_CLOSED)
            self._asked.append((source, future))
            self._last = source
            self._serve()
        return future

    def give_back(self, box: Sandbox) -> None:
        """Close it: a sandbox is used once."""
        _close(box)
        with self._lock:
            self._open.discard(box)
            self._serve()

    def _serve(self) -> None:
        """Give or start what was asked for, as far as there is room, then what is kept ready. Holds the lock."""
        while self._asked and not self._closed:
            source, future = self._asked[0]
            match = next((pair for pair in self._ready if pair[0] == source), None)
            if match is not None:
                self._ready.remove(match)
                self._asked.popleft()
                self._threads.submit(self._hand, match[1], future)
                continue
            if not self._room():
                if self._ready:  # on another folder: it makes room
                    _, unused = self._ready.popleft()
                    self._threads.submit(self.give_back, unused)
                return
            self._asked.popleft()
            self._opening += 1
            self._threads.submit(self._begin, source, future)
        while not self._closed and self._last and self._room() and len(self._ready) + self._spares < self._warm:
            self._opening += 1
            self._spares += 1
            self._threads.submit(self._begin, self._last, None)

    def _room(self) -> bool:
        return len(self._open) + self._opening < self._most

    def _begin(self, source: Source | Wanted, future: Future[Sandbox] | None) -> None:
        """Open one for which room was counted, for who asked or to be kept ready."""
        box, trouble = None, None
        try:
            box = self._start(source)
        except Exception as error:
            trouble = error
        with self._lock:
            self._opening -= 1
            self._spares -= future is None
            unwanted = self._closed and box is not None
            if box is not None and not unwanted:
                self._open.add(box)
                if future is None:
                    self._ready.append((source, box))
            if trouble is None or future is not None:  # a spare that failed is not tried again by itself
                self._serve()
        if unwanted and box is not None:
            _close(box)
            trouble = SandboxError(_CLOSED)
        if future is not None:
            if trouble is not None:
                _refuse(future, trouble)
            elif box is not None:
                self._hand(box, future)

    def _hand(self, box: Sandbox, future: Future[Sandbox]) -> None:
        try:
            future.set_result(box)
        except InvalidStateError:  # who asked has gone
            self.give_back(box)


class Lease:
    """What `Pool.open` gives: a block that a sandbox is open for."""

    def __init__(self, pool: Pool, source: Source | Wanted) -> None:
        self._pool, self._source = pool, source
        self._box: Sandbox | None = None

    def __enter__(self) -> Sandbox:
        asked = self._pool.ask(self._source)
        try:
            self._box = asked.result()
        except BaseException:  # Ctrl-C
            self._drop(asked)
            raise
        return self._box

    def __exit__(self, *_: object) -> None:
        if self._box is not None:
            self._pool.give_back(self._box)

    async def __aenter__(self) -> Sandbox:
        asked = self._pool.ask(self._source)
        try:
            self._box = await asyncio.wrap_future(asked)
        except BaseException:
            self._drop(asked)
            raise
        return self._box

    async def __aexit__(self, *_: object) -> None:
        if self._box is not None:
            with contextlib.suppress(RuntimeError):  # the pool was closed, and with it the sandbox
                # In its thread it goes on when the task is cancelled.
                await asyncio.shield(self._pool.run(self._pool.give_back, self._box))

    def _drop(self, asked: Future[Sandbox]) -> None:
        if not asked.cancel() and asked.exception() is None:
            self._pool.give_back(asked.result())


def _refuse(future: Future[Sandbox], error: Exception) -> None:
    with contextlib.suppress(InvalidStateError):
        future.set_exception(error)


def _close(box: Sandbox) -> None:
    with contextlib.suppress(SandboxError, OSError):
        box.close()
