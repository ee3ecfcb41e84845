"""Whose a container, a mount or a folder is: the process that made it, told apart from a later one of its number."""

from __future__ import annotations

import os
from pathlib import Path

FOLDERS = "swe-srl-"


def me() -> str:
    """This process, as `pid-start`: the start in clock ticks since boot."""
    pid = os.getpid()
    return f"{pid}-{_start(pid)}"


def temporary() -> str:
    """The prefix of this process's temporary folders, by which they are found after a kill (`reaper.py`)."""
    return f"{FOLDERS}{me()}-"


def host() -> str:
    """Where process numbers mean something: this boot, and this space of process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"


def is_dead(owner: str) -> bool:
    """Whether a process of this host has ended. What is no owner's name is nobody's to remove: False."""
    pid, _, start = owner.partition("-")
    if not (pid.isdecimal() and start.isdecimal()):
        return False
    return _start(int(pid)) != start


def _start(pid: int) -> str | None:
    """None where there is no such process; one that ended and was not yet waited for holds nothing either."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else fields[19]
