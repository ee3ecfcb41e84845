"""Do sampler and trainer mean the same by a log-probability? Asked at the start of every stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from swe_srl.engines import Request, Sampling
from swe_srl.policies.engine import EnginePolicy
from swe_srl.train.model import log_probs
from swe_srl.train.objective import supervised
from swe_srl.train.passes import in_step
from swe_srl.train.pieces import pack
from swe_srl.types import Group, Sample, Score, Step

TEMPERATURES = (1.0, 0.7)
SAMPLES, TOKENS = 2, 16


@torch.no_grad()
def probe(policy: EnginePolicy, model: Any, dtype: torch.dtype, steps: Sequence[Step]) -> dict[float, float]:
    """Largest |trainer − sampler| over the tokens of a few short answers, by temperature.

    The engine must hold the model's weights.
    """
    gaps: dict[float, float] = {}
    for temperature in TEMPERATURES:
        requests = [Request(policy.prompt(step), seed) for step in steps for seed in range(SAMPLES)]
        answers = policy.engine.generate(requests, Sampling(temperature, TOKENS, policy.renderer.end_id))
        batch = supervised([Group("probe", 0, (Sample(tokens, Score(None)),)) for tokens in answers])
        gap = 0.0
        for piece in in_step(model, pack(batch.strands, 2**14, share=False)):
            logp_N, _ = log_probs(model, piece, batch.ids_N[piece.slot_N], temperature, dtype)
            if len(piece.slot_N):
                gap = max(gap, float((logp_N.cpu() - batch.sampler_N[piece.slot_N]).abs().max()))
        gaps[temperature] = gap
    return gaps
