"""What is measured of a sandbox, whoever made it. Standard library only: it runs in the peers' environment too.

A subject opens boxes; a box runs commands. Every figure is a list of times in ms, or a count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

PRINTED = "printf '%0100000d' 0"  # 100 KB by bash itself: no other program's time is in it
CHANGE = "head -c 1000000 /dev/urandom > change"
BRANCHES = 8
PARALLEL = (1, 8, 32)
LIMIT_S = 1.5


class Box(Protocol):
    def run(self, command: str, timeout_s: float) -> str: ...

    def runs(self, line: str) -> int:
        """How many processes with just this command line are in it."""

    def close(self) -> None: ...


class Subject(Protocol):
    def open(self) -> Box: ...

    def branches(self, box: Box) -> list[Callable[[], Box]] | None:
        """Fork it: what opens each branch. None where there is no such thing."""


def ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def side_by_side(calls: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [done.result() for done in [threads.submit(call) for call in calls]]


def measure(subject: Subject, repeats: dict[str, int]) -> dict[str, Any]:
    """`repeats`: of start, fork, and of commands with 1, 8 and 32 boxes (each box's); 0 attacks for none."""
    found: dict[str, Any] = {"start": [], "fork x8": []}

    def started() -> Box:
        box = subject.open()
        box.run("true", 60)
        return box

    for _ in range(repeats["start"]):
        began = time.perf_counter()
        box = started()
        found["start"].append((time.perf_counter() - began) * 1000)
        box.close()
    if any(repeats[str(count)] for count in PARALLEL):
        found |= commands(started, repeats)
    if repeats["fork"]:
        box = started()
        for _ in range(repeats["fork"]):
            box.run(CHANGE, 60)
            spent = forked(subject, box)
            if spent is not None:
                found["fork x8"].append(spent)
        box.close()
    if repeats["attacks"]:
        found["attacks"] = attacks(started)
    return found


def commands(started: Callable[[], Box], repeats: dict[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    boxes: list[Box] = side_by_side([started] * max(PARALLEL))
    try:
        for count in PARALLEL:
            for name, command in (("true", "true"), ("100 KB", PRINTED)):
                found[f"{name}, {count}"] = latencies(boxes[:count], command, repeats[str(count)])
        found["commands a second, 16"] = rate(boxes[:16], seconds=3)
    finally:
        side_by_side([box.close for box in boxes])
    return found


def latencies(boxes: list[Box], command: str, repeats: int) -> list[float]:
    """Each box in a thread of its own, all at once."""
    gate = threading.Barrier(len(boxes))

    def one(box: Box) -> list[float]:
        for _ in range(3):
            box.run(command, 60)
        gate.wait()
        return [ms(lambda: box.run(command, 60)) for _ in range(repeats)]

    return [time_ms for times in side_by_side([lambda box=box: one(box) for box in boxes]) for time_ms in times]


def rate(boxes: list[Box], seconds: float) -> float:
    end = time.perf_counter() + seconds

    def one(box: Box) -> int:
        count = 0
        while time.perf_counter() < end:
            box.run("true", 60)
            count += 1
        return count

    return sum(side_by_side([lambda box=box: one(box) for box in boxes])) / seconds


def forked(subject: Subject, box: Box) -> float | None:
    """ms until each of 8 branches has run its first command, which sees the change."""
    began = time.perf_counter()
    openers = subject.branches(box)
    if openers is None:
        return None
    branches: list[Box] = []

    def one(opener: Callable[[], Box]) -> None:
        branch = opener()
        branches.append(branch)
        assert "1000000" in branch.run("wc -c change", 60), "the branch lacks the change"

    side_by_side([lambda opener=opener: one(opener) for opener in openers])
    spent = (time.perf_counter() - began) * 1000
    side_by_side([branch.close for branch in branches])
    return spent


def attacks(started: Callable[[], Box]) -> dict[str, dict[str, Any]]:
    """Each in a box of its own: how long the call took, the machine's memory meanwhile, what still runs, what next."""
    tried = {
        "yes, limit 1.5 s": ("yes sandbox", "yes sandbox"),
        "sleep, limit 1.5 s": ("sleep 87.5", "sleep 87.5"),
        "daemon holds stdout": ("sleep 37.5 & echo started", "sleep 37.5"),
    }
    found = {}
    for name, (command, line) in tried.items():
        box = started()
        with memory_taken() as taken:
            spent = ms(lambda box=box, command=command: quiet(box, command, LIMIT_S))
        running = box.runs(line)
        after = ms(lambda box=box: quiet(box, "echo ok", 10))
        answers = "ok" in quiet(box, "echo ok", 10)
        box.close()
        found[name] = {
            "ms": spent,
            "MB": taken[0] / 1e6,
            "still runs": running,
            "next command ms": after,
            "next command works": answers,
        }
    return found


def quiet(box: Box, command: str, timeout_s: float) -> str:
    try:
        return box.run(command, timeout_s)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@contextmanager
def memory_taken() -> Iterator[list[float]]:
    """How many bytes less were free at the worst moment: of the whole machine, so other jobs are in it."""
    before, taken, done = _available(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            taken[0] = max(taken[0], before - _available())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield taken
    finally:
        done.set()
        thread.join()


def _available() -> float:
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return float(rows["MemAvailable"].split()[0]) * 1024
