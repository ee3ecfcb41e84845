"""One private mount namespace per process of ours: where the daemonless backend mounts things.

It is held by file descriptors, so it ends with this process and the sandboxes started in it, however they end:
no mount is ever on the host, and none can be left behind. An ordinary user gets it within a user namespace in
which that user is root over nothing but these mounts.
"""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from swe_srl.errors import SandboxError
from swe_srl.sandboxes import cache
from swe_srl.sandboxes.mounts import Step, enter
from swe_srl.sandboxes.per_process import per_process

_TIMEOUT_S = 60.0
_AT_ONCE = 4
# The area is a small tmpfs on an empty folder of the cache: it holds mount points and configs, no file of a tree.
_OPEN = 'mount -t tmpfs -o mode=755,size=64m,nosuid,nodev swe-srl "$1" && echo ready && exec cat'


class Namespace:
    """`area` is a folder that only exists inside; every script runs in it."""

    def __init__(self) -> None:
        self.as_root = os.geteuid() == 0
        self.area = cache.folder("mnt")
        self._numbers = itertools.count()
        user = [] if self.as_root else ["--user", "--map-root-user"]
        command = ["unshare", *user, "--mount", "--propagation", "private", "--", "sh", "-c", _OPEN, "sh"]
        holder = _popen([*command, str(self.area)])
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            _, said = holder.communicate()
            raise SandboxError(_why_not(said.decode("utf-8", "replace").strip(), self.as_root))
        names = ["mnt"] if self.as_root else ["user", "mnt"]
        # From here on these keep it: the process that made it is no longer needed.
        self._fds = {name: os.open(f"/proc/{holder.pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names}
        holder.communicate()
        self._threads = threads(self._fds["mnt"], self.area) if self.as_root else None

    def entering(self, script: str) -> list[str]:
        """The command line that runs a shell script in the area."""
        flags = [f"--{_FLAGS[name]}=/proc/{os.getpid()}/fd/{fd}" for name, fd in self._fds.items()]
        preserve = [] if self.as_root else ["--preserve-credentials"]
        return ["nsenter", *flags, *preserve, "--", "sh", "-euc", f"cd {shlex.quote(str(self.area))}\n{script}"]

    def run(self, script: str, timeout_s: float = _TIMEOUT_S) -> str:
        """Run a shell script in the area and return what it printed. Raises SandboxError."""
        nothing = subprocess.DEVNULL
        try:
            done = subprocess.run(self.entering(script), stdin=nothing, capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise SandboxError(f"mounting took more than {timeout_s:g} s: {script}") from None
        if done.returncode != 0:
            raise SandboxError(f"mounting failed: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}: {script}")
        return done.stdout.decode("utf-8", "replace")

    def do(self, steps: Sequence[Step]) -> None:
        """Take mounting steps in the area. Raises SandboxError."""
        if self._threads is not None:
            try:
                taken = self._threads.submit(_take, steps)
            except RuntimeError:  # the process is about to end, and its threads are
                taken = None
            if taken is not None:
                return taken.result()
        self.run("\n".join(step.line() for step in steps))
        return None

    def start(
        self, steps: Sequence[Step], command: Sequence[str], log: IO[bytes], path: str
    ) -> subprocess.Popen[bytes]:
        """Take the steps, then start a program in the area, with pipes to it. Raises SandboxError.

        An ordinary user's steps are taken by that very process: what fails then is in its log.
        """

        def started(words: Sequence[str]) -> subprocess.Popen[bytes]:
            # In a session of its own: Ctrl-C is the harness's. No environment: none of it can be read inside.
            pipe = subprocess.PIPE
            return subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=log, env={"PATH": path}, start_new_session=True
            )

        try:
            if self._threads is not None:
                self.do(steps)
                return self._threads.submit(started, command).result()
            lines = [step.line() for step in steps]
            return started(self.entering("\n".join([*lines, f"exec {shlex.join(command)}"])))
        except (OSError, RuntimeError) as error:
            raise SandboxError(f"{command[0]} cannot be run: {error}") from None

    def name(self, kind: str) -> str:
        """A new name in the area."""
        return f"{kind}{next(self._numbers)}"


_FLAGS = {"user": "user", "mnt": "mount"}


def threads(namespace: int | None, area: Path) -> ThreadPoolExecutor:
    """Some that are in a mount namespace (or stay in this process's), and in the area."""
    return ThreadPoolExecutor(_AT_ONCE, "swe-srl-mounts", initializer=enter, initargs=(namespace, area))


def _take(steps: Sequence[Step]) -> None:
    for step in steps:
        try:
            step.take()
        except OSError as error:
            raise SandboxError(f"mounting failed: {error}: {step}") from None


@per_process
def namespace() -> Namespace:
    """This process's own. Raises SandboxError."""
    return Namespace()


def _popen(command: list[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except FileNotFoundError:
        raise SandboxError("unshare is not installed: apt-get install util-linux") from None


def _why_not(said: str, as_root: bool) -> str:
    if as_root:
        return f"root cannot make a mount namespace here ({said}): this container lacks CAP_SYS_ADMIN"
    settings = ("kernel.unprivileged_userns_clone=1", "user.max_user_namespaces=15000")
    for setting in (*settings, "kernel.apparmor_restrict_unprivileged_userns=0"):
        name, _, wanted = setting.partition("=")
        path = Path("/proc/sys", *name.split("."))
        is_set = path.read_text().strip() if path.is_file() else wanted
        if (is_set == "0") != (wanted == "0"):
            return f"an ordinary user cannot make a user namespace here ({said}); as root: sysctl -w {setting}"
    return f"an ordinary user cannot make a user namespace here ({said}); run as root, or use sandbox.kind=docker"
