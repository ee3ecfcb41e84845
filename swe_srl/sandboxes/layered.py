"""A sandbox's tree where we cannot mount (an ordinary user, a daemon elsewhere): in the container's own layer.

A fork is `docker commit`, whose layer holds what was changed, and a new container on it. Docker cannot limit the
size of a layer on most file systems, so a watchdog asks how large each has become, and ends what exceeds the
limit: a sandbox can be a second's writing beyond it, and the number of its files is not bounded.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import tarfile
import threading
import time
import weakref
from pathlib import Path

from swe_srl.errors import SandboxError
from swe_srl.sandboxes import TREE, worktree
from swe_srl.sandboxes.container import Container, close_guests
from swe_srl.sandboxes.daemon import RUN, Daemon, daemon, told
from swe_srl.sandboxes.limits import MIB
from swe_srl.sandboxes.per_process import per_process

_EVERY_S = 1.0
_END_S = 10.0  # what the removal of images may take when this process ends


class CommittedImage:
    """What a fork's containers start from; removed when the last of those that use it lets it go."""

    def __init__(self, host: Daemon, container: Container) -> None:
        self._daemon = host
        self._uses = 0
        self._lock = threading.Lock()
        labels = " ".join(f'"{key}"="{value}"' for key, value in host.labels.items())
        with told("cannot commit a container"):
            # Paused meanwhile, so that no file is half of one moment and half of another.
            self.id: str = host.client.commit(container.id, changes=[f"LABEL {labels}"])["Id"]
        _images().add(self)

    def take(self) -> None:
        with self._lock:
            self._uses += 1

    def let_go(self) -> None:
        with self._lock:
            self._uses -= 1
            unused = self._uses == 0
        if unused:
            self.remove()

    def remove(self) -> bool:
        """Whether it is removed: a container that uses it may still be about to go."""
        with contextlib.suppress(SandboxError), told("cannot remove a committed image"):
            self._daemon.client.remove_image(self.id, force=True)
            _images().discard(self)
            return True
        return False


@per_process
def _images() -> set[CommittedImage]:
    """Those of this process that are not removed. At its end, after Ctrl-C too, all of them are."""
    found: set[CommittedImage] = set()
    atexit.register(_remove_all, os.getpid(), found)
    return found


def _remove_all(pid: int, images: set[CommittedImage]) -> None:
    if os.getpid() != pid or not images:
        return
    close_guests()  # and with them their containers
    deadline_s = time.monotonic() + _END_S
    while images and time.monotonic() < deadline_s:
        for image in list(images):
            image.remove()
        time.sleep(0.05)


class LayerTree:
    """`source` is copied in when a container is entered first; a fork finds everything in its image."""

    def __init__(self, source: Path | None, image: CommittedImage | None = None) -> None:
        self._source, self.image = source, image
        self._copy: CommittedImage | None = None  # of the container as it is now
        self._closed = False
        if image is not None:
            image.take()

    def enter(self, container: Container, _slot: object) -> None:
        if self._source is not None:
            uid, gid = _ids(container)
            with told("cannot copy the work tree into a container"):
                daemon().client.put_archive(container.id, "/", _packed(self._source, uid, gid))
        _watchdog().watch(container)

    def changed(self) -> None:
        if self._copy is not None:
            self._copy.let_go()
            self._copy = None

    def fork(self, container: Container) -> LayerTree:
        if self._copy is None:
            self._copy = CommittedImage(daemon(), container)
            self._copy.take()
        return LayerTree(None, self._copy)

    def close(self) -> None:
        """Once its container has ended: an image that is used cannot be removed."""
        if self._closed:
            return
        self._closed = True
        self.changed()
        if self.image is not None:
            self.image.let_go()


def _ids(container: Container) -> tuple[int, int]:
    """The numbers of the image's user, which only the container knows where its name was given."""
    uid, gid = container.guest.exec("id -u; id -g", 30).output.split()
    return int(uid), int(gid)


def _packed(source: Path, uid: int, gid: int) -> bytes:
    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid, entry.gid, entry.uname, entry.gname = uid, gid, "", ""
        return entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(worktree.layer(source, os.geteuid()) / "testbed", TREE.strip("/"), filter=owned)
    return packed.getvalue()


class _Watchdog:
    """Asks the daemon for the sizes of all watched containers at once, and stops those that are too large."""

    def __init__(self) -> None:
        self._watched: weakref.WeakValueDictionary[str, Container] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, container: Container) -> None:
        with self._lock:
            self._watched[container.id] = container
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="swe-srl-docker-disk", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        wait = threading.Event()
        while not wait.wait(_EVERY_S):
            with self._lock:
                watched = {key: box for key, box in self._watched.items() if not box.ended}
                if not watched:
                    self._thread = None
                    return
            with contextlib.suppress(SandboxError), told("cannot ask for sizes"):
                host = daemon()
                for row in host.client.containers(size=True, filters={"label": f"{RUN}={host.labels[RUN]}"}):
                    box = watched.get(row["Id"])
                    if box is not None and row.get("SizeRw", 0) > box.limits.disk_bytes:
                        mib = box.limits.disk_bytes // MIB
                        box.stop(f"it wrote more than its disk limit of {mib} MiB, and was stopped")


@per_process
def _watchdog() -> _Watchdog:
    return _Watchdog()
