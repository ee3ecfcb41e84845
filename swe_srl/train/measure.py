"""What is written down of a step: the names that TRL's users know, and ours; and every answer with its score."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from swe_srl.actions import parse_completion
from swe_srl.runs import write_rows
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.objective import Batch, k3, reward_std, rewards
from swe_srl.train.passes import idle
from swe_srl.train.pieces import Piece
from swe_srl.train.take import Draw
from swe_srl.train_config import RlStage, SftStage
from swe_srl.types import Action, Group, Sample, Went

if TYPE_CHECKING:
    from swe_srl.train.execute import Executed


class Meter:
    """Gathers one step's numbers; `row` gives them. Means over tokens are plain means over the batch,
    those of several updates of one batch are means over them too."""

    def __init__(self, world: World = ALONE) -> None:
        self._world = world
        self._began = self._last = time.perf_counter()
        self._cpu = time.process_time()
        self._row: dict[str, Any] = {}
        self._tokens: dict[str, list[Tensor]] = defaultdict(list)
        self._loss = 0.0
        self._passed = 0  # tokens
        self._updates = 0

    def mark(self, phase: str) -> None:
        """Seconds since the last mark go to `phase`."""
        now = time.perf_counter()
        self._row[f"time/{phase}"] = now - self._last
        self._last = now

    @torch.no_grad()
    def tokens(
        self,
        batch: Batch,
        piece: Piece,
        logp_N: Tensor,
        entropy_N: Tensor,
        loss_N: Tensor,
        old_N: Tensor | None,
        reference_N: Tensor | None,
    ) -> None:
        logp_N, slot_N = logp_N.cpu(), piece.slot_N
        self._loss += float((batch.weight_N[slot_N] * loss_N.cpu()).sum())
        self._tokens["entropy"].append(entropy_N.cpu())
        old = logp_N if old_N is None else old_N[slot_N]
        self._tokens["ratio"].append((logp_N - old).exp())
        self._tokens["advantage"].append(batch.advantage_N[slot_N])
        self._tokens["gap"].append(old - batch.sampler_N[slot_N])
        if reference_N is not None:
            self._tokens["kl"].append(k3(logp_N, reference_N[slot_N]))
        self._passed += piece.ids_RT.numel() if piece is not idle() else 0

    def reuse(self, batch: Batch, pieces: Sequence[Piece]) -> None:
        """`perf/prefix_reuse`: the share of the sequences' tokens that shared prefixes, or padding below 0, saved."""
        alone = sum(len(strand.inputs) for group in batch.strands for strand in group)
        together = sum(self._world.gather(sum(piece.ids_RT.numel() for piece in pieces)))
        self._row["perf/prefix_reuse"] = 1 - together / alone

    def update(self, lr: float, grad_norm: float) -> None:
        self._updates += 1
        self._row |= {"learning_rate": lr, "grad_norm": grad_norm}

    def groups(self, draw: Draw, settings: SftStage | RlStage) -> None:
        """Of the whole batch: every rank has computed a share of it."""
        own = {name: torch.cat(parts) for name, parts in self._tokens.items()}
        losses, passed, shares = zip(*self._world.gather((self._loss, self._passed, own)), strict=True)
        flat = {name: torch.cat([share[name] for share in shares if name in share]) for name in own}
        self._row |= {"loss": sum(losses) / self._updates, "entropy": float(flat["entropy"].mean())}
        self._row["num_tokens"] = sum(passed)
        if not isinstance(settings, RlStage):
            return
        if "kl" in flat:
            self._row["kl"] = float(flat["kl"].mean())
        low = (flat["ratio"] < 1 - settings.clip_epsilon) & (flat["advantage"] < 0)
        high = (flat["ratio"] > 1 + settings.clip_epsilon) & (flat["advantage"] > 0)
        gap, weight = flat["gap"].abs(), flat["gap"].exp()
        self._row |= {
            "clip_ratio/low_mean": float(low.float().mean()),
            "clip_ratio/high_mean": float(high.float().mean()),
            "clip_ratio/region_mean": float((low | high).float().mean()),
            "sampling/sampling_logp_difference/mean": float(gap.mean()),
            "sampling/sampling_logp_difference/max": float(gap.max()),
            "sampling/importance_sampling_ratio/min": float(weight.min()),
            "sampling/importance_sampling_ratio/mean": float(weight.mean()),
            "sampling/importance_sampling_ratio/max": float(weight.max()),
        }
        self._row |= group_row(draw, settings)

    def row(self) -> dict[str, Any]:
        return self._row | {
            "step_time": time.perf_counter() - self._began,
            "time/cpu": time.process_time() - self._cpu,
        }


def group_row(draw: Draw, settings: RlStage) -> dict[str, Any]:
    """Of all groups that were drawn, live or not. A reward is a response's; lengths and forms are of each answer."""
    samples = [sample for group in draw.seen for sample in group.samples]
    scored = [sample.score for sample in samples if sample.score.value is not None]
    responses = [turns[0].score for group in draw.seen for turns in group.responses]
    values = [score.value for score in responses if score.value is not None]
    lengths = [len(sample.tokens.ids) for sample in samples]
    similarities = [score.parts["similarity"] for score in scored if "similarity" in score.parts]
    prompts = [{sample.tokens.prompt_ids for sample in group.samples} for group in draw.seen]
    kind = settings.kind
    return {
        "reward": _mean(values),
        "reward_std": float(np.mean([reward_std(group) for group in draw.seen])),
        "frac_reward_zero_std": float(np.mean([reward_std(group) <= settings.min_group_std for group in draw.seen])),
        "tokens/prompts": sum(len(prompt) for of_group in prompts for prompt in of_group),
        "tokens/sampled": sum(lengths),
        "completions/mean_length": float(np.mean(lengths)),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": _mean([score.format_error == "truncated" for score in scored]),
        **({"srl/similarity": _mean(similarities)} if kind == "srl" else {}),
        f"{kind}/format_error": _mean([score.format_error is not None for score in scored]),
        f"{kind}/seen_groups": len(draw.seen),
        f"{kind}/kept_groups": len(draw.live),
        f"{kind}/fill": len(draw.live) / settings.batch,
        f"{kind}/groups_kept_only_by_format": sum(_only_format(group, settings) for group in draw.live),
        f"{kind}/unscored": len(responses) - len(values),
        f"{kind}/unscored_groups": sum(len(rewards(group)) < 2 for group in draw.seen),
        **_went(draw),
    }


def _went(draw: Draw) -> dict[str, float]:
    """How the walks of `history = "own"` went on, as shares of the groups that were asked."""
    went = [group.went for group in draw.seen if group.went is not None]
    ways: tuple[Went, ...] = ("own", "ahead", "put back", "lost")
    return {f"own/{way.replace(' ', '_')}": went.count(way) / len(went) for way in ways} if went else {}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _only_format(group: Group, settings: RlStage) -> bool:
    """Whether its rewards differ, and those of its responses that end well-formed alone do not."""
    if reward_std(group) <= settings.min_group_std:
        return False
    ends = [turns for turns in group.responses if turns[-1].score.format_error is None]
    well_formed = tuple(sample for turns in ends for sample in turns)
    return reward_std(Group(group.key, group.draw, well_formed)) <= settings.min_group_std


def action_of(sample: Sample) -> Action | None:
    """What an answer would do; None where its form is wrong, and where there is none."""
    return None if sample.score.format_error or not sample.text else parse_completion(sample.text)[1]


def write_rollouts(folder: Path, step: int, draw: Draw, executed: Executed) -> None:
    """Every answer of a step: its prompt by reference, its text, ids and action, its reward with the parts.

    Where a group was executed, each row has what its command did; the first one has the expert's, too. A group of a
    policy's own history has, in its first row, how that went on, and the prompt: no log holds it.
    """
    live = {group.draw for group in draw.live}
    rows = [
        {
            "step_id": group.key,
            "draw": group.draw,
            "sample": i,
            **({} if sample.episode is None else {"episode": sample.episode}),
            "live": group.draw in live,
            "text": sample.text,
            "ids": sample.tokens.ids,
            "logps": [round(logp, 6) for logp in sample.tokens.logps],
            "action": None if (action := action_of(sample)) is None else asdict(action),
            "reward": sample.score.value,
            "parts": dict(sample.score.parts),
            "format_error": sample.score.format_error,
            **_did(executed, group, i),
            **({"went": group.went, "prompt_ids": sample.tokens.prompt_ids} if group.went and i == 0 else {}),
        }
        for group in draw.seen
        for i, sample in enumerate(group.samples)
    ]
    write_rows(folder / "rollouts" / f"step_{step}.jsonl.zst", rows)


def _did(executed: Executed, group: Group, i: int) -> dict[str, Any]:
    if (execution := executed.get(group.draw)) is None:
        return {}
    return {"executed": execution.samples[i]} | ({"expert_executed": execution.expert} if i == 0 else {})
