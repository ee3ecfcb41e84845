"""What an OCI runtime is told of a sandbox: config.json, the whole of its containment in one place."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swe_srl.sandboxes import TREE, cgroups, seccomp, toolbox
from swe_srl.sandboxes.images import Image
from swe_srl.sandboxes.limits import CORE_BYTES, MIB, Limits

_SHARED_MEMORY_BYTES = 64 * MIB
_NAMESPACES = ("pid", "ipc", "uts", "mount", "network")  # a network namespace of its own has a loopback alone
# Docker's lists: kernel tables that tell of the host, and switches that are the host's.
_MASKED = [f"/proc/{name}" for name in ("acpi", "interrupts", "kcore", "keys", "latency_stats", "scsi", "timer_list")]
_READ_ONLY = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]


def config(image: Image, merged: Path, tools: Path, limits: Limits, name: str, *, with_tree: bool) -> dict[str, Any]:
    """`merged`: the sandbox's overlay. With an image of ours (`with_tree`) it holds the tree, /tmp and HOME, and
    the root is read-only; a foreign image's is the whole root, because such images write where they like."""
    parts = {TREE: "testbed", "/tmp": "tmp", image.home: "home"} if with_tree else {}
    binds = [_bind(merged / part, target) for target, part in parts.items()]
    root = {"path": str(image.rootfs), "readonly": True} if with_tree else {"path": str(merged), "readonly": False}
    return {
        "ociVersion": "1.0.2",
        "hostname": "sandbox",
        "root": root,
        "process": _process(image, limits),
        "mounts": [*_kernel_mounts(), *binds, _bind(tools, toolbox.MOUNT, "ro")],
        "linux": _linux(limits, name),
    }


def _process(image: Image, limits: Limits) -> dict[str, Any]:
    kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
    return {
        "user": {"uid": image.uid, "gid": image.gid},
        "args": toolbox.argv(),
        "env": [],
        "cwd": "/",
        "capabilities": {kind: [] for kind in kinds},
        "noNewPrivileges": True,
        "rlimits": [_rlimit(kind, value) for kind, value in _rlimits(limits).items()],
    }


def _rlimits(limits: Limits) -> Mapping[str, int]:
    found = {"CORE": CORE_BYTES, "FSIZE": limits.file_bytes, "NOFILE": limits.open_files}
    if "pids" not in cgroups.controllers() and os.geteuid() != 0:
        found["NPROC"] = limits.processes  # counted by user and user namespace: each sandbox has its own
    if "memory" not in cgroups.controllers():
        found["DATA"] = limits.memory_bytes  # of one process; all of them together it does not bound
    return found


def _rlimit(kind: str, value: int) -> dict[str, Any]:
    _, most = resource.getrlimit(getattr(resource, f"RLIMIT_{kind}"))
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    return {"type": f"RLIMIT_{kind}", "soft": value, "hard": value}


def _linux(limits: Limits, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in _NAMESPACES],
        "maskedPaths": _MASKED,
        "readonlyPaths": _READ_ONLY,
        "seccomp": seccomp.profile(affinity="cpu" in cgroups.controllers()),
    }
    if os.geteuid() != 0:
        mapping = [{"containerID": 0, "hostID": 0, "size": 1}]
        found["namespaces"].append({"type": "user"})
        found |= {"uidMappings": mapping, "gidMappings": mapping}
    if resources := _resources(limits):
        found |= {"cgroupsPath": f"/{name}", "resources": resources}
    return found


def _resources(limits: Limits) -> dict[str, Any]:
    swap = {"swap": limits.memory_bytes} if cgroups.swap_is_counted() else {}
    wanted: dict[str, Any] = {
        "memory": {"limit": limits.memory_bytes, **swap},
        "pids": {"limit": limits.processes},
        "cpu": {"quota": int(limits.cpus * 100_000), "period": 100_000},
    }
    return {name: value for name, value in wanted.items() if name in cgroups.controllers()}


def _kernel_mounts() -> list[dict[str, Any]]:
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    shared = ["nosuid", "noexec", "nodev", "mode=1777", f"size={_SHARED_MEMORY_BYTES}", "nr_inodes=1000"]
    return [
        _mount("proc", "/proc", ["nosuid", "noexec", "nodev"]),
        # No sysfs: it tells of the machine's hardware, and programs do without.
        _mount("tmpfs", "/dev", ["nosuid", "noexec", "ro", "mode=755", "size=65536"]),
        _mount("devpts", "/dev/pts", terminals),
        _mount("tmpfs", "/dev/shm", shared),
    ]


def _mount(kind: str, target: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": options}


def _bind(source: Path, target: str, *options: str) -> dict[str, Any]:
    return _mount("bind", target, ["bind", "private", "nosuid", "nodev", *options]) | {"source": str(source)}
