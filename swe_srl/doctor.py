"""What this machine can do, and whether a config fits it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_srl.config import RecordConfig, RolloutConfig
from swe_srl.errors import ConfigError
from swe_srl.loading import load
from swe_srl.train_config import RlStage, RlvrStage, TrainConfig

if TYPE_CHECKING:
    from swe_srl.steps import StepSet

PACKAGES = (
    *("torch", "transformers", "peft", "tensorboard", "cydifflib", "rapidfuzz", "gitpython", "unidiff"),
    *("docker", "datasets", "swebench"),
)
PROMPTS = 64  # of a batch, that its shared prefixes are looked for in
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
        "engines": {
            "hf": "ok" if importlib.util.find_spec("transformers") else "pip install transformers",
            "vllm": "ok" if importlib.util.find_spec("vllm") else "pip install vllm (a GPU), or make vllm (a CPU)",
            "openai": "ok, where engine.base_url is a server's",
        },
    }
    if config_path is not None:
        config = _config(config_path, overrides)
        about = _fits(config, found) if isinstance(config, TrainConfig) else {"sandbox": _sandbox_of(config)}
        found["config"] = {"path": config_path, **about}
    return found


def _config(path: str, overrides: list[str]) -> TrainConfig | RolloutConfig | RecordConfig:
    """A config of `train`, `rollout --step` or `record`, told apart by a key of its own. Raises ConfigError."""
    keys: set[str] = set()
    with contextlib.suppress(OSError, ValueError):  # `load` tells it better
        keys = set(tomllib.loads(Path(path).read_text()))
    if "stage" not in keys and "rollout" in keys:
        return load(RolloutConfig, path, overrides)
    if "out" in keys:
        return load(RecordConfig, path, overrides)
    return load(TrainConfig, path, overrides)


def _fits(config: TrainConfig, machine: dict[str, Any]) -> dict[str, Any]:
    import torch

    from swe_srl.data import load_dataset, require
    from swe_srl.train.chain import where_commands_run
    from swe_srl.train.model import device_of

    dataset = load_dataset(config.data)
    for name in ("train", "validation"):
        require(dataset, name, config.data.path)
    live, dataset = where_commands_run(config, dataset)
    parameters, device = _parameters(config), device_of(config.model)
    engine = parameters * (2 if config.model.dtype == "bfloat16" else 4)
    need = parameters * BYTES_A_PARAMETER + engine
    if config.model.lora is not None:
        need = parameters * 4 + engine
    memory_gib = machine["memory_gib"]
    if device.type == "cuda":
        memory_gib = round(torch.cuda.get_device_properties(device).total_memory / GIB, 1)
    return {
        "model": config.model.path or "a new small network: model.path is not set",
        "steps": {name: len(steps) for name, steps in dataset.splits.items()},
        "left_out": dict(dataset.skipped),
        "parameters": parameters,
        "device": str(device),
        "device_memory_gib": memory_gib,
        "weights_gib": round(need / GIB, 2),
        "fits": need < memory_gib * GIB,
        "sandbox": None if live is None else {"kind": live.kind, "tasks": str(live.suite)},
        "prefix_reuse": None if config.model.path is None else _prefix_reuse(config, dataset.splits["train"]),
    }


def _prefix_reuse(config: TrainConfig, train: StepSet) -> dict[str, float]:
    """By stage: the share of a first batch's tokens that need not be computed, with answers as long as the expert's.

    Answers of a group share nothing but their prompt here, so it is a lower bound.
    """
    from swe_srl.policies import seed_of
    from swe_srl.render import Renderer
    from swe_srl.train.model import load_tokenizer
    from swe_srl.train.sources import Order, expert_sample
    from swe_srl.train.tree import Strand, grow

    renderer = Renderer(load_tokenizer(config.model.origin()), config.prompt.settings())
    found = {}
    for stage in config.stage:
        if isinstance(stage, RlvrStage):  # nobody knows what its attempts will be
            continue
        order, strands = Order(len(train), seed_of(config.seed, stage.name)), list[Strand]()
        for draw in range(min(stage.batch, PROMPTS)):
            tokens = expert_sample(renderer, train[order[draw]]).tokens
            answers = stage.group_size if isinstance(stage, RlStage) else 1
            strands += [Strand(tokens.prompt_ids, (-n,) * len(tokens.ids), 0) for n in range(1, answers + 1)]
        alone = sum(len(strand.inputs) for strand in strands)
        found[stage.name] = round(1 - len(grow(strands).ids) / alone, 3)
    return found


def _sandbox_of(config: RolloutConfig | RecordConfig) -> dict[str, Any]:
    """Where its commands will run, tried, and how many tasks there are. Raises ConfigError and DataError."""
    from swe_srl.live import SUITE
    from swe_srl.sandboxes.choice import chosen, trouble
    from swe_srl.tasks.bugfix import load_tasks

    kind = chosen(config.sandbox.kind)
    if reason := trouble(kind):
        raise ConfigError(f"sandbox.kind = {kind!r} does not work here: {reason}")
    tasks = config.tasks if isinstance(config, RecordConfig) else str(config.sandbox.tasks or SUITE)
    return {"kind": kind, "tasks": tasks, "n_tasks": len(load_tasks(tasks))}


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
