"""Where a run's sandboxes are opened: on this machine, or on the nodes of a fleet.

with placed(config.sandbox, tasks) as place:
    with place.pool("attempts", max_open=8, pull=True) as pool: ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from swe_srl.errors import ConfigError
from swe_srl.sandboxes.choice import chosen
from swe_srl.sandboxes.pool import Pool
from swe_srl.tasks import images
from swe_srl.tasks.opening import refuse_images_without_isolation
from swe_srl.types import Task

if TYPE_CHECKING:
    from swe_srl.agent_config import Limits
    from swe_srl.config import Spread
    from swe_srl.runs import Run

AnyLimits = TypeVar("AnyLimits", bound="Limits")
EVENT_S = 30.0  # between two rows of a fleet in a run's events


class Place(Protocol):
    """`kind` is that of its sandboxes; `words` and `row` tell what is seen of several machines, and nothing of one."""

    @property
    def kind(self) -> str: ...

    def pool(self, what: str, *, max_open: int, pull: bool) -> Pool:
        """Sandboxes for `what`, which a ledger is kept by."""

    def ahead(self, tasks: Iterable[Task], *, prune: bool, pull: bool) -> None:
        """Have the tasks' images here, as `tasks.images.ahead`."""

    def behind(self, task: Task) -> None:
        """Remove what a task's image takes."""

    @property
    def words(self) -> str: ...

    def row(self) -> dict[str, Any]:
        """For events; all its keys are of the clock."""


@dataclass(frozen=True, slots=True)
class Here:
    """This machine."""

    kind: str

    def pool(self, what: str, *, max_open: int, pull: bool) -> Pool:
        return Pool(self.kind, max_open=max_open, pull=pull)

    def ahead(self, tasks: Iterable[Task], *, prune: bool, pull: bool) -> None:
        images.ahead(tasks, prune=prune, pull=pull)

    def behind(self, task: Task) -> None:
        images.behind(task)

    @property
    def words(self) -> str:
        return ""

    def row(self) -> dict[str, Any]:
        return {}


@contextmanager
def placed(
    sandbox: Spread, tasks: Iterable[Task] = (), choose: Callable[[str | None], str] = chosen
) -> Iterator[Place]:
    """Where a config's sandboxes are opened; `choose` is how their kind is found on this machine.

    Raises ConfigError, also where no sandbox of that kind could be opened on one of the tasks.
    """
    if sandbox.fleet is None:
        kind = choose(sandbox.kind)
        refuse_images_without_isolation(tasks, kind)
        yield Here(kind)
        return
    try:
        from swe_srl.fleet import reach
    except ImportError as error:
        raise ConfigError(f"sandbox.fleet = \"ray\" needs it ({error}): pip install 'swe-srl[ray]'") from None
    with reach(sandbox.kind, sandbox.ray_address) as fleet:
        refuse_images_without_isolation(tasks, fleet.kind)
        yield fleet


def patient(limits: AnyLimits, rooms: Pool) -> AnyLimits:
    """The limits of attempts in these sandboxes: who has to wait for room is not said to have waited too long."""
    return limits.model_copy(update={"open_s": rooms.patience(limits.open_s)})


@contextmanager
def told(place: Place, run: Run) -> Iterator[Callable[[], None]]:
    """What is called in the block now and then writes a place's row to the run's events, as does the block's end.

    There is none of this machine.
    """
    last = time.monotonic()

    def tell() -> None:
        nonlocal last
        if time.monotonic() - last >= EVENT_S:
            last = time.monotonic()
            _event(place, run)

    try:
        yield tell
    finally:
        _event(place, run)


def together(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows of several processes' places as one: what each counts is summed."""
    found: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            old = found.get(name)
            if isinstance(value, dict):
                found[name] = together([old or {}, value])
            else:
                found[name] = value if old is None else round(old + value, 2)
    return found


def _event(place: Place, run: Run) -> None:
    if row := place.row():
        run.event(event="fleet", **row)
