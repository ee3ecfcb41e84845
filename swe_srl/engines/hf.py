"""The engine that runs anywhere: a transformers model, prompts computed once for all their answers.

The G answers of a prompt are G positions of one row under a mask: they see the prompt and themselves, never
each other. So the prompt's keys and values exist once, and a decode step is one forward pass over all rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from swe_srl.engines import Request, Sampling
from swe_srl.types import Tokens


@dataclass(slots=True)
class _Row:
    """One prompt and the requests that share it: positions in the caller's list."""

    prompt_ids: tuple[int, ...]
    wanted: list[int] = field(default_factory=list)


class HFEngine:
    """Holds its own copy of the model, so that an update reaches it only through `load_weights`."""

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32, max_batch_tokens: int = 65_536) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        for parameter in self.model.parameters():  # not the buffers: frequencies of positions stay float32
            parameter.data = parameter.data.to(dtype)
        self.max_batch_tokens = max_batch_tokens
        self.shares_prompts = can_mask(model.config)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        own = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in weights:
                own[name].copy_(tensor)

    def close(self) -> None:
        self.model = None

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Tokens]:
        answers: dict[int, Tokens] = {}
        for rows in self._batches(requests, sampling.max_tokens):
            for index, ids, logps in self._decode(rows, requests, sampling):
                answers[index] = Tokens(requests[index].prompt_ids, ids, logps)
        return [answers[index] for index in range(len(requests))]

    def _batches(self, requests: Sequence[Request], max_tokens: int) -> Iterator[list[_Row]]:
        """Rows of about one length, as many as the budget of keys and values holds, at least one."""
        rows: dict[tuple[int, ...] | int, _Row] = {}
        for index, request in enumerate(requests):
            key = request.prompt_ids if self.shares_prompts else index
            rows.setdefault(key, _Row(request.prompt_ids)).wanted.append(index)
        batch: list[_Row] = []
        for row in sorted(rows.values(), key=lambda row: (len(row.wanted), len(row.prompt_ids))):
            length = len(row.prompt_ids) + len(row.wanted) * max_tokens  # rows come in growing order
            same = not batch or len(batch[0].wanted) == len(row.wanted)
            if batch and (not same or (len(batch) + 1) * length > self.max_batch_tokens):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _decode(
        self, rows: list[_Row], requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, tuple[int, ...], tuple[float, ...]]]:
        """Answers of rows with equally many branches (R rows, G branches, P prompt tokens, padded left)."""
        device = self.model.device
        R, G, P = len(rows), len(rows[0].wanted), max(len(row.prompt_ids) for row in rows)
        ids_RP = torch.zeros(R, P, dtype=torch.long, device=device)
        real_RP = torch.zeros(R, P, dtype=torch.bool, device=device)
        for r, row in enumerate(rows):
            ids_RP[r, P - len(row.prompt_ids) :] = torch.tensor(row.prompt_ids, device=device)
            real_RP[r, P - len(row.prompt_ids) :] = True
        length_R = real_RP.sum(1)
        uniform_RGT = torch.from_numpy(
            np.stack([[_uniform(requests[i].seed, sampling.max_tokens) for i in row.wanted] for row in rows])
        ).to(device)

        cache = DynamicCache() if self.shares_prompts else DynamicCache(config=self.model.config)
        logits_RV = self.model(
            ids_RP,
            attention_mask=real_RP.long(),
            position_ids=(real_RP.cumsum(1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        logits_RGV = logits_RV.unsqueeze(1).expand(-1, G, -1)

        alive_R = torch.arange(R, device=device)  # rows still in the batch, by their first number
        ids_RGT = torch.zeros(R, G, sampling.max_tokens, dtype=torch.long, device=device)
        logp_RGT = torch.zeros(R, G, sampling.max_tokens, device=device)
        count_RG = torch.zeros(R, G, dtype=torch.long, device=device)
        ended_RG = torch.zeros(R, G, dtype=torch.bool, device=device)
        for t in range(sampling.max_tokens):
            next_RG, logp_RG = _sample(logits_RGV, uniform_RGT[alive_R, :, t], sampling.temperature)
            ids_RGT[alive_R, :, t] = next_RG
            logp_RGT[alive_R, :, t] = logp_RG
            count_RG[alive_R] += (~ended_RG[alive_R]).long()
            ended_RG[alive_R] |= next_RG == sampling.end_id
            if t + 1 == sampling.max_tokens or bool(ended_RG.all()):
                break
            going_R = ~ended_RG[alive_R].all(1)
            if going_R.float().mean() < 0.8:  # leave ended rows out before they cost more than the copy
                cache.batch_select_indices(going_R.nonzero()[:, 0])
                alive_R, next_RG = alive_R[going_R], next_RG[going_R]
            logits_RGV = self.model(
                next_RG,
                attention_mask=self._mask(real_RP[alive_R], G, t + 1),
                position_ids=(length_R[alive_R] + t).unsqueeze(1).expand(-1, G),
                past_key_values=cache,
                use_cache=True,
            ).logits
        counts, all_ids, all_logps = count_RG.tolist(), ids_RGT.tolist(), logp_RGT.tolist()
        for r, row in enumerate(rows):
            for g, index in enumerate(row.wanted):
                n = counts[r][g]
                yield index, tuple(all_ids[r][g][:n]), tuple(all_logps[r][g][:n])

    def _mask(self, real_RP: Tensor, G: int, steps: int) -> Tensor:
        """Who sees whom: branch g sees the real tokens of its prompt and its own, in `steps` blocks of G."""
        R = len(real_RP)
        if not self.shares_prompts:
            return torch.cat([real_RP, real_RP.new_ones(R, steps)], 1).long()
        own_GK = torch.eye(G, dtype=torch.bool, device=real_RP.device).repeat(1, steps)
        prompt_RGP = real_RP[:, None, :].expand(R, G, -1)
        return torch.cat([prompt_RGP, own_GK.expand(R, G, -1)], 2).unsqueeze(1)


def can_mask(config: Any) -> bool:
    """Whether a mask of (query, key) says all about this model's attention: no windows, no recurrence."""
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return kinds == {"full_attention"} and (not windowed or hasattr(config, "layer_types"))


def _uniform(seed: int, n: int) -> Any:
    """n draws in [0, 1) that depend on the seed alone; float64, so that no token's share is rounded away."""
    return np.random.Generator(np.random.Philox(seed)).random(n)


def _sample(logits_RGV: Tensor, uniform_RG: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Next ids by inverse CDF (greedy at T = 0), and their log-probabilities under logits / T, in float32."""
    logp_RGV = (logits_RGV.float() / (temperature or 1.0)).log_softmax(-1)
    if temperature == 0:
        next_RG = logp_RGV.argmax(-1)
    else:
        cdf_RGV = logp_RGV.double().exp().cumsum(-1)
        draw_RG1 = uniform_RG.unsqueeze(-1) * cdf_RGV[..., -1:]
        next_RG = torch.searchsorted(cdf_RGV, draw_RG1, right=True).squeeze(-1).clamp(max=cdf_RGV.shape[-1] - 1)
    return next_RG, logp_RGV.gather(-1, next_RG.unsqueeze(-1)).squeeze(-1)
