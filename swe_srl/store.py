"""Our store: a folder in which any one trajectory can be read by its offset.

    trajectories.jsonl.zst   one zstd frame a trajectory, so that `zstdcat` reads the whole
    index.jsonl              one row a trajectory: where it is, and what one filters by

The first file is the truth and is replaced in one rename. The index is only a help: if it is missing it is
made again by walking the frames. So a writer that is killed leaves the old store or the new one.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import overload

import orjson
import zstandard

from swe_srl.disk import sync_folder
from swe_srl.errors import DataError
from swe_srl.formats.canonical import from_json, to_json
from swe_srl.formats.document import Malformed
from swe_srl.types import Trajectory

__all__ = ["IndexRow", "Store", "from_json", "is_store", "to_json", "with_unique_ids", "write_store"]

TRAJECTORIES = "trajectories.jsonl.zst"
INDEX = "index.jsonl"

_PARTS = {f".{TRAJECTORIES}.part", f".{INDEX}.part"}  # while a store is written
_CHUNK = 1 << 16
_DAMAGE = (zstandard.ZstdError, orjson.JSONDecodeError, Malformed)
_AGAIN = "Make the store again: swe-srl ingest LOGS --out DIR"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Where a trajectory's frame is, in bytes, and what one filters by. `steps` = turns with an action."""

    id: str
    offset: int
    length: int
    repository: str | None
    task_id: str | None
    steps: int
    resolved: bool | None
    format: str
    issue_hash: str


def is_store(folder: Path) -> bool:
    """Whether the folder was made by `write_store`."""
    return (folder / TRAJECTORIES).is_file()


def is_free(folder: Path) -> bool:
    """Whether a store may be written there: nothing is there, an older store, or what a killed writer left."""
    return is_store(folder) or not folder.is_dir() or {path.name for path in folder.iterdir()} <= _PARTS


def with_unique_ids(trajectories: Iterable[Trajectory]) -> Iterator[Trajectory]:
    """The same trajectories in order; the second with an id gets "-2" after it, the third "-3"."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last that was given to an id: a data set may have ten thousand runs of one

    def named(trajectory: Trajectory) -> Trajectory:
        id, number = trajectory.id, numbers.get(trajectory.id, 1)
        while id in taken:
            number += 1
            id = f"{trajectory.id}-{number}"
        taken.add(id)
        numbers[trajectory.id] = number
        return trajectory if id == trajectory.id else replace(trajectory, id=id)

    return map(named, trajectories)  # unlike a loop, it does not hold one while the next is read


# ------------------------------------------------------------------------------------------- writing


def write_store(folder: str | Path, trajectories: Iterable[Trajectory]) -> None:
    """Write a store, one trajectory in memory at a time. If the iterable raises, the old store stays."""
    folder = Path(folder)
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    data, index = folder / f".{TRAJECTORIES}.part", folder / f".{INDEX}.part"
    try:
        with data.open("wb") as frames, index.open("wb") as rows:
            for frame, row in map(_packed, with_unique_ids(trajectories)):
                rows.write(orjson.dumps(asdict(replace(row, offset=frames.tell())), option=orjson.OPT_APPEND_NEWLINE))
                frames.write(frame)
            for file in (frames, rows):
                file.flush()
                os.fsync(file.fileno())
        # No moment in between has new trajectories beside an old index: see the module's head.
        (folder / INDEX).unlink(missing_ok=True)
        data.replace(folder / TRAJECTORIES)
        index.replace(folder / INDEX)
        sync_folder(folder)
    finally:
        data.unlink(missing_ok=True)
        index.unlink(missing_ok=True)
        if not existed and not is_store(folder):
            folder.rmdir()


def _packed(trajectory: Trajectory) -> tuple[bytes, IndexRow]:
    """A trajectory's frame, and its row but for where the frame will be."""
    content = orjson.dumps(to_json(trajectory), option=orjson.OPT_APPEND_NEWLINE)
    frame = zstandard.ZstdCompressor(level=3).compress(content)
    return frame, _row(trajectory, 0, len(frame))


def _row(trajectory: Trajectory, offset: int, length: int) -> IndexRow:
    return IndexRow(
        id=trajectory.id,
        offset=offset,
        length=length,
        repository=trajectory.task.repository,
        task_id=trajectory.task.task_id,
        steps=len(trajectory.acted),
        resolved=trajectory.outcome.resolved,
        format=trajectory.provenance.format,
        issue_hash=hashlib.sha256(trajectory.issue.encode()).hexdigest()[:16],
    )


# ------------------------------------------------------------------------------------------- reading


class Store(Sequence[Trajectory]):
    """A store on disk. `rows` is in memory; a trajectory is read when asked for, the latest `keep` are kept."""

    def __init__(self, folder: str | Path, keep: int = 256) -> None:
        """Raises DataError if the folder is no store."""
        self.folder = Path(folder)
        self._keep = keep
        self._cache: OrderedDict[int, Trajectory] = OrderedDict()
        if not is_store(self.folder):
            raise DataError(
                f"{self.folder} is no store: it has no {TRAJECTORIES}. Make one: swe-srl ingest LOGS --out DIR"
            )
        # Held open: a store stays readable as it was when another is written in its place, or when it is removed.
        self._file = os.open(self.folder / TRAJECTORIES, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self.rows: tuple[IndexRow, ...] = tuple(self._read_index())

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Trajectory: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Trajectory]: ...
    def __getitem__(self, index: int | slice) -> Trajectory | Sequence[Trajectory]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        position = range(len(self))[index]  # negative numbers, and IndexError
        trajectory = self._cache.pop(position, None)
        if trajectory is None:
            trajectory = self._read(self.rows[position])
        self._cache[position] = trajectory  # the latest is last
        if len(self._cache) > self._keep:
            self._cache.popitem(last=False)
        return trajectory

    def __iter__(self) -> Iterator[Trajectory]:
        """One pass over the file; the cache is left alone."""
        return map(self._read, self.rows)

    def _read(self, row: IndexRow) -> Trajectory:
        frame = os.pread(self._file, row.length, row.offset)
        try:
            return from_json(orjson.loads(zstandard.ZstdDecompressor().decompress(frame)))
        except _DAMAGE as error:
            raise DataError(f"{self._at(row.offset)} is damaged ({error}). {_AGAIN}") from error

    def _read_index(self) -> list[IndexRow]:
        """The index if it fits the trajectories, else the frames' own."""
        size = os.fstat(self._file).st_size
        try:
            rows = [IndexRow(**orjson.loads(line)) for line in (self.folder / INDEX).read_bytes().splitlines()]
        except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
            return list(self._walk())
        return rows if sum(row.length for row in rows) == size else list(self._walk())

    def _walk(self) -> Iterator[IndexRow]:
        """The index, from the frames alone."""
        offset = 0
        while True:
            frame, parts, fed = zstandard.ZstdDecompressor().decompressobj(), [], 0
            try:
                while not frame.eof and (chunk := os.pread(self._file, _CHUNK, offset + fed)):
                    parts.append(frame.decompress(chunk))
                    fed += len(chunk)
                if not fed:
                    return
                length = fed - len(frame.unused_data)
                yield _row(from_json(orjson.loads(b"".join(parts))), offset, length)
            except _DAMAGE as error:
                raise DataError(f"{self._at(offset)} is damaged ({error}). {_AGAIN}") from error
            offset += length

    def _at(self, offset: int) -> str:
        return f"{self.folder / TRAJECTORIES}: the trajectory at byte {offset}"
