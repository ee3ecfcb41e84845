"""What a person sees of long work, on stderr: a bar with an ETA on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Tick = Callable[[int, str], None]  # (how much is done, what to show beside it)
QUIET_S = 15.0  # between two lines where there is no terminal


@contextlib.contextmanager
def bar(title: str, total: int, done: int = 0, *, percent: bool = False) -> Iterator[Tick]:
    """A bar over `total` units, of which `done` are done before it starts; `percent` where the units say nothing."""
    with _shown(title, total, done, percent) as tick:
        yield lambda n, note: tick(n, total, note)


@contextlib.contextmanager
def counting(title: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that tells (done, total) as it goes on; `what` is the unit's plural."""
    with _shown(title, None, 0, False) as tick:
        yield lambda done, total: tick(done, total, what)


_open: list[Progress | None] = []  # this process's, outermost first; None where there is no terminal


@contextlib.contextmanager
def _shown(title: str, total: int | None, done: int, percent: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A bar within another's block stands under it, and is gone at its end."""
    within = bool(_open)
    with contextlib.ExitStack() as stack:
        progress = _open[0] if within else stack.enter_context(_terminal(percent)) if sys.stderr.isatty() else None
        _open.append(progress)
        stack.callback(_open.pop)
        if progress is None:
            yield _lines(title, done, percent, within)
            return
        task = progress.add_task(title, total=total, completed=done, note="")
        if within:
            stack.callback(progress.remove_task, task)
        yield lambda n, total, note: progress.update(task, completed=n, total=total, note=note)


def _terminal(percent: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(24),
        TaskProgressColumn() if percent else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),  # it may hold a file's name
        console=Console(stderr=True),
    )


def _lines(title: str, done: int, percent: bool, within: bool) -> Callable[[int, int, str], None]:
    """A line now and then, and one at the end; none at the end of what is within another bar."""
    began = told = time.monotonic()

    def line(n: int, total: int, note: str) -> None:
        nonlocal told
        now = time.monotonic()
        if (n >= total and not within) or now - told >= QUIET_S:
            told = now
            left = (now - began) / max(n - done, 1) * max(total - n, 0)
            share = f"{100 * n // total}%" if percent else f"{n}/{total}"
            print(f"{title}: {share}, ETA {left:.0f} s  {note}", file=sys.stderr, flush=True)

    return line
