"""The harness under attack: a process of its own, which may run as another user, and this end of it.

with Harness("runc", uid=61000) as harness:
    box = harness.start(folder)          # a sandbox there, as a proxy: errors are raised here as they are there
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any, Protocol

from swe_srl import editor, sandboxes
from swe_srl.sandboxes import ExecResult, Sandbox
from swe_srl.sandboxes.limits import MIB, Limits

SECRET = "HARNESS_SECRET"  # a variable of the harness's environment
SMALL = Limits(
    memory_bytes=256 * MIB, disk_bytes=64 * MIB, file_bytes=32 * MIB, files=5000, processes=64, open_files=512, cpus=1
)
_KEY = b"swe-srl"
_REPOSITORY = Path(__file__).parents[1]


class Victim(Protocol):
    """A sandbox and what is done with one, under one name for all backends."""

    def exec(self, command: str, timeout_s: float) -> ExecResult: ...

    def read(self, path: str) -> bytes: ...

    def write(self, path: str, data: bytes) -> None: ...

    def edit(self, arguments: Mapping[str, str]) -> str: ...

    def changes(self) -> str: ...

    def fork(self) -> Victim: ...

    def close(self) -> None: ...


# ---------------------------------------------------------------------------------------------- in the harness


class Box:
    """What the harness serves: `Victim` over a sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sandbox, name)

    def edit(self, arguments: Mapping[str, str]) -> str:
        return editor.edit(self._sandbox, arguments)

    def changes(self) -> str:
        return sandboxes.changes(self._sandbox)

    def fork(self) -> Box:
        return Box(self._sandbox.fork())


def _start(kind: str, source: str, limits: Limits) -> Box:
    if kind == "docker":
        from swe_srl.sandboxes.docker import DockerSandbox

        return Box(DockerSandbox.start(Path(source), limits=limits))
    from swe_srl.sandboxes.runc import RuncSandbox

    return Box(RuncSandbox.start(Path(source), limits=limits))


def _promises(kind: str) -> list[str]:
    from swe_srl.sandboxes.choice import promises

    return sorted(promises(kind))


class _Manager(BaseManager):
    start: Any
    promises: Any


_EXPOSED = ["exec", "read", "write", "edit", "changes", "fork", "close"]
_Manager.register("Box", exposed=_EXPOSED, method_to_typeid={"fork": "Box"}, create_method=False)
_Manager.register("start", _start, exposed=_EXPOSED, method_to_typeid={"fork": "Box"})
_Manager.register("promises", _promises, exposed=["copy"])


# ------------------------------------------------------------------------------------------------- at this end


class Harness:
    """`uid` None: as who runs the tests. Else as that user, with HOME, caches and temporary folder of their own."""

    def __init__(self, kind: str, uid: int | None = None) -> None:
        self.kind, self.uid = kind, uid
        self.folder = Path(tempfile.mkdtemp(prefix="swe-srl-attacks-"))
        if uid is not None:
            os.chown(self.folder, uid, uid)
        socket = str(self.folder / "harness")
        self._said = (self.folder / "said").open("w+")
        self.process = subprocess.Popen(
            [*_as_user(kind, uid), sys.executable, __file__, socket],
            stdin=subprocess.PIPE,  # it ends with this pipe, however the tests end
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=self._environment(),
            text=True,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the harness did not start: {self.said()}")
        self._manager = _Manager(socket, _KEY)
        self._manager.connect()
        self.promises = frozenset(self._manager.promises(kind).copy())

    def _environment(self) -> dict[str, str]:
        if self.uid is None:
            return {**os.environ, SECRET: "xyzzy"}
        folder = str(self.folder)
        return {"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder, SECRET: "xyzzy"}

    def start(self, source: Path, limits: Limits = SMALL) -> Victim:
        return self._manager.start(self.kind, str(source), limits)  # type: ignore[no-any-return]

    def said(self) -> str:
        """All that it printed, on its own account or a sandbox's."""
        self._said.flush()
        return (self.folder / "said").read_text()

    def peak_bytes(self) -> int:
        """The most memory that it ever took; the count begins anew."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        found = re.search(r"VmHWM:\s*(\d+)", text)
        assert found is not None
        return int(found[1]) * 1024

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=60)
        self._said.close()
        shutil.rmtree(self.folder)


def _as_user(kind: str, uid: int | None) -> list[str]:
    """The command's prefix. An interpreter in a folder that only root may enter is shown to the user by mounts
    that this one process has."""
    if uid is None:
        return []
    groups = ["--clear-groups"]
    if kind == "docker":  # as a member of the group that may use the daemon
        groups = ["--groups", str(os.stat("/var/run/docker.sock").st_gid)]
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", *groups]
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), _REPOSITORY}
    lines = []
    for path in sorted(needed):
        closed = [folder for folder in path.parents if not folder.stat().st_mode & 1]
        if closed:
            place, top = shlex.quote(str(path)), shlex.quote(str(closed[-1]))
            lines += [f"exec 9<{place}", f"mount -t tmpfs -o mode=755 none {top}", f"mkdir -p {place}"]
            lines += [f"mount -c --bind /proc/self/fd/9 {place}", "exec 9<&-"]
    script = "\n".join([*lines, 'exec "$@"'])
    return [*(["unshare", "--mount", "sh", "-euc", script, "sh"] if lines else []), *user]


if __name__ == "__main__":

    def end_with_stdin() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an orderly end
    threading.Thread(target=end_with_stdin, daemon=True).start()
    server = _Manager(sys.argv[1], _KEY).get_server()
    print("ready", flush=True)
    server.serve_forever()
