"""What `doctor` says of a config, by the command that it is for: whether all of it is here, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_srl.agent_config import AgentConfig, TasksConfig
from swe_srl.config import DataConfig, EvaluateConfig, LiveSandbox, RecordConfig, RolloutConfig
from swe_srl.errors import ConfigError, DataError, SandboxError
from swe_srl.ladder_config import BASE, LadderConfig
from swe_srl.loading import load, overridden, read_toml
from swe_srl.logs import absent
from swe_srl.train_config import RlStage, RlvrStage, SrlStage, TrainConfig

if TYPE_CHECKING:
    from swe_srl.data import Dataset
    from swe_srl.plan.fit import Devices, Fitting
    from swe_srl.steps import StepSet
    from swe_srl.types import Task

Known = TrainConfig | LadderConfig | RecordConfig | RolloutConfig | EvaluateConfig | AgentConfig
Found = dict[str, Any]
PROMPTS = 64  # of a batch, that its shared prefixes are looked for in


def about(path: str, overrides: list[str], devices: Devices | None, *, dry_run: bool) -> Found:
    """Of a config's command, what it needs that is not here, and what it takes. Raises ConfigError and DataError."""
    kind = command_of(overridden(read_toml(path), overrides))
    config = load(kind, path, overrides)
    if dry_run and not isinstance(config, TrainConfig):
        raise ConfigError(f"--dry-run is of a training, and {path} is a config of swe-srl {_COMMANDS[kind]}")
    found: Found = {"command": _COMMANDS[kind], "missing": []}
    if isinstance(config, TrainConfig):
        found |= _training(config, path, devices, found["missing"], dry_run=dry_run)
    elif isinstance(config, LadderConfig):
        found |= _ladder(config, path, devices, found["missing"])
    elif isinstance(config, AgentConfig):
        found |= _attempts(config, path, devices, found["missing"])
    elif isinstance(config, EvaluateConfig):
        found |= _steps(config, path, devices, found["missing"])
    else:
        found["sandbox"] = _suite_sandbox(config)
    return found


_COMMANDS: Mapping[type[Known], str] = {
    TrainConfig: "train",
    LadderConfig: "ladder",
    RecordConfig: "record",
    RolloutConfig: "rollout --step",
    EvaluateConfig: "evaluate",
    AgentConfig: "evaluate",
}


def command_of(data: Mapping[str, Any]) -> type[Known]:
    """Which config it is, by keys that no other has."""
    for key, kind in (("stage", TrainConfig), ("arm", LadderConfig), ("out", RecordConfig)):
        if key in data:
            return kind
    if data.get("mode", "steps" if "data" in data else "agent") != "steps":
        return AgentConfig
    if "rollout" in data:
        return RolloutConfig
    return EvaluateConfig if "evaluate" in data or "mode" in data else TrainConfig


# --------------------------------------------------------------------------------------------- by command


def _training(config: TrainConfig, path: str, devices: Devices | None, missing: list[str], *, dry_run: bool) -> Found:
    fitting = _fitting(config, path, missing)
    found = _data(config, missing) | _network(fitting) | _fits(fitting, [config], devices, runs=1)
    if found["memory"]["kind"] == "cuda":
        found["costs"] = _costs(fitting, config, found["memory"]["ranks"])
    if dry_run:
        from swe_srl.plan.dry_run import dry_run as tried

        found["dry_run"] = tried(config, fitting.network, found["memory"]["ranks"])
    return found


def _ladder(config: LadderConfig, path: str, devices: Devices | None, missing: list[str]) -> Found:
    """Each chain of stages by itself; every seed makes all of them."""
    trained = {
        name: config.training(name, stages, None if name == BASE else config.model.path, 0, config.run)
        for name, stages in config.chains.items()
    }
    first = next(iter(trained.values()))
    fitting = _fitting(first, path, missing)
    found = _data(first, missing) | _network(fitting)
    every = list(trained.values())
    found |= _fits(fitting, every, devices, runs=len(config.seeds))
    attempts = config.attempts.tasks if config.attempts is not None else None
    if attempts is not None or any(one.attempts_tasks for one in every):
        found["sandbox"] = _sandbox(config.sandbox.kind, attempts or config.tasks, None, missing)
    return found | {"arms": list(trained), "seeds": len(config.seeds)}


def _attempts(config: AgentConfig, path: str, devices: Devices | None, missing: list[str]) -> Found:
    found: Found = {"agent": config.agent, "mode": config.mode}
    found["sandbox"] = _sandbox(config.sandbox.kind, config.tasks, config.limit, missing)
    return found | _answers(config, path, devices, missing) if config.agent == "policy" else found


def _steps(config: EvaluateConfig, path: str, devices: Devices | None, missing: list[str]) -> Found:
    found: Found = {}
    dataset = _dataset(config.data, missing)
    if dataset is not None:
        found["steps"] = {name: len(steps) for name, steps in dataset.splits.items()}
    return found | _answers(config, path, devices, missing)


def _suite_sandbox(config: RolloutConfig | RecordConfig) -> Found:
    """Where its commands will run, tried, and how many tasks there are. Raises ConfigError and DataError."""
    from swe_srl.live import SUITE
    from swe_srl.tasks.bugfix import load_tasks

    tasks = config.tasks if isinstance(config, RecordConfig) else str(config.sandbox.tasks or SUITE)
    return {"kind": _tried(config.sandbox.kind), "tasks": tasks, "n_tasks": len(load_tasks(tasks))}


# ---------------------------------------------------------------------------------------------- the network


def _fitting(config: TrainConfig, path: str, missing: list[str]) -> Fitting:
    from swe_srl.plan.fit import Fitting
    from swe_srl.plan.shape import network

    built, source = network(config.model, path)
    if config.model.path is not None and source != config.model.path:
        missing.append(f"model.path: {config.model.path} comes from the hub; its shape was read from {source}")
    if config.model.path is None and isinstance(config.stage[0], RlvrStage):
        missing.append(
            f"model.path: stage {config.stage[0].name!r} would begin with a new network, whose attempts resolve "
            "nothing, and learn nothing from them: give a trained one, such as runs/…/checkpoints/best"
        )
    return Fitting(config, built, source)


def _network(fitting: Fitting) -> Found:
    config = fitting.config
    shape = fitting.shape(config.model.lora)
    return {
        "model": config.model.path or "a new small network: model.path is not set",
        "shape_from": fitting.source,
        "parameters": shape.parameters,
        "trained_parameters": shape.trained,
    }


def _fits(fitting: Fitting, configs: Sequence[TrainConfig], devices: Devices | None, runs: int) -> Found:
    """The chain of stages that needs most memory, and the disk of all of them, `runs` times."""
    import shutil

    from swe_srl.doctor import GIB, here
    from swe_srl.plan.disk import disk
    from swe_srl.train.model import device_of

    place = devices or here(device_of(configs[0].model))
    most = max((fitting.of(config, place) for config in configs), key=lambda fit: fit.need)
    sums = [disk(fitting.shape(one.model.lora), [stage.keep_last for stage in one.stage]) for one in configs]
    need = runs * sum(one.kept for one in sums) + max(one.peak - one.kept for one in sums)
    free = shutil.disk_usage(_nearest(Path(configs[0].run))).free
    found: Found = {
        "device": place.name,
        "device_memory_gib": round(place.bytes_each / GIB, 1),
        "memory": most.as_json(),
        "disk": {
            "need_gib": round(need / GIB, 2),
            "free_gib": round(free / GIB, 1),
            "fits": need <= free,
            "checkpoint_gib": round(sums[0].checkpoint / GIB, 2),
            "state_gib": round(sums[0].state / GIB, 2),
            "how": sums[0].how + (f"; {runs} seeds of {len(sums)} chains" if runs > 1 or len(sums) > 1 else ""),
        },
    }
    found["fits"] = most.fits and (need <= free or devices is not None)  # the disk is not that of GPUs elsewhere
    if not most.fits:
        found["memory"]["after_a_change_gib"] = fitting.changes(configs[0], place)
    return found


def _costs(fitting: Fitting, config: TrainConfig, ranks: int) -> Found:
    """An update of each srl stage on H100s, with lengths that were measured on another corpus."""
    from swe_srl.plan.costs import CORPUS, KEPT, Sharing, cost_of

    found: Found = {}
    for stage in config.stage:
        if isinstance(stage, SrlStage):
            sharing = Sharing(tree=stage.prefix_sharing)
            one = cost_of(config, stage, fitting.shape(None), CORPUS, KEPT, sharing, ranks)
            found[stage.name] = {
                "learnt_tokens": round(one.learnt_tokens),
                "prefilled_tokens": round(one.prefill_tokens),
                "decoded_tokens": round(one.decode_tokens),
                "pflop": round((one.learn_flops + one.prefill_flops + one.decode_flops) / 1e15, 1),
                "seconds_on_h100": round(one.seconds),
            }
    return found


def _nearest(path: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.is_dir())


def _answers(config: AgentConfig | EvaluateConfig, path: str, devices: Devices | None, missing: list[str]) -> Found:
    """A policy that only answers: a model's weights and cache, or an endpoint."""
    from swe_srl.doctor import GIB, here
    from swe_srl.plan.fit import memory_of_answers
    from swe_srl.plan.shape import network, shape_of
    from swe_srl.train.model import device_of

    if config.engine.kind == "openai":
        return {"endpoint": config.engine.base_url}
    if config.model.path is None:
        missing.append("model.path: give a checkpoint, such as runs/…/checkpoints/best, or engine.base_url")
        return {}
    built, source = network(config.model, path)
    shape, place = shape_of(built, source), devices or here(device_of(config.model))
    element = 2 if config.model.dtype == "bfloat16" else 4
    parts = memory_of_answers(shape, element, config.engine.max_batch_tokens, place.kind)
    need = sum(part.bytes for part in parts)
    return {
        "model": config.model.path,
        "parameters": shape.parameters,
        "device": place.name,
        "device_memory_gib": round(place.bytes_each / GIB, 1),
        "need_gib": round(need / GIB, 2),
        "fits": need <= place.bytes_each,
        "parts": [{"name": part.name, "bytes": part.bytes, "how": part.how} for part in parts],
    }


# ------------------------------------------------------------------------------------------ data and sandboxes


def _data(config: TrainConfig, missing: list[str]) -> Found:
    """Steps by split, tasks, and where commands run. Raises ConfigError and DataError."""
    from swe_srl.data import require
    from swe_srl.train.chain import where_commands_run

    dataset = _dataset(config.data, missing)
    if dataset is None:
        return {}
    for name in ("train", "validation"):
        require(dataset, name, config.data.path)
    live, dataset = where_commands_run(config, dataset)
    found: Found = {
        "steps": {name: len(steps) for name, steps in dataset.splits.items()},
        "left_out": dict(dataset.skipped),
        "sandbox": None if live is None else {"kind": live.kind, "tasks": str(live.suite)},
        "prefix_reuse": None,
    }
    if config.model.path is not None and Path(config.model.path).expanduser().exists():
        found["prefix_reuse"] = prefix_reuse(config, dataset.splits["train"])
    if config.attempts_tasks:
        sandbox, tasks = config.sandbox or LiveSandbox(), config.tasks or TasksConfig()
        found["sandbox"] = _sandbox(sandbox.kind, tasks, None, missing)
    return found


def _dataset(config: DataConfig, missing: list[str]) -> Dataset | None:
    from swe_srl.data import load_dataset

    if not Path(config.path).exists():
        missing.append(f"data.path: {absent(config.path)}")
        return None
    return load_dataset(config)


def prefix_reuse(config: TrainConfig, train: StepSet) -> dict[str, float]:
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


def _sandbox(kind: str | None, tasks: TasksConfig, limit: int | None, missing: list[str]) -> Found:
    """Where attempts are made, tried; how many tasks there are, and whose images are not here."""
    from swe_srl.tasks import load as load_tasks

    found: Found = {"kind": None, "tasks": tasks.source}
    try:
        found["kind"] = _tried(kind)
    except ConfigError as error:
        missing.append(f"sandbox.kind: {error}")
    try:
        chosen = load_tasks(tasks, limit)
    except DataError as error:
        missing.append(f"tasks.source: {error}")
        return found
    absent = _absent(chosen, found["kind"])
    if absent:
        missing.append(f"images: {len(absent)} of {len(chosen)} tasks' are not here ({absent[0]}, …): they are pulled")
    return found | {"n_tasks": len(chosen), "images_missing": len(absent)}


def _absent(tasks: Iterable[Task], kind: str | None) -> list[str]:
    from swe_srl.tasks.images import have, needed

    absent = []
    for name in needed(tasks):
        try:
            have(name, kind or "docker", pull=False)
        except SandboxError:
            absent.append(name)
    return absent


def _tried(kind: str | None) -> str:
    """The sandbox that is meant, which works here. Raises ConfigError."""
    from swe_srl.sandboxes.choice import chosen, trouble

    found = chosen(kind)
    if reason := trouble(found):
        raise ConfigError(f"sandbox.kind = {found!r} does not work here: {reason}")
    return found
