"""Verdicts of a run: patches are graded while others are still being made, and each verdict is kept.

`verdicts.jsonl` has a line for each (task, patch): a run that goes on, or a second one in its folder, grades nothing
twice. Of several ranks each has its own file, and begins with what all of them know. What infrastructure kept from
being graded is not written: the next start grades it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from swe_srl.agent_config import GradeConfig
from swe_srl.disk import of_rank, of_ranks, write_aside
from swe_srl.episodes import Episode
from swe_srl.evaluate.grading import grade
from swe_srl.progress import bar
from swe_srl.sandboxes.pool import Pool
from swe_srl.types import Task, Verdict

FILE = "verdicts.jsonl"
Key = tuple[str, str]  # task, sha256 of the patch


class Judging:
    """Grades what it is given, `config.workers` patches at a time, in sandboxes of its own pool.

    Without a config it grades nothing: another will. `over` is told of each attempt that nothing is left to do for.
    """

    def __init__(
        self,
        folder: Path,
        pool: Pool,
        config: GradeConfig | None,
        over: Callable[[Task], None] | None = None,
        rank: int = 0,
    ) -> None:
        self._over = over
        self._path, self._pool, self._config = of_rank(folder / FILE, rank), pool, config
        self._lock = threading.Lock()
        self._known = _take_up(folder / FILE, self._path)
        self._asked: dict[Key, Future[Verdict]] = {}
        self._threads = ThreadPoolExecutor(config.workers if config is not None else 1, "swe-srl-grade")

    def __enter__(self) -> Judging:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Left early, what was not begun is not begun any more."""
        self._threads.shutdown(wait=error is None, cancel_futures=True)

    def take(self, task: Task, episode: Episode) -> None:
        """Grade an episode's patch, if there is one and it is not known what the tests say of it."""
        key = _key(episode) if self._config is not None else None
        if key is not None and key not in self._known and not self._is_asked(key):
            patch = episode.trajectory.outcome.patch or ""
            self._asked[key] = self._threads.submit(self._graded, key, task, patch)
        if self._over is not None:
            over = partial(self._over, task)
            if key in self._asked:
                self._asked[key].add_done_callback(lambda _: over())
            else:
                over()

    def verdict(self, episode: Episode) -> Verdict | None:
        """What the tests say of an episode that was taken, when they have said it; None for one without a patch."""
        key = _key(episode)
        return None if key is None else self._known.get(key) or self._asked[key].result()

    def _is_asked(self, key: Key) -> bool:
        """Whether it is being graded, or was. What infrastructure kept from that may be graded again."""
        future = self._asked.get(key)
        return future is not None and not (future.done() and future.result().resolved is None)

    @property
    def words(self) -> str:
        """How far it is, for a bar; "" where there is nothing to tell."""
        done = [future.result() for future in self._asked.values() if future.done()]  # or raise
        resolved = sum(bool(one.resolved) for one in done) + sum(bool(one.resolved) for one in self._known.values())
        graded = len(done) + len(self._known)
        return f"{graded} graded, {resolved} resolved" if graded else ""

    def finish(self, made: Sequence[Episode]) -> dict[tuple[str, int], Verdict]:
        """The verdicts by (task, sample), when all of them are there. An episode without a patch has none."""
        asked = list(self._asked.values())
        done = sum(future.done() for future in asked)
        if done < len(asked):
            with bar("grading", len(asked), done) as tick:
                for number, _ in enumerate(as_completed(asked), 1):
                    tick(number, self.words)
        found: dict[Key, Verdict] = self._known | {key: future.result() for key, future in self._asked.items()}
        return {one.key: found[key] for one in made if (key := _key(one)) is not None}

    def _graded(self, key: Key, task: Task, patch: str) -> Verdict:
        assert self._config is not None
        verdict = grade(task, patch, self._pool, self._config)
        if verdict.resolved is not None:
            row = {"task_id": key[0], "patch": key[1], "verdict": asdict(verdict)}
            with self._lock, self._path.open("ab") as file:
                file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                file.flush()
                os.fsync(file.fileno())
        return verdict


def _key(episode: Episode) -> Key | None:
    """None for what is not graded: no patch, or an attempt that is to be made again."""
    patch = episode.trajectory.outcome.patch
    if not episode.finished or patch is None or not patch.strip():
        return None
    return episode.task_id, hashlib.sha256(patch.encode("utf-8", "surrogateescape")).hexdigest()


def _take_up(plain: Path, own: Path) -> dict[Key, Verdict]:
    """The verdicts that are there, of all ranks; a last line that a kill tore is cut off one's own file."""
    found: dict[Key, Verdict] = {}
    for path in of_ranks(plain):
        *lines, torn = path.read_bytes().split(b"\n")
        if torn and path == own:
            write_aside(path, b"".join(line + b"\n" for line in lines))
        for row in map(orjson.loads, lines):
            found[row["task_id"], row["patch"]] = _verdict(row["verdict"])
    return found


def _verdict(values: Mapping[str, Any]) -> Verdict:
    return Verdict(**{**values, "failed": tuple(values["failed"])})
