"""The line to a cluster: nobody is on it any more when it is cut.

Ray must not be left while a thread waits for its answer: that would end the whole process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from swe_srl.errors import NodeLostError


class Line:
    """Counts the calls that are under way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls, self._cut = 0, False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Something is asked of Ray in the block. Raises NodeLostError once the line is cut."""
        with self._changed:
            if self._cut:
                raise NodeLostError("the cluster was left, and this sandbox with it")
            self._calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    def cut(self, limit_s: float) -> None:
        """Let nobody call any more, and wait for those who do."""
        with self._changed:
            self._cut = True
            self._changed.wait_for(lambda: self._calls == 0, limit_s)
