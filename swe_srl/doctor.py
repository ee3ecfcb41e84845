"""What this machine can do, and whether a training config fits it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "tensorboard", "cydifflib", "rapidfuzz", "gitpython", "unidiff")
BYTES_A_PARAMETER = 16  # float32 weights, gradients and Adam's two moments
GIB = 2**30


def doctor(config_path: str | None, overrides: list[str]) -> dict[str, Any]:
    """The JSON object of `swe-srl doctor`. Raises ConfigError and DataError of the config it is given."""
    import torch

    sandboxes = _sandboxes()
    devices = ["cpu"] + [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "devices": devices,
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_bytes() / GIB, 1),
        "disk_free_gib": round(shutil.disk_usage(".").free / GIB, 1),
        "packages": {name: _version(name) for name in PACKAGES},
        "sandboxes": sandboxes,
        "sandboxes_do_not_promise": _not_kept(sandboxes),
        "engines": {"hf": "ok" if importlib.util.find_spec("transformers") else "pip install transformers"},
    }
    if config_path is not None:
        found["config"] = _fits(config_path, overrides, found)
    return found


def _fits(path: str, overrides: list[str], machine: dict[str, Any]) -> dict[str, Any]:
    import torch

    from swe_srl.config import TrainConfig, load
    from swe_srl.data import load_dataset, require
    from swe_srl.train.model import device_of

    config = load(TrainConfig, path, overrides)
    dataset = load_dataset(config.data)
    for name in ("train", "validation"):
        require(dataset, name, config.data.path)
    parameters, device = _parameters(config), device_of(config.model)
    engine = parameters * (2 if config.model.dtype == "bfloat16" else 4)
    need = parameters * BYTES_A_PARAMETER + engine
    if config.model.lora is not None:
        need = parameters * 4 + engine
    memory_gib = machine["memory_gib"]
    if device.type == "cuda":
        memory_gib = round(torch.cuda.get_device_properties(device).total_memory / GIB, 1)
    return {
        "path": path,
        "model": config.model.path or "a new small network: model.path is not set",
        "steps": {name: len(steps) for name, steps in dataset.splits.items()},
        "left_out": dict(dataset.skipped),
        "parameters": parameters,
        "device": str(device),
        "device_memory_gib": memory_gib,
        "weights_gib": round(need / GIB, 2),
        "fits": need < memory_gib * GIB,
    }


def _parameters(config: Any) -> int:
    """Counted on an empty model: nothing is loaded. Raises ConfigError."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from swe_srl.train.model import readable

    if config.model.path is None:
        size = config.model.scratch
        return int(
            size.vocabulary * size.hidden + size.layers * size.hidden * (3 * size.hidden + 3 * size.intermediate)
        )
    with readable(config.model.path), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(config.model.path))
    return sum(parameter.numel() for parameter in model.parameters())


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
