"""A chain of stages: each starts from the best weights of the one before, with a fresh optimizer and cursor."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from swe_srl import copies
from swe_srl.config import LiveSandbox
from swe_srl.data import Dataset, load_dataset, require
from swe_srl.disk import folder_aside
from swe_srl.errors import ConfigError
from swe_srl.live_view import Settings, working
from swe_srl.policies import seed_of
from swe_srl.progress import bar
from swe_srl.rewards import Scorer
from swe_srl.runs import Run
from swe_srl.train import checkpoint
from swe_srl.train.ahead import Ahead
from swe_srl.train.arena import Arena, Tasks
from swe_srl.train.checkpoint import Progress
from swe_srl.train.distributed import World
from swe_srl.train.execute import Executor, usable
from swe_srl.train.loop import StageRun, train_stage
from swe_srl.train.model import build_scratch, named_weights
from swe_srl.train.own import walkable
from swe_srl.train.prepare import Given, trajectories_of
from swe_srl.train.probe import probe
from swe_srl.train.rlvr import RlvrSource
from swe_srl.train.sources import SrlSource
from swe_srl.train_config import RlvrStage, SftStage, SrlStage, TrainConfig


def train(config: TrainConfig) -> dict[str, Any]:
    """Run every stage that is not finished yet; the JSON object of `swe-srl train`.

    Raises ConfigError, DataError, TemplateError and TrainingError.
    """
    world = World.here()
    if world.size > 1 and (lags := [one.name for one in config.stage if isinstance(one, RlvrStage) and one.max_lag]):
        raise ConfigError(
            f"stage {lags[0]!r}: batches are drawn while updates run (max_lag > 0) in one process, and there are "
            f"{world.size}: set max_lag = 0, or start it without torchrun"
        )
    if world.size > 1 and ":" in config.model.device:
        raise ConfigError(
            f"model.device: each of {world.size} processes takes the GPU of its LOCAL_RANK, and {config.model.device} "
            'is one; expected "auto", "cuda" or "cpu"'
        )
    dataset = load_dataset(config.data)
    for name in ("train", "validation"):
        require(dataset, name, config.data.path)
    live, dataset = where_commands_run(config, dataset)
    tasks = Tasks.of(config, dataset) if config.attempts_tasks else None
    arena = Arena.of(config, [*tasks.train, *tasks.validation], world.size) if tasks else None
    run = Run(config.run, config, writes=world.leads)
    events_bytes = 0
    results = []
    copied = [copies.tensorboard(run.folder)] if config.tensorboard else []
    if config.wandb is not None:
        copied.append(copies.wandb(run.folder, config.wandb))
    with run.held(*copied), Scorer(config.reward.kind, config.reward.workers) as scorer:
        world.wait()  # the run is taken up
        origin = config.model.path or _scratch_model(config, run, dataset, world)
        for number, settings in enumerate(config.stage, 1):
            folder = run.stage_folder(number, settings.name)
            result = world.agreed(checkpoint.finished(folder))
            if result is None:
                given = Given(config, dataset, run, scorer, folder, origin, live, tasks, arena, world)
                result = run_stage(given, settings, events_bytes)
            results.append(result)
            origin, events_bytes = result["checkpoint"], result["events_bytes"]
    return {"run_dir": str(run.folder), "checkpoint": origin, "stages": results}


def where_commands_run(config: TrainConfig, dataset: Dataset) -> tuple[Settings | None, Dataset]:
    """The sandboxes, if a stage or validation wants them on logs; and the data with what can be walked there.

    Raises ConfigError and DataError, before anything is trained.
    """
    stages = [one for one in config.stage if isinstance(one, SrlStage)]
    own = any(one.history == "own" for one in stages)
    sandbox, splits, path = config.sandbox or LiveSandbox(), dict(dataset.splits), config.data.path
    live = usable(sandbox, splits["train"], path) if any(one.execute for one in stages) else None
    if own or config.validation.walks:
        live = live or working(sandbox, 'history = "own"')
        if own:
            splits["walked"] = walkable(splits["train"], live, path, "training")
        if config.validation.walks:
            splits["validation"] = walkable(splits["validation"], live, path, "validation")
    return live, replace(dataset, splits=splits)


def run_stage(given: Given, settings: SftStage | SrlStage | RlvrStage, events_bytes: int) -> dict[str, Any]:
    """One stage, from its last saved state or its beginning; its part of the JSON object."""
    stage = given.prepare(settings)
    found = checkpoint.resume(given.folder, stage.model, stage.optimizer, settings.keep_last, given.world)
    saved, older = found or (None, {})
    given.run.cut_events(saved.events_bytes if saved else events_bytes)
    stage.progress = saved or Progress()
    if saved:
        stage.policy.engine.load_weights(named_weights(stage.model))
    told = probe(stage.policy, stage.model, stage.dtype, stage.validator.steps[:2])
    print(
        f"{settings.name}: sampler and trainer log-probabilities differ by at most {told[1.0]:.1e} at T = 1, "
        f"{told[0.7]:.1e} at T = 0.7 (rounding alone makes about 1e-6 in float32, 1e-2 in bfloat16)",
        file=sys.stderr,
    )
    if stage.progress.step:
        of = f" of {stage.total}" if settings.cpu_s is None else f", {stage.done} of {stage.length} CPU seconds"
        print(f"{settings.name}: going on after step {stage.progress.step}{of}", file=sys.stderr)
    title = settings.name if settings.cpu_s is None else f"{settings.name} (CPU seconds)"
    with bar(title, stage.length, stage.done) as tick, _executing(given, stage), _attempting(stage, older):
        progress = train_stage(stage, tick)
    stage.policy.engine.close()
    result = {
        "name": settings.name,
        "kind": settings.kind,
        "steps": progress.step,
        "ended": progress.ended or "all steps done",
        "validation": progress.validation | {"step": progress.best_step},
        "checkpoint": str(given.folder / "checkpoints" / "best"),
        "events_bytes": progress.events_bytes,
    }
    if given.world.leads:
        checkpoint.finish(given.folder, result)
    return result


@contextlib.contextmanager
def _executing(given: Given, stage: StageRun) -> Iterator[None]:
    """While the stage runs its answers are executed, if it is so set."""
    source = stage.source
    if given.live is None or not isinstance(source, SrlSource) or not source.stage.execute or not given.world.leads:
        yield
        return
    print(f"{source.stage.name}: answers are executed in sandboxes of kind {given.live.kind}", file=sys.stderr)
    with Executor(given.live) as executor:
        stage.execute = lambda draw: executor.start([(source.step(group.draw), group) for group in draw.seen])
        yield


@contextlib.contextmanager
def _attempting(stage: StageRun, older: checkpoint.Older) -> Iterator[None]:
    """While an RLVR stage runs its sandboxes are to be had; `older` weights draw batches that lag behind the state."""
    if not isinstance(source := stage.source, RlvrSource):
        yield
        return
    stage.settle, stage.attempts = source.settle, source.validate
    if source.stage.max_lag == 0:
        with source:
            yield
        return
    ahead = Ahead(source, source.stage, source.policy.engine, stage.total, stage.progress, older)
    ahead.publish(stage.progress.step, named_weights(stage.model))
    try:
        with source, ahead:
            stage.ahead = ahead
            yield
    finally:
        ahead.join()  # now that its sandboxes are closed
        source.policy.engine.close()


def _scratch_model(config: TrainConfig, run: Run, dataset: Dataset, world: World) -> str:
    """The small network that is made where no model is named; made once a run."""
    folder = run.folder / "model"
    if world.leads and not folder.exists():
        texts = (
            text
            for trajectory in trajectories_of(dataset.splits["train"])
            for text in [trajectory.issue, *(part for turn in trajectory.turns for part in _texts(turn))]
        )
        with folder_aside(folder) as aside:
            build_scratch(texts, config.model.scratch, seed_of(config.seed, "scratch"), aside)
    world.wait()
    return str(folder)


def _texts(turn: Any) -> list[str]:
    values = list(turn.action.arguments.values()) if turn.action else []
    return [turn.thought, *values, turn.observation or ""]
