"""What a sandbox may use. One set for every isolating backend; a backend says by its promises which it keeps."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
# Of RLIMIT_CORE, in bytes: no file is as small, and where the machine pipes cores to a program of its own (core(5)),
# 1 keeps it from being run for a process of the sandbox. 0 does not.
CORE_BYTES = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """`disk_bytes` and `files` bound what it changes: the tree, /tmp and HOME together. They lie in memory and
    count as such, so `memory_bytes`, which is all processes and these files together, must be the larger."""

    memory_bytes: int = 4096 * MIB
    disk_bytes: int = 1024 * MIB
    files: int = 200_000
    file_bytes: int = 512 * MIB
    processes: int = 256
    open_files: int = 4096
    cpus: float = 2.0

    def __post_init__(self) -> None:
        assert self.disk_bytes < self.memory_bytes, "changed files lie in memory: disk_bytes < memory_bytes"
        assert self.file_bytes <= self.disk_bytes, "file_bytes <= disk_bytes"
