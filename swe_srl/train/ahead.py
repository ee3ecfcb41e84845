"""Batches that are drawn while updates run: sandboxes are slow, and an update need not wait for the newest weights.

With `max_lag` L batch u is drawn by the weights after max(0, u − L) updates, exactly: which samples there are does not
hang on who was faster. One thread draws batch after batch, by an engine of its own; at most L are ready ahead. What was
sampled by older weights is learnt from with truncated importance weights (`sampler_weight_cap`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING

from swe_srl.engines import Engine
from swe_srl.train.checkpoint import Progress
from swe_srl.train.sources import Cursor, Source
from swe_srl.train.take import Draw, take
from swe_srl.train_config import RlvrStage
from swe_srl.types import Group
from swe_srl.waves import Stopped

if TYPE_CHECKING:
    from torch import Tensor

Weights = Mapping[str, "Tensor"]


class Ahead:
    """A context manager: within it batches are drawn. Leaving it asks for no more; `join` waits for the last one.

    `progress` says where to begin, and `older` are weights by the updates they have had: those that a saved state
    kept, for the batches that lag behind it.
    """

    def __init__(
        self,
        source: Source,
        stage: RlvrStage,
        engine: Engine,
        total: int,
        progress: Progress,
        older: Mapping[int, Weights],
    ) -> None:
        self._source, self._stage, self._engine, self._total = source, stage, engine, total
        self._begin = replace(progress)
        self._versions = dict(older)
        self._changed = threading.Condition()
        self._ready: SimpleQueue[Draw | BaseException] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="swe-srl-ahead", daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for what is under way; it ends where its sandboxes are closed."""
        if self._thread.is_alive():
            self._thread.join()

    def publish(self, version: int, weights: Iterable[tuple[str, Tensor]]) -> None:
        """The weights after `version` updates; those that no batch to come is drawn by are let go."""
        kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights}
        with self._changed:
            self._versions[version] = kept
            for old in [one for one in self._versions if one < version - self._stage.max_lag]:
                del self._versions[old]
            self._changed.notify_all()

    def older(self, version: int) -> dict[int, Weights]:
        """The weights before these by which batches to come are drawn: a state needs them beside its own."""
        with self._changed:
            return {one: weights for one, weights in self._versions.items() if one < version}

    def take(self) -> Draw:
        """The next batch. Raises what drawing it raised."""
        draw = self._ready.get()
        if not isinstance(draw, Draw):
            raise draw
        return draw

    def _work(self) -> None:
        update, cursor = self._begin.step, self._begin.cursor
        try:
            while update < self._total and self._loaded(update):
                draw = take(_Asked(self._source, self), self._stage, Progress(step=update, cursor=cursor))
                self._ready.put(draw)
                if draw.converged:
                    return
                update, cursor = update + 1, draw.cursor
        except BaseException as error:  # raised where the batch is waited for
            self._ready.put(error)

    @property
    def stopped(self) -> bool:
        return self._stopped

    def _loaded(self, update: int) -> bool:
        """Put the batch's weights into the engine, when they are there; False where no more is asked for."""
        version = max(0, update - self._stage.max_lag)
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or version in self._versions)
            if self._stopped:
                return False
            weights = self._versions[version]
        self._engine.load_weights(weights.items())
        return True


@dataclass(frozen=True, slots=True)
class _Asked:
    """A source while it is asked for more: with its sandboxes closed each draw to come would be lost, one by one."""

    source: Source
    ahead: Ahead

    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        for group in self.source.groups(update, cursor):
            if self.ahead.stopped:
                raise Stopped
            yield group

    def is_live(self, group: Group) -> bool:
        return self.source.is_live(group)
