"""The images that tasks begin with: pulled ahead, looked at once for the repository's future, pruned behind.

An image is looked at when a task first needs it. One whose repository holds nothing beyond its HEAD is used as it is;
from any other a cleaned one is made, `swe-srl-clean:<its id>`, once for this daemon. Either way that tag says that the
image was looked at.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from swe_srl.errors import ConfigError, SandboxError
from swe_srl.sandboxes import ImageTree, cache
from swe_srl.sandboxes.daemon import Daemon, daemon, told
from swe_srl.tasks.future import clean, has_more
from swe_srl.types import Task

CLEAN = "swe-srl-clean"
_AVERAGE_BYTES = 2_500_000_000  # of one of SWE-bench's, unpacked
_UNPACKED = 3.0  # times what a registry sends
_ASKED = 4  # images whose size a registry is asked for; the others are taken to be like them
_ASK_S = 20.0
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def needed(tasks: Iterable[Task]) -> list[str]:
    """The tasks' images, each once."""
    return list(dict.fromkeys(task.image for task in tasks if task.image is not None))


def ahead(tasks: Iterable[Task], *, prune: bool, pull: bool = True) -> dict[str, str]:
    """Pull the tasks' absent images, and return those that cannot be had, with the reason.

    With `prune` nothing is pulled yet: each comes when it is needed; without `pull` nothing ever. Raises ConfigError,
    before anything is pulled, where they do not fit on the disk.
    """
    from swe_srl.progress import bar

    wanted = needed(tasks)
    if not wanted or prune or not pull:
        return {}
    absent = [name for name in wanted if not _is_here(name)]
    if not absent:
        return {}
    refuse_what_does_not_fit(absent)
    missing = {}
    with bar("images", len(absent)) as tick:
        for number, name in enumerate(absent, 1):
            try:
                _pull(name)
            except SandboxError as error:
                missing[name] = str(error)
            tick(number, f"{len(missing)} missing")
    return missing


@dataclass(frozen=True, slots=True)
class Clean:
    """An agent's: the image without its repository's future, wherever the sandbox is opened."""

    name: str
    kind: str
    pull: bool

    def tree(self) -> ImageTree:
        return ImageTree(without_future(self.name, self.kind, pull=self.pull))


@dataclass(frozen=True, slots=True)
class AsGiven:
    """The graders': the image as it was published."""

    name: str
    kind: str
    pull: bool
    network: bool

    def tree(self) -> ImageTree:
        have(self.name, self.kind, pull=self.pull)
        return ImageTree(self.name, network=self.network)


def without_future(name: str, kind: str, *, pull: bool = True) -> str:
    """The name of an image whose repository holds nothing beyond its HEAD: this one, or one made from it.

    It is pulled where it is absent, if it may be. Where no daemon answers, an image that was looked at before is known
    by its name. Raises SandboxError, "image missing: …" where it cannot be had.
    """
    note = cache.folder("looked-at") / _file_name(name)
    have(name, kind, pull=pull)
    with _locks[name]:
        try:
            host = daemon()
        except SandboxError:
            if kind != "docker" and note.is_file():
                return note.read_text()
            raise
        with told(f"cannot look at the image {name}"):
            said = host.client.inspect_image(name)  # type: ignore[no-untyped-call]
        if said["Architecture"] not in _architectures(host):
            raise SandboxError(f"image missing: {name} is for {said['Architecture']}, and this machine is not")
        tag = f"{CLEAN}:{said['Id'].removeprefix('sha256:')[:24]}"
        clean = _id_of(host, tag)
        if clean is None:
            clean = _look(host, name, said["Id"], tag)
        found = name if clean == said["Id"] else tag
        note.write_text(found)
        return found


def have(name: str, kind: str, *, pull: bool = True) -> None:
    """Pull an image where it is absent, if it may be. Raises SandboxError, "image missing: …" where there is none."""
    if kind == "docker":
        daemon()
    with _locks[name]:
        if _is_here(name):
            return
        if not pull:
            raise SandboxError(f"image missing: {name} is not here, and images.pull is false")
        _pull(name)


def behind(task: Task) -> None:
    """Remove what a task's image takes: the image, the cleaned one, and what was unpacked of both. Raises nothing."""
    if task.image is None:
        return
    with _locks[task.image], contextlib.suppress(SandboxError):
        host = daemon()
        with told(f"cannot remove the image {task.image}"):
            said = host.client.inspect_image(task.image)  # type: ignore[no-untyped-call]
            tag = f"{CLEAN}:{said['Id'].removeprefix('sha256:')[:24]}"
            for name in (tag, task.image):
                shutil.rmtree(cache.folder("images") / _file_name(name), ignore_errors=True)
                if _id_of(host, name) is not None:
                    host.client.remove_image(name)
        (cache.folder("looked-at") / _file_name(task.image)).unlink(missing_ok=True)


class Behind:
    """Removes an image when the last attempt at the last of its tasks is graded. To be told of each that is."""

    def __init__(self, tasks: Iterable[Task], samples: int, remove: Callable[[Task], None] | None = None) -> None:
        self._remove = remove or behind
        self._left = Counter(task.image for task in tasks for _ in range(samples))
        self._lock = threading.Lock()

    def __call__(self, task: Task) -> None:
        with self._lock:
            self._left[task.image] -= 1
            last = self._left[task.image] == 0
        if last:
            self._remove(task)


# ------------------------------------------------------------------------------------------------ cleaning


def _look(host: Daemon, name: str, image_id: str, tag: str) -> str:
    """Look at an image, make a cleaned one if there is something to clean, and tag it: its id. Raises SandboxError."""
    from swe_srl.sandboxes.docker import DockerSandbox

    sandbox = DockerSandbox.of_image(name, mounted=False)
    try:
        more = has_more(sandbox)
    finally:
        sandbox.close()
    with told(f"cannot make {name} without its repository's future"):
        if more:
            _build(host, f"FROM {image_id}\nRUN {json.dumps(['bash', '-c', clean()])}\n", tag)
        else:
            host.client.tag(image_id, CLEAN, tag.removeprefix(f"{CLEAN}:"))
    made = _id_of(host, tag)
    assert made is not None
    return made


def _build(host: Daemon, recipe: str, tag: str) -> None:
    """A layer on an image, offline; its variables, user and directory stay. Raises SandboxError."""
    said = ""
    rows = host.client.build(
        fileobj=io.BytesIO(recipe.encode()), tag=tag, network_mode="none", rm=True, forcerm=True, decode=True
    )
    for row in rows:
        said = (said + row.get("stream", ""))[-600:]
        if "error" in row:
            raise SandboxError(f"cannot make {tag}: {row['error']}: {said}")


def _architectures(host: Daemon) -> tuple[str, ...]:
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return (str(host.info["Architecture"]), names.get(str(host.info["Architecture"]), ""))


# -------------------------------------------------------------------------------------- what is there, and room for it


def _is_here(name: str) -> bool:
    """Whether the daemon has it; where none answers, whether it was unpacked before."""
    try:
        return _id_of(daemon(), name) is not None
    except SandboxError:
        if (cache.folder("images") / _file_name(name)).is_dir():
            return True
        raise


def _id_of(host: Daemon, name: str) -> str | None:
    from docker.errors import ImageNotFound

    with told(f"cannot look at the image {name}"):
        try:
            return str(host.client.inspect_image(name)["Id"])  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None


def _pull(name: str) -> None:
    try:
        with told(f"cannot pull {name}"):
            for row in daemon().client.pull(name, stream=True, decode=True):
                if "error" in row:
                    raise SandboxError(str(row["error"]))
    except SandboxError as error:
        raise SandboxError(f"image missing: {name} ({error})") from None


def refuse_what_does_not_fit(absent: list[str]) -> None:
    """Raises ConfigError with the sum."""
    root = Path(str(daemon().info.get("DockerRootDir") or "/"))
    if not root.exists():
        return  # the daemon is another machine's: it says so itself when it is full
    wanted = space_needed(absent)
    free = shutil.disk_usage(root).free
    if wanted > free:
        raise ConfigError(
            f"{len(absent)} images are absent and take about {wanted / 1e9:.0f} GB; at {root} {free / 1e9:.0f} GB are "
            "free. images.prune=true pulls each when it is needed and removes it after its task; limit=, tasks.ids= "
            "and tasks.repositories= take fewer"
        )


def space_needed(absent: list[str]) -> float:
    """Bytes on disk of images that are not here: as a registry says of some of them, else an average's."""
    said = [size for name in absent[:_ASKED] if (size := _size(name)) is not None]
    return len(absent) * (sum(said) / len(said) * _UNPACKED if said else _AVERAGE_BYTES)


def _size(name: str) -> float | None:
    """What a registry sends of an image, in bytes; None where it does not say."""
    command = ["docker", "manifest", "inspect", "--verbose", name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ASK_S, check=True)
        said = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    one = said[0] if isinstance(said, list) and said else said
    kinds = ("SchemaV2Manifest", "OCIManifest")
    layers = next((one[kind]["layers"] for kind in kinds if isinstance(one, dict) and kind in one), None)
    return float(sum(layer["size"] for layer in layers)) if layers else None


def _file_name(image: str) -> str:
    return re.sub(r"[^\w.-]", "_", image)  # as `sandboxes.images` names what it unpacks
