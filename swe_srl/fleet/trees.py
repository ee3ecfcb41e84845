"""A folder that a sandbox begins with, on its way to another machine."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from swe_srl.errors import SandboxError
from swe_srl.sandboxes.worktree import left_out


@dataclass(frozen=True, slots=True)
class Packed:
    """Names, bytes, modes and links of a folder, without what no sandbox gets of it (`worktree.left_out`)."""

    tar: bytes

    @classmethod
    def of(cls, folder: Path) -> Packed:
        """Raises SandboxError where it is no folder."""
        if not folder.is_dir():
            raise SandboxError(f"{folder} is no folder: a sandbox begins with a copy of one")
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(folder, ".", filter=_kept)
        return cls(file.getvalue())

    def unpack(self, folder: Path) -> Path:
        """Into a folder, which is made; nothing is left out of what this project packed itself."""
        with tarfile.open(fileobj=io.BytesIO(self.tar)) as tar:
            tar.extractall(folder, filter="fully_trusted")
        return folder


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = entry.name.rpartition("/")[2]
    if left_out("", [name]):
        return None
    return entry.replace(uid=0, gid=0, uname="", gname="", deep=False)  # an owner's number is this machine's
