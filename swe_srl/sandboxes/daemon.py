"""The Docker daemon as this process uses it: one client, what its containers need, and what may be asked of it."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import socket
import struct
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_srl.errors import SandboxError
from swe_srl.sandboxes import owner
from swe_srl.sandboxes.per_process import per_process

if TYPE_CHECKING:
    from docker import APIClient

OWNER, HOST, RUN = "swe-srl.owner", "swe-srl.host", "swe-srl.run"  # labels
TIMEOUT_S = 60
_AT_ONCE = 16  # requests to the daemon, and containers that are being started
_SOCKET = "unix:///var/run/docker.sock"


class Daemon:
    """One per process; raises SandboxError where none answers. Every request is told from here by `told`."""

    def __init__(self) -> None:
        import docker

        self.url = os.environ.get("DOCKER_HOST") or _SOCKET
        if not self.url.startswith(("unix://", "tcp://")) or os.environ.get("DOCKER_TLS_VERIFY"):
            raise SandboxError(
                f"DOCKER_HOST is {self.url}, and commands go over a plain socket: forward one, `ssh -NL "
                "/tmp/docker.sock:/var/run/docker.sock HOST`, and set DOCKER_HOST=unix:///tmp/docker.sock"
            )
        try:
            self.client: APIClient = docker.APIClient(base_url=self.url, timeout=TIMEOUT_S, max_pool_size=_AT_ONCE)
            self.info: Mapping[str, Any] = self.client.info()
        except Exception as error:  # the SDK raises its own, requests' and the socket's
            raise SandboxError(_why_not(self.url, str(error))) from None
        if self.info["OSType"] != "linux":
            raise SandboxError(f"the Docker daemon runs {self.info['OSType']} containers; sandboxes are Linux")
        if self.info["Architecture"] != platform.machine():
            raise SandboxError(
                f"the Docker daemon's machine is {self.info['Architecture']} and this one {platform.machine()}: the "
                "interpreter that is brought into a sandbox is this machine's"
            )
        self.labels = {OWNER: owner.me(), HOST: owner.host(), RUN: uuid.uuid4().hex[:12]}
        self.workers = ThreadPoolExecutor(_AT_ONCE, "swe-srl-docker")

    @functools.cached_property
    def sees_mounts(self) -> bool:
        """Whether what this process mounts can be bound into a container: root, in the daemon's mount namespace.

        Not where users are mapped, nor with SELinux, whose labels our mounts do not have.
        """
        options = " ".join(self.info.get("SecurityOptions") or [])
        mapped = any(name in options for name in ("name=userns", "name=rootless", "name=selinux"))
        if os.geteuid() != 0 or mapped or not self.url.startswith("unix://"):
            return False
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(self.url.removeprefix("unix://"))
            peer = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, _, _ = struct.unpack("3i", peer)  # 0: in another space of process ids
        try:
            # systemd may have opened the daemon's socket; what else did so (ssh) only forwards it.
            known = Path(f"/proc/{pid}/comm").read_text().strip() in ("dockerd", "systemd")
            return known and os.path.samestat(os.stat(f"/proc/{pid}/ns/mnt"), os.stat("/proc/self/ns/mnt"))
        except OSError:
            return False


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Let what the daemon refuses, or that it is gone, be a SandboxError that begins with `what`."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (DockerException, RequestException, HTTPError, OSError) as error:
        said = getattr(error, "explanation", None) or str(error)
        raise SandboxError(f"Docker: {what}: {said}") from None


@per_process
def daemon() -> Daemon:
    """This process's own, connected. Raises SandboxError."""
    return Daemon()


def _why_not(url: str, said: str) -> str:
    path = Path(url.removeprefix("unix://"))
    if not url.startswith("unix://"):
        return f"no Docker daemon answers at {url}: {said}"
    if not path.exists():
        how = "environments/docker/start.sh starts one" if os.geteuid() == 0 else "sudo systemctl start docker"
        return f"no Docker daemon runs here ({path} does not exist): apt-get install docker.io iptables; {how}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} is not yours to use: sudo usermod -aG docker $USER, then log in again"
    return f"no Docker daemon answers at {path}: start it again (environments/docker/start.sh). It says: {said}"
