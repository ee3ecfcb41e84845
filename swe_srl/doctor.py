"""What this machine can do, and whether a config fits it, or the devices that it is to run on."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swe_srl.plan.fit import Devices

PACKAGES = (
    *("torch", "transformers", "peft", "vllm", "ray", "tensorboard", "cydifflib", "rapidfuzz", "gitpython", "unidiff"),
    *("docker", "datasets", "swebench"),
)
GIB = 2**30
GPU_GIB = 80.0


def doctor(
    config_path: str | None,
    overrides: list[str],
    gpus: int | None = None,
    gpu_gib: float | None = None,
    *,
    dry_run: bool = False,
) -> dict[str, Any]:
    """The JSON object of `swe-srl doctor`. `gpus` of `gpu_gib` each are looked at in place of this machine's device.

    Raises ConfigError and DataError of the config it is given.
    """
    import torch

    sandboxes = _sandboxes()
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "devices": ["cpu"] + [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_bytes() / GIB, 1),
        "disk_free_gib": round(shutil.disk_usage(".").free / GIB, 1),
        "packages": {name: _version(name) for name in PACKAGES},
        "sandboxes": sandboxes,
        "sandboxes_do_not_promise": _not_kept(sandboxes),
        "engines": {
            "hf": "ok" if importlib.util.find_spec("transformers") else "pip install transformers",
            "vllm": "ok" if importlib.util.find_spec("vllm") else "pip install vllm (a GPU), or make vllm (a CPU)",
            "openai": "ok, where engine.base_url is a server's",
        },
    }
    if config_path is not None:
        from swe_srl.doctor_configs import about

        devices = None if gpus is None and gpu_gib is None else _gpus(gpus or 1, gpu_gib or GPU_GIB)
        found["config"] = {"path": config_path, **about(config_path, overrides, devices, dry_run=dry_run)}
    return found


def _gpus(ranks: int, gib: float) -> Devices:
    """Some that are not here."""
    from swe_srl.plan.fit import Devices

    return Devices(ranks, "cuda", int(gib * GIB), f"{ranks} GPU{'s' * (ranks > 1)} of {gib:g} GiB")


def here(device: Any) -> Devices:
    """This machine's, as one process uses it."""
    import torch

    from swe_srl.plan.fit import Devices

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return Devices(1, "cuda", properties.total_memory, properties.name)
    return Devices(1, "cpu", _memory_bytes(), f"{device} of this machine")


def _sandboxes() -> dict[str, str]:
    """Each backend, tried: `ok`, or the reason why not, with what to install."""
    from swe_srl.sandboxes import BACKENDS
    from swe_srl.sandboxes.choice import trouble

    return {kind: trouble(kind) or "ok" for kind in BACKENDS}


def _not_kept(sandboxes: dict[str, str]) -> dict[str, dict[str, str]]:
    """What each backend that works here does not promise on this machine, in words."""
    from swe_srl.sandboxes import PROMISES
    from swe_srl.sandboxes.choice import promises

    return {
        kind: {name: text for name, text in PROMISES.items() if name not in promises(kind)}
        for kind, said in sandboxes.items()
        if said == "ok"
    }


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
