"""A sandbox's writable files: an overlay whose upper lies on a tmpfs of limited size.

One mechanism for three things: the disk limit (the tmpfs is full), forks (the upper is copied once, and the copy
is another lower layer of every child; all unchanged bytes are shared), and cleaning up (the tmpfs goes).

The parent of a fork keeps its own upper and goes on undisturbed, its background processes too. Freezing that
upper itself would save the copy, but a running process may not have it pulled away: measured, the copy costs
as much as the mounts for a change of 1 MB, and it is bounded by the disk limit.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

from swe_srl.sandboxes.limits import Limits
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

    def let_go(self) -> str:
        """The script lines that remove it, if nothing uses it any longer."""
        with self._lock:
            self._uses -= 1
            return _removing(self._name) if self._uses == 0 else ""


class Overlay:
    """One sandbox's files, at `merged` in the namespace, once a shell there has run `mounting()`."""

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

    def mounting(self) -> str:
        """The script lines that mount it."""
        links = [f"ln -s {shlex.quote(str(folder))} {self.name}/{n}" for n, folder in enumerate(self._base)]
        lowers = [layer.folder for layer in self._frozen] + [f"{self.name}/{n}" for n in range(len(self._base))]
        # trusted.* attributes need root. With redirect_dir a folder of a lower layer can be renamed; the kernel
        # refuses that to an ordinary user, for whom such a rename is EXDEV, as it is in Docker: `mv` copies.
        special = "redirect_dir=on,metacopy=off" if self.space.as_root else "userxattr"
        options = f"lowerdir={':'.join(lowers)},upperdir={self.name}/upper,workdir={self.name}/work,{special}"
        return "\n".join(
            [
                f"mkdir {self.name}",
                _tmpfs(self.name, self._limits),
                f"mkdir {self.name}/upper {self.name}/work {self.name}/merged",
                *links,
                f"mount -t overlay -o nosuid,nodev,{options} overlay {self.name}/merged",
                # For those who come by the upper (`fork` copies it while the sandbox runs): a folder that becomes a
                # link to /etc between two looks at it would be the machine's own. What it holds is not concerned.
                f"mount -o remount,bind,nosymfollow {self.name}",
            ]
        )

    def fork(self) -> Overlay:
        """Another one with the same content; its files are as they are now. Raises SandboxError."""
        if self._copy is None:
            name = self.space.name("f")
            old = "\n".join(layer.let_go() for layer in self._old)
            self._old.clear()
            # A file that goes while it is read fails the copy: then once more. Nothing is written to the original.
            copy = f"cp -a {self.name}/upper {name}/ 2>&1"
            again = f"{{ rm -rf {name}/upper; {copy}; }}"
            self.space.run(f"{old}\nmkdir {name}\n{_tmpfs(name, self._limits)}\n{copy} || {again} || {again} >&2")
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
        self.space.run("\n".join([_removing(self.name), *(layer.let_go() for layer in used)]))


def _tmpfs(name: str, limits: Limits) -> str:
    # mode=755: what is mounted from it is the sandbox's, the folder itself is not.
    options = f"size={limits.disk_bytes},nr_inodes={limits.files},mode=755,nosuid,nodev"
    return f"mount -t tmpfs -o {options} swe-srl {name}"


def _removing(name: str) -> str:
    """Lazily: a process that is about to end may still be in it. Not mounted at all is fine too."""
    return f"umount -l {name}/merged 2>/dev/null || :\numount -l {name} 2>/dev/null || :\nrmdir {name} 2>/dev/null || :"
