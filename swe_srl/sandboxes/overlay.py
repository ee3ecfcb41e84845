"""A sandbox's writable files: an overlay whose upper lies on a tmpfs of limited size.

One mechanism for three things: the disk limit (the tmpfs is full), forks (the upper is copied once, and the copy
is another lower layer of every child; all unchanged bytes are shared), and cleaning up (the tmpfs goes).

The parent of a fork keeps its own upper and goes on undisturbed, its background processes too. Freezing that
upper itself would save the copy, but a running process may not have it pulled away: measured, the copy costs
as much as the mounts for a change of 1 MB, and it is bounded by the disk limit.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from swe_srl.sandboxes.limits import Limits
from swe_srl.sandboxes.mounts import Again, Folder, Link, Mount, NoFolder, Script, Step, Unmount
from swe_srl.sandboxes.namespace import Namespace


class Frozen:
    """A copy of an upper that never changes, until the last of those that use it lets it go."""

    def __init__(self, space: Namespace, name: str) -> None:
        self._space = space
        self._name = name
        self._uses = 0
        self._lock = threading.Lock()
        self.folder = f"{name}/upper"

    def take(self) -> None:
        with self._lock:
            self._uses += 1

    def let_go(self) -> list[Step]:
        """What removes it, if nothing uses it any longer."""
        with self._lock:
            self._uses -= 1
            return _removing(self._name) if self._uses == 0 else []


class Overlay:
    """One sandbox's files, at `merged` in the namespace, once the steps of `mounting()` were taken."""

    def __init__(self, space: Namespace, base: Sequence[Path], limits: Limits, frozen: Sequence[Frozen] = ()) -> None:
        """`base`: folders that never change, the topmost first; `frozen` lies above them."""
        self.space = space
        self.name = space.name("s")
        self.merged = space.area / self.name / "merged"
        self._base = tuple(base)
        self._limits = limits
        self._frozen = tuple(frozen)
        self._copy: Frozen | None = None  # of the upper as it is now
        self._old: list[Frozen] = []
        self._closed = False
        for layer in self._frozen:
            layer.take()

    def mounting(self) -> list[Step]:
        """What mounts it."""
        links = [Link(f"{self.name}/{n}", str(folder)) for n, folder in enumerate(self._base)]
        lowers = [layer.folder for layer in self._frozen] + [link.path for link in links]
        # trusted.* attributes need root. With redirect_dir a folder of a lower layer can be renamed; the kernel
        # refuses that to an ordinary user, for whom such a rename is EXDEV, as it is in Docker: `mv` copies.
        special = "redirect_dir=on,metacopy=off" if self.space.as_root else "userxattr"
        options = f"lowerdir={':'.join(lowers)},upperdir={self.name}/upper,workdir={self.name}/work,{special}"
        folders = [Folder(f"{self.name}/{name}") for name in ("upper", "work", "merged")]
        mount = Mount("overlay", f"{self.name}/merged", f"nosuid,nodev,{options}")
        # For those who come by the upper (`fork` copies it while the sandbox runs): a folder that becomes a link to
        # /etc between two looks at it would be the machine's own. What it holds is not concerned.
        closed = Again(self.name, "nosuid,nodev,nosymfollow")
        return [Folder(self.name), _tmpfs(self.name, self._limits), *folders, *links, mount, closed]

    def fork(self) -> Overlay:
        """Another one with the same content; its files are as they are now. Raises SandboxError."""
        if self._copy is None:
            name = self.space.name("f")
            old = [step for layer in self._old for step in layer.let_go()]
            self._old.clear()
            # A file that goes while it is read fails the copy: then once more. Nothing is written to the original.
            copy = f"cp -a {self.name}/upper {name}/ 2>&1"
            again = f"{{ rm -rf {name}/upper; {copy}; }}"
            copied = Script(f"{copy} || {again} || {again} >&2")
            self.space.do([*old, Folder(name), _tmpfs(name, self._limits), copied])
            self._copy = Frozen(self.space, name)
            self._copy.take()
        return Overlay(self.space, self._base, self._limits, (self._copy, *self._frozen))

    def changed(self) -> None:
        """Something ran: the next fork makes a new copy. The old one goes with this sandbox, or before."""
        if self._copy is not None:
            self._old.append(self._copy)
            self._copy = None

    def close(self) -> None:
        """Unmount it, and the copies that nothing else uses."""
        if self._closed:
            return
        self._closed = True
        self.changed()
        used = [*self._frozen, *self._old]
        self.space.do([*_removing(self.name), *(step for layer in used for step in layer.let_go())])


def _tmpfs(name: str, limits: Limits) -> Mount:
    # mode=755: what is mounted from it is the sandbox's, the folder itself is not.
    return Mount("tmpfs", name, f"size={limits.disk_bytes},nr_inodes={limits.files},mode=755,nosuid,nodev")


def _removing(name: str) -> list[Step]:
    return [Unmount(f"{name}/merged"), Unmount(name), NoFolder(name)]
