"""The algorithm, on one screen: Supervised Reinforcement Learning (arXiv 2510.25992 §4.2), and SFT beside it.

Stated by the paper: the objective (Eq. 1), A = (r − mean)/std over the group with the population std, dynamic
sampling until B groups are kept, G = 8, T = 1, batch 512, lr 5e-7, no warm-up, grad norm 1.0, no KL, the best
checkpoint by validation (Tables 5 and 7, §5.1). What it leaves open, and what we chose (each is a config key):

    what text is compared      the action's canonical text, without keys and markup
    difflib's autojunk         off; arguments in the order (proposed, expert)
    clip_epsilon               0.2, verl's default
    min_group_std              1e-6: float noise, not a threshold of taste
    updates_per_batch          1: old log-probs are the trainer's own, so the clip cannot bind
    optimizer                  AdamW (0.9, 0.999), weight decay 0.01 on matrices only; float32 masters and state
    lengths                    engine.max_tokens 1,024; observations cut in the middle to prompt.observation_tokens
    last step as a target      yes (the paper stops at N − 1: data.include_last = false): an agent must learn to stop
    which groups form a batch  the first B live ones in draw order, never in order of finishing
    too few live groups        after max_draws · B draws: with B/4 the step goes on, below that the stage has converged
    sampler's log-probs        only as a truncated weight (sampler_weight_cap), off; the divergence is always logged
    KL (off)                   k3, to the stage's initial weights
    validation                 greedy decoding on held-out repositories
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swe_srl.errors import TrainingError
from swe_srl.lineage import Lineage
from swe_srl.policies.engine import EnginePolicy
from swe_srl.progress import Tick
from swe_srl.runs import Run
from swe_srl.train import checkpoint
from swe_srl.train.ahead import Ahead
from swe_srl.train.checkpoint import Progress
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.execute import Executed
from swe_srl.train.measure import Meter, group_row, write_rollouts
from swe_srl.train.model import log_probs, named_weights
from swe_srl.train.objective import Batch, clipped, k3, nll, reinforced, sampler_weight, supervised
from swe_srl.train.passes import in_step, share_of
from swe_srl.train.pieces import Piece, pack
from swe_srl.train.schedule import learning_rate
from swe_srl.train.sharded import full
from swe_srl.train.sources import Source
from swe_srl.train.take import Draw, take
from swe_srl.train.validate import Validator
from swe_srl.train_config import SPENT, RlStage, SftStage


@dataclass(slots=True)
class StageRun:
    """All that one stage works with. `reference` gives the initial weights' model within a context, for KL.

    `execute` begins to run a draw's commands, and returns what waits for them (`srl.execute`). `settle` is told what
    a step learns from, and tells more of it for its event; `attempts` adds to a validation's numbers.
    """

    settings: SftStage | RlStage
    total: int
    draws: float  # the stage ends when its epochs are drawn, too
    folder: Path
    run: Run
    model: Any
    tokenizer: Any
    optimizer: torch.optim.Optimizer
    policy: EnginePolicy
    source: Source
    validator: Validator
    lineage: Lineage
    dtype: torch.dtype
    progress: Progress = field(default_factory=Progress)
    reference: Callable[[], contextlib.AbstractContextManager[Any]] | None = None
    execute: Callable[[Draw], Callable[[], Executed]] = lambda draw: dict  # srl.execute; else nothing is run
    settle: Callable[[Draw, int], dict[str, Any]] = lambda draw, step: {}  # RLVR: keeps and tells of episodes
    attempts: Callable[[int], dict[str, Any]] = lambda step: {}  # RLVR: at the tasks of validation
    ahead: Ahead | None = None  # RLVR with a lag: batches are drawn while updates run
    world: World = ALONE

    @property
    def place(self) -> tuple[int, int]:
        """How far the schedule is, and its length: in updates, or in thousandths of the CPU seconds."""
        if self.settings.cpu_s is None:
            return self.progress.step, self.total
        return int(1000 * self.progress.cpu_s / self.settings.cpu_s), 1000

    @property
    def length(self) -> int:
        """What a bar counts: updates, or CPU seconds."""
        return self.total if self.settings.cpu_s is None else math.ceil(self.settings.cpu_s)

    @property
    def done(self) -> int:
        return self.progress.step if self.settings.cpu_s is None else min(int(self.progress.cpu_s), self.length)


def train_stage(stage: StageRun, tick: Tick) -> Progress:
    """Run a stage from where its progress stands to its end. Raises TrainingError."""
    settings, progress = stage.settings, stage.progress
    if progress.events_bytes == 0:  # nothing was saved yet: the stage's first weights are a checkpoint too
        validate_and_save(stage)
    while progress.step < stage.total and progress.ended is None:
        meter = Meter(stage.world)
        draw = stage.ahead.take() if stage.ahead else take(stage.source, settings, progress)
        meter.mark("sample")
        told = stage.settle(draw, progress.step + 1) | stage.policy.engine.stats()
        if draw.converged:
            progress.ended = draw.converged
            if isinstance(settings, RlStage):  # what was drawn in vain
                row = meter.row() | group_row(draw, settings) | told
                stage.run.event(kind="converged", stage=settings.name, step=progress.step, **row)
        else:
            executed = stage.execute(draw)  # beside the update, which knows nothing of it
            stage.policy.engine.rest()
            learn(stage, draw, meter)
            progress.step += 1
            progress.cursor = draw.cursor
            if progress.cursor.draw >= stage.draws:
                progress.ended = "all epochs drawn"
            if isinstance(settings, RlStage):
                stage.policy.engine.load_weights(named_weights(stage.model))
                if stage.ahead:
                    stage.ahead.publish(progress.step, named_weights(stage.model))
                if stage.world.leads:
                    write_rollouts(stage.folder, progress.step, draw, executed())
            row = stage.run.event(kind="step", stage=settings.name, step=progress.step, **meter.row(), **told)
            if settings.cpu_s is not None:
                progress.cpu_s += sum(stage.world.gather(row["time/cpu"]))
                if progress.cpu_s >= settings.cpu_s:
                    progress.ended = SPENT
            tick(stage.done, note(row))
        validate_and_save(stage)
    return progress


def learn(stage: StageRun, draw: Draw, meter: Meter) -> None:
    """One batch, `updates_per_batch` optimizer steps."""
    settings = stage.settings
    temperature = settings.temperature if isinstance(settings, RlStage) else 1.0
    batch = supervised(draw.live) if isinstance(settings, SftStage) else reinforced(draw.live)
    pieces = pack(share_of(batch.strands, stage.world), settings.token_budget, share=settings.prefix_sharing)
    updates = settings.updates_per_batch if isinstance(settings, RlStage) else 1
    old_N = flat_log_probs(stage, stage.model, batch, pieces) if updates > 1 else None
    reference_N = None
    if stage.reference is not None:
        with stage.reference() as reference:
            reference_N = flat_log_probs(stage, reference, batch, pieces)
    lr = learning_rate(settings, *stage.place)
    for _ in range(updates):
        for piece in in_step(stage.model, pieces):
            logp_N, entropy_N = log_probs(stage.model, piece, batch.ids_N[piece.slot_N], temperature, stage.dtype)
            loss_N = token_losses(settings, batch, piece, logp_N, old_N, reference_N)
            weight_N = batch.weight_N[piece.slot_N].to(logp_N.device)
            (weight_N * loss_N).sum().backward()
            meter.tokens(batch, piece, logp_N, entropy_N, loss_N, old_N, reference_N)
        meter.update(lr, update(stage, lr))
    meter.mark("update")
    meter.reuse(batch, pieces)
    meter.groups(draw, settings)


def token_losses(
    settings: SftStage | RlStage,
    batch: Batch,
    piece: Piece,
    logp_N: Tensor,
    old_N: Tensor | None,
    reference_N: Tensor | None,
) -> Tensor:
    """The loss of each target token of a piece, unweighted: `nll`, or `clipped` with its options."""
    if isinstance(settings, SftStage):
        return nll(logp_N)
    slot_N = piece.slot_N
    old = logp_N.detach() if old_N is None else old_N[slot_N].to(logp_N.device)
    loss_N = clipped(logp_N, old, batch.advantage_N[slot_N].to(logp_N.device), settings.clip_epsilon)
    if settings.sampler_weight_cap is not None:
        sampler = batch.sampler_N[slot_N].to(logp_N.device)
        loss_N = loss_N * sampler_weight(old, sampler, settings.sampler_weight_cap)
    if reference_N is not None:
        loss_N = loss_N + settings.kl * k3(logp_N, reference_N[slot_N].to(logp_N.device))
    return loss_N


@torch.no_grad()
def flat_log_probs(stage: StageRun, model: Any, batch: Batch, pieces: list[Piece]) -> Tensor:
    """Log-probabilities of the whole batch, in its order, without gradients."""
    temperature = stage.settings.temperature if isinstance(stage.settings, RlStage) else 1.0
    flat_N = torch.empty(len(batch.ids_N))  # of several ranks each has its own pieces', and asks for no others
    for piece in in_step(model, pieces):
        logp_N, _ = log_probs(model, piece, batch.ids_N[piece.slot_N], temperature, stage.dtype)
        flat_N[piece.slot_N] = logp_N.cpu()
    return flat_N


def update(stage: StageRun, lr: float) -> float:
    """Clip, step, clear; the gradient's norm before the clip."""
    parameters = [parameter for parameter in stage.model.parameters() if parameter.requires_grad]
    norm = full(torch.nn.utils.clip_grad_norm_(parameters, stage.settings.max_grad_norm))
    if not torch.isfinite(norm):
        raise TrainingError(
            f"{stage.settings.name}: the gradient's norm is {float(norm)} after {stage.progress.step} steps; nothing "
            "of it was learnt or saved. Lower the learning rate, or look at that step's answers, and start in another "
            "run folder"
        )
    for group in stage.optimizer.param_groups:
        group["lr"] = lr
    stage.optimizer.step()
    stage.optimizer.zero_grad(set_to_none=True)
    return float(norm)


def validate_and_save(stage: StageRun) -> None:
    """What is due after a step; the last one of a stage is always validated and saved."""
    settings, progress = stage.settings, stage.progress
    over = progress.ended is not None or progress.step == stage.total
    if over or progress.step % settings.validate_every == 0:
        began = time.perf_counter()
        stage.policy.engine.load_weights(named_weights(stage.model))
        found = stage.validator(stage.model) | stage.attempts(progress.step)
        value = -found["loss"] if settings.metric == "loss" else found[settings.metric]
        progress.since_best += 1
        if value > progress.best_value:
            progress.best_value, progress.best_step, progress.since_best = value, progress.step, 0
            progress.validation = found
        if settings.patience is not None and progress.since_best >= settings.patience:
            progress.ended = progress.ended or f"no better validation in {progress.since_best}"
        row = {"kind": "validation", "stage": settings.name, "step": progress.step, **found}
        stage.run.event(**row, **stage.policy.engine.stats(), **{"time/validation": time.perf_counter() - began})
    elif progress.step % settings.save_every:
        return
    progress.events_bytes = stage.world.agreed(stage.run.events_bytes())
    checkpoint.save(
        stage.folder,
        progress,
        stage.model,
        stage.tokenizer,
        stage.optimizer,
        stage.lineage,
        settings.keep_last,
        stage.ahead.older(progress.step) if stage.ahead else {},
        stage.world,
    )


def note(row: dict[str, Any]) -> str:
    if "reward" not in row:
        return f"loss {row['loss']:.3f}"
    told = {
        "reward": row["reward"],
        "format errors": row.get("srl/format_error", row.get("rlvr/format_error")),
        "resolved": row.get("rlvr/resolved"),
    }
    return "  ".join(f"{name} {value:.3f}" for name, value in told.items() if value is not None)
