"""What a stage works with, made when its turn comes: model, optimizer, policy, source, validation."""

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

from swe_srl.config import Lora
from swe_srl.data import Dataset
from swe_srl.engines import Engine
from swe_srl.engines.choice import open_engine
from swe_srl.errors import ConfigError, DataError
from swe_srl.lineage import Lineage, read_lineage
from swe_srl.live_view import Settings
from swe_srl.policies import seed_of
from swe_srl.policies.engine import EnginePolicy
from swe_srl.render import Renderer
from swe_srl.rewards import Scorer
from swe_srl.runs import Run
from swe_srl.steps import StepSet
from swe_srl.train.arena import Arena, Tasks
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.first_weights import FirstWeights
from swe_srl.train.loop import StageRun
from swe_srl.train.model import (
    adapted,
    checkpoint_activations,
    core,
    device_of,
    load_model,
    load_tokenizer,
    share_prefixes,
    with_lora,
)
from swe_srl.train.own import Walking
from swe_srl.train.own_source import OwnSource
from swe_srl.train.recorded import RecordedSource
from swe_srl.train.rlvr import RlvrSource
from swe_srl.train.sharded import shard
from swe_srl.train.sources import SftSource, Source, SrlSource
from swe_srl.train.validate import Validator
from swe_srl.train.whole_source import WholeSource
from swe_srl.train_config import MAX_UNSCORED, RlStage, RlvrStage, SftStage, SrlStage, TrainConfig
from swe_srl.types import Trajectory


@dataclass(frozen=True, slots=True)
class Given:
    """What a stage finds. `origin` is where its first weights lie."""

    config: TrainConfig
    dataset: Dataset
    run: Run
    scorer: Scorer
    folder: Path
    origin: str
    live: Settings | None = None
    tasks: Tasks | None = None
    arena: Arena | None = None
    world: World = ALONE

    def prepare(self, settings: SftStage | SrlStage | RlvrStage) -> StageRun:
        """Model, optimizer, policy and source of a stage, as at its beginning."""
        config, dtype = self.config, getattr(torch, self.config.model.dtype)
        tokenizer = load_tokenizer(self.origin)
        renderer = Renderer(tokenizer, config.prompt.settings())
        validation = self.dataset.splits["validation"]
        choose = validation.choose_whole if config.validation.walks else validation.choose
        held_out = choose(config.validation.steps, seed_of("validation"))

        weights = torch.float32 if config.model.lora is None else dtype
        first, model = self._loaded(weights)
        self._refuse_long_prompts(model, renderer, held_out)
        lags = isinstance(settings, RlvrStage) and settings.max_lag > 0
        engine = self._engine(first, model, dtype)
        drawing = self._engine(first, model, dtype) if lags else engine
        policy = EnginePolicy(renderer, engine, config.engine.max_tokens)
        model, initial = self._trained(first, model, settings, dtype)

        source, n, lineage = self._source(settings, policy, drawing, model)
        return StageRun(
            settings=settings,
            total=min(_total(settings, n), source.updates if isinstance(source, RecordedSource) else sys.maxsize),
            draws=settings.epochs * n if settings.epochs else math.inf,
            folder=self.folder,
            run=self.run,
            model=model,
            tokenizer=tokenizer,
            optimizer=optimizer_of(model, settings),
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
                self.world,
            ),
            lineage=lineage,
            dtype=dtype,
            reference=(lambda: _reference(model, initial)) if _wants_kl(settings) else None,
            world=self.world,
        )

    def _loaded(self, dtype: torch.dtype) -> tuple[FirstWeights | None, Any]:
        """The network. Of several ranks it has no memory yet, and its weights come apart from it."""
        device = device_of(self.config.model)
        if self.world.size > 1:
            return FirstWeights.of(self.origin, device, dtype, self.world)
        return None, load_model(self.origin, device, dtype)

    def _engine(self, first: FirstWeights | None, model: Any, dtype: torch.dtype) -> Engine:
        """Every rank's own, which holds the whole network."""
        settings = self.config.engine
        if first is None:
            return open_engine(settings, self.origin, model, dtype)
        if settings.kind == "vllm":
            return open_engine(settings, self.origin, model, dtype, first.each(model))
        return open_engine(settings, self.origin, first.whole(model), dtype)

    def _trained(
        self, first: FirstWeights | None, model: Any, settings: SftStage | RlStage, dtype: torch.dtype
    ) -> tuple[Any, Any | None]:
        """The network as it is trained, and a copy of its first weights where KL needs one; both shared by ranks."""
        if first is not None and first.read is not None:
            first.read = self._adapted(first.read, settings)
        model = self._adapted(model, settings)
        copied = _wants_kl(settings) and self.config.model.lora is None
        initial = copy.deepcopy(model).requires_grad_(False) if copied else None
        if settings.activation_checkpointing:
            checkpoint_activations(model)
        if first is not None:
            kind = first.device.type
            model = shard(model, dtype, self.world, kind, first.fill)
            initial = None if initial is None else shard(initial, dtype, self.world, kind, first.fill)
        return model, initial

    def _adapted(self, model: Any, settings: SftStage | RlStage) -> Any:
        """With attention over tries, and an adapter, where they are wanted."""
        if settings.prefix_sharing:
            share_prefixes(model)
        lora: Lora | None = self.config.model.lora
        return model if lora is None else with_lora(model, lora, seed_of(self.config.seed, settings.name, "lora"))

    def _source(
        self, settings: SftStage | SrlStage | RlvrStage, policy: EnginePolicy, drawing: Engine, model: Any
    ) -> tuple[Source, int, Lineage]:
        """Where groups come from, of how many draws an epoch is, and what a checkpoint was trained on then."""
        config, before, prompt = self.config, read_lineage(self.origin), self.config.prompt.model_dump()
        if others := before.other_prompts(prompt):
            print(
                f"{self.origin} was trained in other prompts, and may not know the form in these; its own were "
                f"{' '.join(others)}",
                file=sys.stderr,
            )
        if isinstance(settings, RlvrStage):
            assert self.tasks is not None
            assert self.arena is not None
            tasks, held_out = self.tasks.train, self.tasks.validation if settings.metric == "resolved" else []
            acting = replace(policy, temperature=settings.temperature, positions=_positions(model))
            drawn = replace(acting, engine=drawing)
            rlvr = RlvrSource(
                tasks, held_out, drawn, acting, settings, self.arena, self.folder, config.seed, self.world
            )
            return rlvr, len(tasks), before.extended((), settings.name, prompt, tasks)
        walks = isinstance(settings, SrlStage) and settings.history == "own"
        steps = self._learnable(policy.renderer, "walked" if walks else "train")
        lineage = before.extended(trajectories_of(steps), settings.name, prompt)
        if config.rollouts is not None and isinstance(settings, SrlStage):
            recorded = RecordedSource(Path(config.rollouts.from_run), steps, policy.renderer, settings)
            return recorded, len(steps), lineage
        if isinstance(settings, SftStage):
            return SftSource(steps, policy.renderer, settings, config.seed), len(steps), lineage
        if walks:
            walking = self._walking(settings.own_threshold)
            own = OwnSource(steps, policy, self.scorer, settings, config.seed, walking, self.world)
            return own, len(steps), lineage
        if settings.reward_per == "trajectory":
            whole = WholeSource(steps, policy, self.scorer, settings, config.seed, self.world)
            return whole, len(whole.paths), lineage
        return SrlSource(steps, policy, self.scorer, settings, config.seed, self.world), len(steps), lineage

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


def _positions(model: Any) -> int | None:
    """How many tokens a model takes, prompt and answer together; None: as many as come."""
    most: int | None = getattr(core(model).config.get_text_config(), "max_position_embeddings", None)
    return most


@contextlib.contextmanager
def _reference(model: Any, initial: Any | None) -> Iterator[Any]:
    """The stage's initial weights: a copy of them, or the model with its adapter off."""
    if initial is not None:
        yield initial
        return
    with adapted(model).disable_adapter():
        yield model


def _wants_kl(settings: SftStage | RlStage) -> bool:
    return isinstance(settings, RlStage) and settings.kl > 0


def _total(settings: SftStage | RlStage, n: int) -> int:
    """Updates over n training steps, or tasks: the stage's steps, its epochs' worth, or the fewer of the two.

    As many as come where CPU seconds alone end it.
    """
    of_epochs = [math.ceil(settings.epochs * n / settings.batch)] if settings.epochs else []
    return min([*of_epochs, *([settings.steps] if settings.steps is not None else [])], default=sys.maxsize)


def optimizer_of(model: Any, settings: SftStage | RlStage) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr, betas=settings.betas)


def trajectories_of(steps: StepSet) -> Iterator[Trajectory]:
    """The trajectories that these steps are of, each once."""
    for position in sorted({position for position, _ in steps.references}):
        yield steps.trajectories[position]
