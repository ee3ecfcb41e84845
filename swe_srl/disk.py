"""Files that a kill leaves whole: written aside, synced, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_aside(path: Path, data: bytes) -> None:
    """Replace a file at once: a kill leaves the old one or the new one."""
    aside = path.with_name(path.name + ".tmp")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """Fill a folder aside; it takes its name when all of it is on disk."""
    aside = path.with_name(path.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    yield aside
    for file in aside.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    sync_folder(aside)
    shutil.rmtree(path, ignore_errors=True)
    aside.rename(path)
    sync_folder(path.parent)


def of_rank(path: Path, rank: int) -> Path:
    """The file of one of several processes, each of which appends to its own; the first one's has the plain name."""
    return path.with_name(f"{path.stem}.rank_{rank}{path.suffix}") if rank else path


def of_ranks(path: Path) -> list[Path]:
    """Those that are there, however many processes wrote them."""
    return [*([path] if path.exists() else []), *sorted(path.parent.glob(f"{path.stem}.rank_*{path.suffix}"))]


def link_aside(path: Path, target: str) -> None:
    """Point a symbolic link somewhere else at once."""
    aside = path.with_name(path.name + ".tmp")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    aside.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
