"""Where tasks come from: rows of a suite as `Task`s, their broken trees, and the tests that judge.

tasks = load(TasksConfig(source="SWE-bench/SWE-bench_Verified", repositories=["sympy/sympy"]), limit=10)
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from swe_srl.errors import ConfigError, DataError
from swe_srl.tasks import bugfix, swebench
from swe_srl.tasks.variants import MARK, variant
from swe_srl.types import Task

if TYPE_CHECKING:
    from swe_srl.agent_config import TasksConfig

BUGFIX = Path(__file__).parents[2] / "environments" / "bugfix"
_FILES = (".json", ".jsonl", ".parquet")
Row = TypeVar("Row")


def load(config: TasksConfig, limit: int | None = None) -> list[Task]:
    """The tasks that a config names, in their source's order; with `ids`, in that order.

    Raises DataError for a source that cannot be read, an id that is not in it, and a chosen row that cannot be graded:
    a task that is left out silently would be missing from the denominator.
    """
    path = BUGFIX if config.source == "bugfix" else Path(config.source)
    if path.exists() and _is_suite(path):
        if config.complete is not None:
            raise ConfigError(f"tasks.complete: {path} is a bug-fix suite, whose rows need no completing")
        tasks = bugfix.load_tasks(path, config.split)
        if config.variants:
            tasks = [variant(task, number) for task in tasks for number in range(config.variants)]
        known = {task.task_id for task in tasks}
        tasks += [bugfix.load_task(path, name) for name in config.ids if MARK in name and name not in known]
        return _chosen(config, tasks, lambda task: (task.task_id, task.repository), limit)
    if config.variants:
        raise ConfigError(f"tasks.variants: only a bug-fix suite's tasks have other names, and {config.source} is none")
    rows = _rows(config.source, config.split)
    rows = _chosen(config, rows, lambda row: (row["instance_id"], str(row.get("repo"))), limit)
    if config.complete is not None:
        others = swebench.by_instance(_rows(config.complete, config.split))
        rows = [swebench.completed(row, others) for row in rows]
    return [swebench.task_of(row, config.source) for row in rows]


def digest(tasks: Iterable[Task]) -> str:
    """12 hexadecimal digits of all that the tasks are: their rows, and the packages that their trees are made from."""
    found, sources = hashlib.sha256(), dict[str, None]()
    for task in tasks:
        found.update(repr(replace(task, source="")).encode("utf-8", "surrogatepass"))
        sources |= {task.source: None} if task.source else {}
    for source in sources:
        for file in sorted(path for path in Path(source).rglob("*") if path.is_file() and path.suffix != ".pyc"):
            found.update(f"{file.relative_to(source)}\0".encode() + file.read_bytes())
    return found.hexdigest()[:12]


def _rows(source: str, split: str | None) -> list[swebench.Row]:
    path = Path(source)
    if path.is_file():
        return swebench.rows_of(path)
    if path.is_dir():
        files = sorted(file for suffix in _FILES for file in path.rglob(f"*{suffix}"))
        named = [file for file in files if split is None or file.stem.startswith(split)]
        if not named:
            raise DataError(f"{path}: no {' or '.join(_FILES)} file in it{f' of the split {split!r}' if split else ''}")
        return [row for file in named for row in swebench.rows_of(file)]
    if path.suffix in _FILES or source.startswith((".", "/")):
        raise DataError(f"tasks.source: there is no {source}")
    return swebench.rows_of_data_set(source, split)


def _chosen(
    config: TasksConfig, rows: list[Row], names: Callable[[Row], tuple[str, str]], limit: int | None
) -> list[Row]:
    """Those of `ids`, then of `repositories`, then the first `limit`; no task is there twice, or it would be counted
    once and requested twice.
    """
    from swe_srl.loading import nearest

    if twice := [name for name, count in Counter(config.ids).items() if count > 1]:
        raise ConfigError(f"tasks.ids names {twice[0]!r} twice")
    if config.ids:
        known = {names(row)[0]: row for row in rows}
        for name in config.ids:
            if name not in known:
                raise DataError(f"{config.source}: no task {name!r}{nearest(name, set(known))}; there are {len(known)}")
        rows = [known[name] for name in config.ids]
    if config.repositories:
        there = {names(row)[1] for row in rows}
        for name in config.repositories:
            if name not in there:
                raise DataError(f"{config.source}: no task of {name!r}{nearest(name, there)}")
        rows = [row for row in rows if names(row)[1] in config.repositories]
    if not rows:
        raise DataError(f"{config.source}: holds no task")
    if twice := [name for name, count in Counter(names(row)[0] for row in rows).items() if count > 1]:
        raise DataError(f"{config.source}: {len(twice)} instances are there more than once, such as {twice[0]}")
    return rows[:limit]


def _is_suite(path: Path) -> bool:
    """Whether a file or folder is a bug-fix suite's: its rows have the command that tests them."""
    file = path / "tasks.jsonl" if path.is_dir() else path
    if file.suffix != ".jsonl" or not file.is_file():
        return False
    with file.open(encoding="utf-8") as stream:
        try:
            row = json.loads(stream.readline())
        except ValueError:
            return False
    return isinstance(row, dict) and "test_command" in row
