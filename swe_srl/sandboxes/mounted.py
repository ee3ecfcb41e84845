"""A sandbox's tree where the daemon sees what we mount: an overlay, which appears in a container that already runs.

The container is started with an empty folder of ours at each place that is written to, as a slave mount; the
overlay is mounted on these folders afterwards and propagates into it. So containers can wait, started, for
whatever tree is needed next, and a fork costs a few mounts.

The mounts lie in the machine's own mount namespace, below one folder per process, and are removed when it exits;
after a kill by the next one (`reaper.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from swe_srl.errors import SandboxError
from swe_srl.sandboxes import TREE, owner, worktree
from swe_srl.sandboxes.container import Container
from swe_srl.sandboxes.images import Image
from swe_srl.sandboxes.limits import Limits
from swe_srl.sandboxes.mounts import Bind, NoFolder, Step, Unmount
from swe_srl.sandboxes.namespace import Namespace, threads
from swe_srl.sandboxes.overlay import Overlay
from swe_srl.sandboxes.per_process import per_process

AREAS = Path("/run/swe-srl")
_NOT_BOUND = (".swe-srl", "dev", "proc", "sys")


class HostSpace(Namespace):
    """The machine's own mount namespace; `area` is this process's folder in it."""

    def __init__(self) -> None:
        self.as_root = True
        self._threads = None
        self.area = AREAS / owner.me()
        self._numbers = itertools.count()
        self._pid = os.getpid()
        self.area.mkdir(parents=True, exist_ok=True)
        self.area.chmod(0o700)
        # Shared within itself alone: what is mounted in it reaches the containers that have a folder of it.
        self.run(
            "mount -t tmpfs -o mode=700,size=64m,nosuid,nodev swe-srl . && cd . && mount --make-private "
            f"{self.area} && mount --make-shared {self.area}"
        )
        self._threads = threads(None, self.area)
        atexit.register(self._end)

    def entering(self, script: str) -> list[str]:
        # A session of its own: Ctrl-C is the harness's.
        return ["setsid", "--wait", "sh", "-euc", f"cd {shlex.quote(str(self.area))}\n{script}"]

    def _end(self) -> None:
        if os.getpid() == self._pid:
            remove_area(self.area)


@per_process
def _space() -> HostSpace:
    return HostSpace()


def remove_area(area: Path) -> None:
    """Unmount all that lies in a process's folder, and the folder."""
    subprocess.run(["umount", "--recursive", "--lazy", str(area)], capture_output=True, check=False)
    with contextlib.suppress(OSError):
        area.rmdir()


class Slot:
    """The empty folders of one container, and where in it each is."""

    def __init__(self, parts: Mapping[str, str]) -> None:
        """`parts`: where in the container → which part of a merged tree."""
        self._space = _space()
        self._name = self._space.name("c")
        self._parts = parts
        self.binds = {target: str(self._space.area / self._name / part) for target, part in parts.items()}
        for source in self.binds.values():
            Path(source).mkdir(parents=True)

    def filling(self, overlay: Overlay) -> list[Step]:
        """What lets an overlay appear in the container."""
        return [Bind(f"{self._name}/{part}", f"{overlay.name}/merged/{part}") for part in self._parts.values()]

    def close(self) -> None:
        folders = [f"{self._name}/{part}" for part in self._parts.values()]
        self._space.do([*map(Unmount, folders), *map(NoFolder, folders), NoFolder(self._name)])


def parts_of(image: Image) -> dict[str, str]:
    """What is written to: of an image of ours the tree, /tmp and HOME; of any other all its folders."""
    if image.ours:
        return {TREE: "testbed", "/tmp": "tmp", image.home: "home"}
    folders = [path.name for path in image.rootfs.iterdir() if path.is_dir() and not path.is_symlink()]
    return {f"/{name}": name for name in folders if name not in _NOT_BOUND}


class MountedTree:
    """One sandbox's overlay; in the container's slot once it was entered."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    @classmethod
    def of(cls, source: Path | None, image: Image, limits: Limits) -> MountedTree:
        """`source`: the folder that is the work tree; None for the image's own. Raises SandboxError."""
        base: Sequence[Path] = [] if source is None else [worktree.layer(source, image.uid)]
        if not image.ours:
            base = [*base, image.rootfs]
        if not base:
            raise SandboxError(f"the image {image.name} holds no work tree")
        return cls(Overlay(_space(), base, limits))

    def enter(self, _container: Container, slot: Slot | None) -> None:
        assert slot is not None
        self._overlay.space.do([*self._overlay.mounting(), *slot.filling(self._overlay)])

    def changed(self) -> None:
        self._overlay.changed()

    def fork(self, _container: Container) -> MountedTree:
        return MountedTree(self._overlay.fork())

    def close(self) -> None:
        self._overlay.close()
