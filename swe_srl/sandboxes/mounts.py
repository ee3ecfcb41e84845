"""Mounting as data. Each step can be taken by the kernel's own call, where this process may, and is a line of a shell
script, where another must: an ordinary user's namespace can only be entered by a new process.

Root's steps are taken by threads of ours that have entered the mount namespace. As processes (nsenter, sh, two of
mkdir, two of mount) they were a fifth of what a fork costs.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_MS_BIND, _MNT_DETACH = 0x1000, 2
# Those of mount(8)'s options that mount(2) wants as a number.
_FLAGS = {"nosuid": 2, "nodev": 4, "nosymfollow": 0x100, "remount": 0x20, "bind": _MS_BIND}


class Step(Protocol):
    """Paths may be relative to the area."""

    def take(self) -> None:
        """Raises OSError."""

    def line(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Folder:
    path: str

    def take(self) -> None:
        os.mkdir(self.path)

    def line(self) -> str:
        return f"mkdir {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Link:
    path: str
    target: str

    def take(self) -> None:
        os.symlink(self.target, self.path)

    def line(self) -> str:
        return f"ln -s {shlex.quote(self.target)} {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class File:
    path: str
    text: str

    def take(self) -> None:
        Path(self.path).write_text(self.text)

    def line(self) -> str:
        return f"printf %s {shlex.quote(self.text)} >{shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Mount:
    """`options` as mount(8) has them."""

    kind: str
    path: str
    options: str

    def take(self) -> None:
        words = self.options.split(",")
        flags = sum(_FLAGS.get(word, 0) for word in words)
        _mount("swe-srl", self.path, self.kind, flags, ",".join(word for word in words if word not in _FLAGS))

    def line(self) -> str:
        return f"mount -t {self.kind} -o {shlex.quote(self.options)} swe-srl {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Again:
    """Other flags for what is mounted already: all that it shall have."""

    path: str
    options: str

    def take(self) -> None:
        flags = sum(_FLAGS[word] for word in ("remount", "bind", *self.options.split(",")))
        _mount("none", self.path, "none", flags, "")

    def line(self) -> str:
        return f"mount -o remount,bind,{self.options} {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Bind:
    path: str
    source: str

    def take(self) -> None:
        _mount(self.source, self.path, "none", _MS_BIND, "")

    def line(self) -> str:
        return f"mount --bind {shlex.quote(self.source)} {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Unmount:
    """Lazily: a process that is about to end may still be in it. Not mounted at all is fine too."""

    path: str

    def take(self) -> None:
        _libc().umount2(os.fsencode(self.path), _MNT_DETACH)

    def line(self) -> str:
        return f"umount -l {shlex.quote(self.path)} 2>/dev/null || :"


@dataclass(frozen=True, slots=True)
class NoFolder:
    """Remove an empty one; any other stays, and so does none."""

    path: str

    def take(self) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(self.path)

    def line(self) -> str:
        return f"rmdir {shlex.quote(self.path)} 2>/dev/null || :"


@dataclass(frozen=True, slots=True)
class Script:
    """What needs a program anyway."""

    text: str

    def take(self) -> None:
        command = ["sh", "-euc", self.text]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True)
        if done.returncode != 0:
            raise OSError(0, (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-500:], self.text)

    def line(self) -> str:
        return self.text


def enter(namespace: int | None, area: Path) -> None:
    """Let this thread, alone of its process, be in a mount namespace (or stay) and in a folder. Raises OSError."""
    _checked(_libc().unshare(_CLONE_FS), "unshare")
    if namespace is not None:
        _checked(_libc().setns(namespace, _CLONE_NEWNS), "setns")
    os.chdir(area)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(source: str, path: str, kind: str, flags: int, data: str) -> None:
    texts = (os.fsencode(text) for text in (source, path, kind))
    _checked(_libc().mount(*texts, ctypes.c_ulong(flags), os.fsencode(data)), f"mount -t {kind} -o {data} {path}")


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
