"""Where sandboxes keep what is prepared once and shared by all: images, their root filesystems, work trees.

    $SWE_SRL_CACHE, else /var/cache/swe-srl for root, else $XDG_CACHE_HOME/swe-srl or ~/.cache/swe-srl

All of it can be deleted while no sandbox runs; it is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

SHARED = Path("/var/cache/swe-srl")  # root's, and readable by everyone: an ordinary user takes images from it


def folder(*names: str) -> Path:
    """The cache, or a folder in it, which is made."""
    if named := os.environ.get("SWE_SRL_CACHE"):
        top = Path(named)
    elif os.geteuid() == 0:
        top = SHARED
    else:
        top = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swe-srl"
    path = top.resolve().joinpath(*names)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def made_once(path: Path, *, durable: bool = True) -> Iterator[Path | None]:
    """Yield where to make a folder that does not exist yet, or None where another process was first.

    It takes its name at the end of the block. One process at a time makes anything beside it; what a killed
    one left is removed by the next. `durable`: whole even after a loss of power, at the cost of a sync.
    """
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            yield None
            return
        aside = path.with_name(path.name + ".part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
            if durable:
                os.sync()
            aside.rename(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
