"""A chain of stages: each starts from the best weights of the one before, with a fresh optimizer and cursor."""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from swe_srl.config import LiveSandbox
from swe_srl.data import Dataset, load_dataset, require
from swe_srl.disk import folder_aside
from swe_srl.engines import Engine
from swe_srl.engines.choice import open_engine
from swe_srl.errors import ConfigError, DataError
from swe_srl.lineage import Lineage, read_lineage
from swe_srl.live_view import Settings, working
from swe_srl.policies import seed_of
from swe_srl.policies.engine import EnginePolicy
from swe_srl.progress import bar
from swe_srl.render import Renderer
from swe_srl.rewards import Scorer
from swe_srl.runs import Run
from swe_srl.steps import StepSet
from swe_srl.train import checkpoint
from swe_srl.train.ahead import Ahead
from swe_srl.train.arena import Arena, Tasks
from swe_srl.train.checkpoint import Progress
from swe_srl.train.execute import Executor, usable
from swe_srl.train.loop import StageRun, train_stage
from swe_srl.train.model import (
    build_scratch,
    device_of,
    load_model,
    load_tokenizer,
    named_weights,
    share_prefixes,
    with_lora,
)
from swe_srl.train.own import Walking, walkable
from swe_srl.train.own_source import OwnSource
from swe_srl.train.probe import probe
from swe_srl.train.rlvr import RlvrSource
from swe_srl.train.sources import SftSource, Source, SrlSource
from swe_srl.train.validate import Validator
from swe_srl.train.whole_source import WholeSource
from swe_srl.train_config import MAX_UNSCORED, RlStage, RlvrStage, SftStage, SrlStage, TrainConfig
from swe_srl.types import Trajectory


def train(config: TrainConfig) -> dict[str, Any]:
    """Run every stage that is not finished yet; the JSON object of `swe-srl train`.

    Raises ConfigError, DataError, TemplateError and TrainingError.
    """
    dataset = load_dataset(config.data)
    for name in ("train", "validation"):
        require(dataset, name, config.data.path)
    live, dataset = where_commands_run(config, dataset)
    tasks = Tasks.of(config, dataset) if config.attempts_tasks else None
    arena = Arena.of(config, [*tasks.train, *tasks.validation]) if tasks else None
    run = Run(config.run, config)
    events_bytes = 0
    results = []
    with run.held(tensorboard=config.tensorboard), Scorer(config.reward.kind, config.reward.workers) as scorer:
        origin = config.model.path or _scratch_model(config, run, dataset)
        for number, settings in enumerate(config.stage, 1):
            folder = run.stage_folder(number, settings.name)
            result = checkpoint.finished(folder)
            if result is None:
                chain = Chain(config, dataset, run, scorer, folder, origin, events_bytes, live, tasks, arena)
                result = chain.run_stage(settings)
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


@dataclass(frozen=True, slots=True)
class Chain:
    """What a stage finds when its turn comes. `origin` is where its first weights lie."""

    config: TrainConfig
    dataset: Dataset
    run: Run
    scorer: Scorer
    folder: Path
    origin: str
    events_bytes: int
    live: Settings | None = None
    tasks: Tasks | None = None
    arena: Arena | None = None

    def run_stage(self, settings: SftStage | SrlStage | RlvrStage) -> dict[str, Any]:
        """One stage, from its last saved state or its beginning; its part of the JSON object."""
        stage = self.prepare(settings)
        found = checkpoint.resume(self.folder, stage.model, stage.optimizer, settings.keep_last)
        saved, older = found or (None, {})
        self.run.cut_events(saved.events_bytes if saved else self.events_bytes)
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
        with bar(settings.name, stage.length, stage.done) as tick, self._executing(stage), _attempting(stage, older):
            progress = train_stage(stage, tick)
        stage.policy.engine.close()
        result = {
            "name": settings.name,
            "kind": settings.kind,
            "steps": progress.step,
            "ended": progress.ended or "all steps done",
            "validation": progress.validation | {"step": progress.best_step},
            "checkpoint": str(self.folder / "checkpoints" / "best"),
            "events_bytes": progress.events_bytes,
        }
        checkpoint.finish(self.folder, result)
        return result

    @contextlib.contextmanager
    def _executing(self, stage: StageRun) -> Iterator[None]:
        """While the stage runs its answers are executed, if it is so set."""
        source = stage.source
        if self.live is None or not isinstance(source, SrlSource) or not source.stage.execute:
            yield
            return
        print(f"{source.stage.name}: answers are executed in sandboxes of kind {self.live.kind}", file=sys.stderr)
        with Executor(self.live) as executor:
            stage.execute = lambda draw: executor.start([(source.step(group.draw), group) for group in draw.seen])
            yield

    def prepare(self, settings: SftStage | SrlStage | RlvrStage) -> StageRun:
        """Model, optimizer, policy and source of a stage, as at its beginning."""
        config, device = self.config, device_of(self.config.model)
        dtype: torch.dtype = getattr(torch, config.model.dtype)
        tokenizer = load_tokenizer(self.origin)
        renderer = Renderer(tokenizer, config.prompt.settings())
        validation = self.dataset.splits["validation"]
        choose = validation.choose_whole if config.validation.walks else validation.choose
        held_out = choose(config.validation.steps, seed_of("validation"))

        model = load_model(self.origin, device)
        self._refuse_long_prompts(model, renderer, held_out)
        lags = isinstance(settings, RlvrStage) and settings.max_lag > 0
        engine = open_engine(config.engine, self.origin, model, dtype)
        drawing = open_engine(config.engine, self.origin, model, dtype) if lags else engine
        policy = EnginePolicy(renderer, engine, config.engine.max_tokens)
        if settings.prefix_sharing:
            share_prefixes(model)
        wants_kl = isinstance(settings, RlStage) and settings.kl > 0
        initial = copy.deepcopy(model).requires_grad_(False) if wants_kl and not config.model.lora else None
        if config.model.lora is not None:
            model = with_lora(model, config.model.lora, seed_of(config.seed, settings.name, "lora"))

        source, n, lineage = self._source(settings, policy, drawing, model)
        return StageRun(
            settings=settings,
            total=_total(settings, n),
            draws=settings.epochs * n if settings.epochs else math.inf,
            folder=self.folder,
            run=self.run,
            model=model,
            tokenizer=tokenizer,
            optimizer=_optimizer(model, settings),
            policy=policy,
            source=source,
            validator=Validator(
                held_out,
                policy,
                self.scorer,
                settings.token_budget,
                settings.prefix_sharing,
                dtype,
                config.seed,
                config.validation.history,
                self._walking(config.validation.own_threshold) if config.validation.walks else None,
                settings.max_unscored if isinstance(settings, RlStage) else MAX_UNSCORED,
            ),
            lineage=lineage,
            dtype=dtype,
            reference=(lambda: _reference(model, initial)) if wants_kl else None,
        )

    def _source(
        self, settings: SftStage | SrlStage | RlvrStage, policy: EnginePolicy, drawing: Engine, model: Any
    ) -> tuple[Source, int, Lineage]:
        """Where groups come from, of how many draws an epoch is, and what a checkpoint was trained on then."""
        config, before, prompt = self.config, read_lineage(self.origin), self.config.prompt.model_dump()
        if isinstance(settings, RlvrStage):
            assert self.tasks is not None
            assert self.arena is not None
            tasks, held_out = self.tasks.train, self.tasks.validation if settings.metric == "resolved" else []
            acting = replace(policy, temperature=settings.temperature, positions=_positions(model))
            drawn = replace(acting, engine=drawing)
            rlvr = RlvrSource(tasks, held_out, drawn, acting, settings, self.arena, self.folder, config.seed)
            return rlvr, len(tasks), before.extended((), settings.name, prompt, tasks)
        walks = isinstance(settings, SrlStage) and settings.history == "own"
        steps = self._learnable(policy.renderer, "walked" if walks else "train")
        lineage = before.extended(_trajectories(steps), settings.name, prompt)
        if isinstance(settings, SftStage):
            return SftSource(steps, policy.renderer, settings, config.seed), len(steps), lineage
        if walks:
            walking = self._walking(settings.own_threshold)
            return OwnSource(steps, policy, self.scorer, settings, config.seed, walking), len(steps), lineage
        if settings.reward_per == "trajectory":
            whole = WholeSource(steps, policy, self.scorer, settings, config.seed)
            return whole, len(whole.paths), lineage
        return SrlSource(steps, policy, self.scorer, settings, config.seed), len(steps), lineage

    def _walking(self, threshold: float) -> Walking:
        assert self.live is not None  # `where_commands_run` saw that it is wanted
        return Walking(self.live, threshold)

    def _learnable(self, renderer: Renderer, split: str) -> StepSet:
        """The split's steps whose target the policy could write within engine.max_tokens."""
        every, limit = self.dataset.splits[split], self.config.engine.max_tokens
        short = [
            reference
            for reference, step in zip(every.references, every, strict=True)
            if len(renderer.target_ids(step.expert.thought, step.action)) <= limit
        ]
        left_out = len(every) - len(short)
        if left_out:
            print(
                f"{left_out} of {len(every)} targets are over engine.max_tokens = {limit}: left out",
                file=sys.stderr,
            )
        if not short:
            raise DataError(f"all {len(every)} targets are longer than engine.max_tokens = {limit}: raise it")
        return StepSet(every.trajectories, short)

    def _refuse_long_prompts(self, model: Any, renderer: Renderer, steps: StepSet) -> None:
        """Positions beyond a model's last degrade without a word, or fail inside the device. Raises ConfigError."""
        longest = max(len(renderer.prompt_ids(step.trajectory.issue, step.history)) for step in steps)
        most = _positions(model)
        if most is not None and longest + self.config.engine.max_tokens > most:
            raise ConfigError(
                f"a validation prompt of {longest} tokens and an answer of engine.max_tokens = "
                f"{self.config.engine.max_tokens} are more than the model's {most} positions: lower "
                "prompt.issue_tokens, prompt.observation_tokens, prompt.action_tokens, prompt.window or that"
            )


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


def _positions(model: Any) -> int | None:
    """How many tokens a model takes, prompt and answer together; None: as many as come."""
    most: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return most


@contextlib.contextmanager
def _reference(model: Any, initial: Any | None) -> Iterator[Any]:
    """The stage's initial weights: a copy of them, or the model with its adapter off."""
    if initial is not None:
        yield initial
        return
    with model.disable_adapter():
        yield model


def _total(settings: SftStage | RlStage, n: int) -> int:
    """Updates over n training steps, or tasks: the stage's steps, its epochs' worth, or the fewer of the two.

    As many as come where CPU seconds alone end it.
    """
    of_epochs = [math.ceil(settings.epochs * n / settings.batch)] if settings.epochs else []
    return min([*of_epochs, *([settings.steps] if settings.steps is not None else [])], default=sys.maxsize)


def _optimizer(model: Any, settings: SftStage | RlStage) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr, betas=settings.betas)


def _trajectories(steps: StepSet) -> Iterator[Trajectory]:
    """The trajectories that these steps are of, each once."""
    for position in sorted({position for position, _ in steps.references}):
        yield steps.trajectories[position]


def _scratch_model(config: TrainConfig, run: Run, dataset: Dataset) -> str:
    """The small network that is made where no model is named; made once a run."""
    folder = run.folder / "model"
    if not folder.exists():
        texts = (
            text
            for trajectory in _trajectories(dataset.splits["train"])
            for text in [trajectory.issue, *(part for turn in trajectory.turns for part in _texts(turn))]
        )
        with folder_aside(folder) as aside:
            build_scratch(texts, config.model.scratch, seed_of(config.seed, "scratch"), aside)
    return str(folder)


def _texts(turn: Any) -> list[str]:
    values = list(turn.action.arguments.values()) if turn.action else []
    return [turn.thought, *values, turn.observation or ""]
