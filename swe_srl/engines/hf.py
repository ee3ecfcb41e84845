"""The engine that runs anywhere: a transformers model, prompts computed once for all their answers.

Two ways, of the same answers: over a trie of the prompts (trie.py), so that what several begin with is computed
once; and in padded rows (rows.py), where that would save too little.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from swe_srl.engines import Request, Sampling
from swe_srl.engines.prefixes import Ids, new_tokens
from swe_srl.engines.rows import Row, batches, decode
from swe_srl.engines.trie import Answer, TrieSampler, trie_batches, use_tries
from swe_srl.errors import TrainingError
from swe_srl.ranges import has_windows
from swe_srl.types import Tokens

WORTH = 2048  # tokens that a trie must save to pay for its smaller steps (measured: benchmarks/sampling.py)


class HFEngine:
    """Holds its own copy of the model, so that an update reaches it only through `load_weights`.

    `shared_from`: how many tokens a trie must save before it is used.
    """

    def __init__(
        self,
        model: Any,
        dtype: torch.dtype = torch.float32,
        max_batch_tokens: int = 65_536,
        shared_from: int = WORTH,
    ) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        for parameter in self.model.parameters():  # not the buffers: frequencies of positions stay float32
            parameter.data = parameter.data.to(dtype)
        self.max_batch_tokens = max_batch_tokens
        self.shared_from = shared_from
        self.shares_prompts = can_mask(model.config)
        self.shares_prefixes = use_tries(self.model)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        own = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in weights:
                own[name].copy_(tensor)

    def rest(self) -> None:
        """It holds nothing but its weights between calls."""

    def stats(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        self.model = None

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Tokens]:
        rows: dict[Ids, Row] = {}
        for index, request in enumerate(requests):
            rows.setdefault(request.prompt_ids, Row(request.prompt_ids)).wanted.append(index)
        sampled = self._over_trie if self._worth(rows.values(), sampling) else self._in_rows
        answers = {
            index: Tokens(requests[index].prompt_ids, ids, logps)
            for index, ids, logps in sampled(rows.values(), requests, sampling)
        }
        if any(math.isnan(logp) for tokens in answers.values() for logp in tokens.logps):
            raise TrainingError("the model's logits are not numbers (nan): its weights are broken, by too large an lr?")
        return [answers[index] for index in range(len(requests))]

    def _worth(self, rows: Collection[Row], sampling: Sampling) -> bool:
        if not self.shares_prefixes:
            return False
        return saved(rows, sampling.max_tokens, rows_share=self.shares_prompts) >= self.shared_from

    def _in_rows(self, rows: Iterable[Row], requests: Sequence[Request], sampling: Sampling) -> Iterator[Answer]:
        if not self.shares_prompts:
            rows = [Row(row.prompt_ids, [index]) for row in rows for index in row.wanted]
        for batch in batches(rows, sampling.max_tokens, self.max_batch_tokens):
            yield from decode(self.model, batch, requests, sampling, shares=self.shares_prompts)

    def _over_trie(self, rows: Iterable[Row], requests: Sequence[Request], sampling: Sampling) -> Iterator[Answer]:
        asked = [(row.prompt_ids, row.wanted) for row in rows]
        sampler = TrieSampler(self.model, sampling)
        for batch in trie_batches(asked, sampling.max_tokens, self.max_batch_tokens):
            yield from sampler.answers(batch, requests)


def can_mask(config: Any) -> bool:
    """Whether a mask of (query, key) says all about this model's attention: no windows, no recurrence."""
    kinds = getattr(config.get_text_config(), "layer_types", None) or ["full_attention"]
    return set(kinds) == {"full_attention"} and not has_windows(config)


def saved(rows: Collection[Row], max_tokens: int, *, rows_share: bool) -> int:
    """Tokens that a trie does not compute again: of prompts, and of answers that rows mask from one another."""
    ordered = sorted(row.prompt_ids for row in rows)
    in_rows = sum(len(row.prompt_ids) * (1 if rows_share else len(row.wanted)) for row in rows)
    masked = max_tokens * sum(len(row.wanted) - 1 for row in rows) if rows_share else 0
    return in_rows - sum(new_tokens(ordered)) + masked
