"""The run directory: the whole truth about a run, in files that a kill leaves whole.

    config.toml            resolved
    events.jsonl           one line an event
    stages/1-sft/          rollouts/step_N.jsonl.zst, checkpoints/step_N/ and checkpoints/best, trainer_state/step_N/
    report.json

Events are appended; everything else is written aside, synced and renamed. What was appended after the last
saved state is cut off before a run goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import tomli_w
import zstandard
from pydantic import BaseModel

from swe_srl.copies import Copy
from swe_srl.disk import write_aside
from swe_srl.errors import ConfigError

Event = dict[str, Any]


class Run:
    """A run directory; `held` makes it or takes it up again. Of several processes one `writes`."""

    def __init__(self, folder: str | Path, config: BaseModel, *, writes: bool = True) -> None:
        self.folder = Path(folder)
        self._writes = writes
        self.events_path = self.folder / "events.jsonl"
        self._model = config
        self._config = tomli_w.dumps(_without_none(config.model_dump(by_alias=True)))
        self._copies: list[Copy] = []

    @contextlib.contextmanager
    def held(self, *copies: contextlib.AbstractContextManager[Copy]) -> Iterator[None]:
        """Keep other processes out of the run, and copy its events.

        The kernel frees the lock when the process dies, however it dies. Raises ConfigError, also if the
        folder belongs to another configuration.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._writes:
            yield
            return
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context((self.folder / ".lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"another process is at work on {self.folder}. Wait for it, or give another run=FOLDER"
                ) from None
            self._take_up()  # under the lock: it may remove what another process has just begun
            self._copies = [stack.enter_context(copy) for copy in copies]
            yield

    def _take_up(self) -> None:
        self.events_path.touch()
        path = self.folder / "config.toml"
        if path.exists() and not self._asks_the_same(before := path.read_bytes().decode()):
            if self.events_path.stat().st_size:
                changed = sorted(set(before.splitlines()) ^ set(self._config.splitlines()))
                raise ConfigError(
                    f"{self.folder} holds a run of another configuration; the lines that differ: "
                    f"{'; '.join(changed[:6])}. Give another run=FOLDER, or remove that folder to start afresh"
                )
            shutil.rmtree(self.folder / "model", ignore_errors=True)  # nothing was done yet: it may begin anew
        write_aside(path, self._config.encode())

    def _asks_the_same(self, before: str) -> bool:
        """Of a run that an earlier version began too: keys that it did not know may be at their defaults."""
        if before == self._config:
            return True
        not_default = self._model.model_dump(by_alias=True, exclude_defaults=True)
        return _agree(tomllib.loads(before), tomllib.loads(self._config), not_default)

    def stage_folder(self, number: int, name: str) -> Path:
        folder = self.folder / "stages" / f"{number}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def event(self, **fields: Any) -> Event:
        """Append one event; `time` is added. All that depends on the clock has a key that begins with "time"."""
        row = {**fields, "time": time.time()}
        if not self._writes:
            return row
        with self.events_path.open("ab") as file:
            file.write(orjson.dumps(row) + b"\n")
        for copy in self._copies:
            copy(row)
        return row

    def begin(self, **facts: Any) -> None:
        """The first event: what the run depends on beside its config. Raises ConfigError where that is another now."""
        with self.events_path.open("rb") as file:
            first = file.readline()
        if not first:
            self.event(event="began", **facts)
            return
        before: Event = orjson.loads(first)
        names = sorted({*before, *facts} - {"event", "time"}) if before["event"] == "began" else []
        if changed := [name for name in names if before.get(name) != facts.get(name)]:
            raise ConfigError(
                f"{self.folder} holds a run that began with other {' and other '.join(changed)}, which would be mixed "
                "with these. Give another run=FOLDER, or remove that folder to start afresh"
            )

    def events_bytes(self) -> int:
        """How long the events are now; they are synced, so that a state may refer to them."""
        if not self._writes:
            return 0
        with self.events_path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def cut_events(self, length: int) -> None:
        """Forget what was appended after a saved state."""
        if not self._writes:
            return
        with self.events_path.open("r+b") as file:
            file.truncate(length)


def read_events(folder: Path) -> list[Event]:
    """The events of a run directory, in order."""
    return [orjson.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as compressed JSON Lines."""
    text = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, zstandard.ZstdCompressor(level=3).compress(text))


def read_rows(path: Path) -> list[Event]:
    with zstandard.open(path, "rb") as file:
        return [orjson.loads(line) for line in file.read().splitlines()]


def _agree(before: Any, now: Any, not_default: Any) -> bool:
    """Whether all that `before` holds is in `now`, equal, and `now` has only defaults beyond it."""
    if isinstance(before, dict) and isinstance(now, dict):
        named = not_default if isinstance(not_default, dict) else {}
        return before.keys() <= now.keys() and all(
            _agree(before[key], value, named.get(key)) if key in before else key not in named
            for key, value in now.items()
        )
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        rows = not_default if isinstance(not_default, list) else [None] * len(now)
        return all(_agree(*row) for row in zip(before, now, rows, strict=True))
    return bool(before == now)


def _without_none(value: Any) -> Any:
    """TOML has no null: a key that is not set is not written."""
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value]
    return value
