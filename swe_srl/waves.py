"""Attempts that run in threads of their own share calls of one policy: a wave is the next turns of all that wait.

A wave starts when every attempt that takes part waits for its next answer, or, at the latest, when those that wait
have waited a quarter as long as the last wave took. So batches are large, and no slow sandbox costs the others more
than that quarter; who comes late is in a later wave. Seeds are of states, not of waves: in float32 what is answered
depends on a state and its seed alone, but for near ties. In bfloat16 a wave's size, which the clock decides, rounds
log-probabilities otherwise, and now and then another token is drawn.

An endpoint makes batches itself: with several calls at a time nobody waits, and each takes those who are there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

from swe_srl.cpu import CpuMeter
from swe_srl.errors import PolicyError
from swe_srl.policies import Policy, State
from swe_srl.types import Completion

_Asked = tuple[State, Future[tuple[Completion, float]]]

PATIENCE = 0.25  # of the last wave's seconds
_LAST_S = 30.0  # that a call under way may take when the waves are left


class Stopped(Exception):
    """The waves were closed: nobody wants the rest of this attempt."""


class Waves:
    """At most `calls` of the policy are under way at a time. A context manager: leaving it refuses all questions."""

    def __init__(self, policy: Policy, meter: CpuMeter, calls: int = 1) -> None:
        self._policy, self._meter, self._waits = policy, meter, calls == 1
        self._changed = threading.Condition()
        self._asked: list[_Asked] = []
        self._members = 0
        self._last_s = 0.0
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, name="swe-srl-waves", daemon=True) for _ in range(calls)]

    def __enter__(self) -> Waves:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        deadline = time.monotonic() + _LAST_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    @contextlib.contextmanager
    def taking_part(self) -> Iterator[None]:
        """Within the block a wave may wait for this thread."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def ask(self, state: State) -> tuple[Completion, float]:
        """The policy's answer, and the seconds of the call that it shared. Raises PolicyError, and Stopped."""
        future: Future[tuple[Completion, float]] = Future()
        with self._changed:
            if self._closed:
                raise Stopped
            self._asked.append((state, future))
            self._changed.notify_all()
        return future.result()

    def close(self) -> None:
        """Refuse what waits and whatever is asked from now on."""
        with self._changed:
            self._closed = True
            for _, future in self._asked:
                future.set_exception(Stopped())
            self._asked.clear()
            self._changed.notify_all()

    def _count(self, change: int) -> None:
        with self._changed:
            self._members += change
            self._changed.notify_all()

    def _serve(self) -> None:
        with self._meter.part("harness"):
            while wave := self._gather():
                self._answer(wave)

    def _answer(self, wave: list[_Asked]) -> None:
        began = time.monotonic()
        try:
            with self._meter.part("policy"):
                answers = self._policy([state for state, _ in wave])
            answered = list(zip(wave, answers, strict=True))
        except BaseException as error:  # a defect of ours ends the run where it is waited for
            for _, future in wave:
                future.set_exception(error)
            return
        took_s = self._last_s = time.monotonic() - began
        for (_, future), answer in answered:
            if isinstance(answer, PolicyError):
                future.set_exception(answer)
            else:
                future.set_result((answer, took_s))

    def _gather(self) -> list[_Asked]:
        """The next wave; none when the waves are closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closed)
            if self._waits:
                self._changed.wait_for(self._is_whole, timeout=PATIENCE * self._last_s)
            wave, self._asked = self._asked, []
            return wave

    def _is_whole(self) -> bool:
        return len(self._asked) >= self._members or self._closed
