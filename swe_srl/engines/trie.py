"""Sampling over a trie: each prefix is computed once for all prompts that begin with it, and all answers at once.

The keys and values of the prompts' tokens lie in one row (prefixes.py). A turn is one forward pass over the next
token of every answer that goes on: each looks at its prompt's ranges of the row together with all who share them, and
at its own tokens; the results are merged by their log-sum-exps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swe_srl.engines import Request, Sampling
from swe_srl.engines.draw import sample, uniform
from swe_srl.engines.prefixes import Ids, Row, common_prefix, lay_out, new_tokens
from swe_srl.range_attention import Look, Merged, Shown, attended, flash, in_window, together
from swe_srl.ranges import over_ranges, use_ranges

_PIECE = 2048  # prompt tokens of one forward pass: enough to be quick, few enough that activations stay small
_GROWTH = 64  # the least room that an answer's keys and values get

Asked = tuple[Ids, list[int]]  # a prompt, and who wants an answer to it: positions in the caller's list
Answer = tuple[int, Ids, tuple[float, ...]]
KeysValues = tuple[Tensor, Tensor]


@dataclass(slots=True)
class _Prefill:
    """Tokens from place `first` of a row on: their keys and values are laid down there, and looked at there."""

    stored: dict[int, KeysValues]
    depth_S: Tensor  # of the whole row
    first: int
    looks: list[Look]
    plans: dict[int | None, list[Shown]] = field(default_factory=dict)  # by window

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        if layer not in self.stored:
            _, heads, _, width = key.shape
            shape = (1, heads, len(self.depth_S), width)
            self.stored[layer] = (key.new_empty(shape), value.new_empty(shape))
        keys, values = self.stored[layer]
        here = slice(self.first, self.first + key.shape[2])
        keys[:, :, here], values[:, :, here] = key, value
        if window not in self.plans:
            self.plans[window] = in_window(self.looks, self.depth_S[here], lambda _: self.depth_S, window)
        return attended(query, keys, values, (), self.plans[window], scale)[0]


@dataclass(slots=True)
class _Turns:
    """Answers [N], all of them `length` tokens long: `own` are their keys and values by layer, [N, Hkv, room, D].

    `depth_N` are the depths of their next tokens, `depth_S` those of the row that they look at.
    """

    stored: dict[int, KeysValues]
    depth_S: Tensor
    looks: list[Look]
    depth_N: Tensor
    most: int  # tokens of an answer
    length: int = 0
    own: dict[int, KeysValues] = field(default_factory=dict)
    plans: dict[int | None, list[Shown]] = field(default_factory=dict)  # of this turn, by window

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        at = self.length
        first = 0 if window is None else max(0, at + 1 - window)
        keys, values = self._room(layer, key, value)
        keys[:, :, at], values[:, :, at] = key[0].transpose(0, 1), value[0].transpose(0, 1)
        each = query[0].transpose(0, 1).unsqueeze(2)  # [N, H, 1, D]: every answer a row
        out, lse = flash(each, keys[:, :, first : at + 1], values[:, :, first : at + 1], False, None, scale)
        so_far: Merged = (out.float().permute(2, 1, 0, 3).contiguous(), lse.permute(2, 1, 0).contiguous())
        if window not in self.plans:
            self.plans[window] = in_window(self.looks, self.depth_N, lambda _: self.depth_S, window)
        return attended(query, *self.stored[layer], (), self.plans[window], scale, so_far)[0]

    def _room(self, layer: int, key: Tensor, value: Tensor) -> KeysValues:
        """A layer's keys and values, with room for one more token: twice the room where there is none."""
        had = self.own.get(layer)
        if had is not None and self.length < had[0].shape[2]:
            return had
        _, heads, answers, width = key.shape
        shape = (answers, heads, min(max(_GROWTH, 2 * self.length), self.most), width)
        self.own[layer] = (key.new_empty(shape), value.new_empty(shape))
        if had is not None:
            for new, old in zip(self.own[layer], had, strict=True):
                new[:, :, : self.length] = old
        return self.own[layer]

    def grown(self) -> None:
        """All are one token longer."""
        self.length += 1
        self.depth_N = self.depth_N + 1
        self.plans.clear()

    def keep(self, going_n: Tensor, looks: list[Look]) -> None:
        """Go on with these answers alone."""
        self.looks, self.depth_N = looks, self.depth_N[going_n]
        self.plans.clear()
        self.own = {layer: (keys[going_n], values[going_n]) for layer, (keys, values) in self.own.items()}


class TrieSampler:
    """Answers batch after batch of one call. Prompts come sorted, so that what the next batch shares is still there."""

    def __init__(self, model: Any, sampling: Sampling) -> None:
        self.model = model
        self.sampling = sampling
        self.last: Ids = ()  # the last prompt of the batch before, and where its tokens' keys are
        self.places = torch.empty(0, dtype=torch.long)
        self.stored: dict[int, KeysValues] = {}

    def answers(self, asked: Sequence[Asked], requests: Sequence[Request]) -> Iterator[Answer]:
        """To a batch of prompts; sorted, and after all that came before."""
        row = lay_out(prompt for prompt, _ in asked)
        first_RV = self._prefill(row, asked)
        rows = [r for r, (_, wanted) in enumerate(asked) for _ in wanted]
        indices = [index for _, wanted in asked for index in wanted]
        n = self.sampling.max_tokens
        uniform_NT = torch.from_numpy(np.stack([uniform(requests[index].seed, n) for index in indices]))
        found = self._decode(row, rows, first_RV[torch.tensor(rows)], uniform_NT)
        for index, (ids, logps) in zip(indices, found, strict=True):
            yield index, ids, logps

    def _prefill(self, row: Row, asked: Sequence[Asked]) -> Tensor:
        """Compute what the batch before has not left, in pieces: logits after each prompt, [R, V]."""
        first = common_prefix(self.last, asked[0][0])  # the first prompt begins the row
        places = self.places[:first]
        stored = self.stored
        self.stored = {}
        for layer in list(stored):
            room = [one.new_empty(*one.shape[:2], len(row.ids), one.shape[3]) for one in stored[layer]]
            for new, old in zip(room, stored.pop(layer), strict=True):
                new[:, :, :first] = old[:, :, places]
            self.stored[layer] = (room[0], room[1])
        depth_S = torch.tensor(row.depth)
        ends = [ranges[-1][1] - 1 for ranges in row.prompts]
        logits: list[Tensor] = []
        for start in range(first, len(row.ids), _PIECE):
            stop = min(start + _PIECE, len(row.ids))
            sources = [end - start for end in ends if start <= end < stop]
            state = _Prefill(self.stored, depth_S, start, row.looks(start, stop))
            found = self._forward(row.ids[start:stop], depth_S[start:stop], state, sources or [0])
            if sources:
                logits.append(found)
        self.last = asked[-1][0]
        self.places = torch.cat([torch.arange(low, high) for low, high in row.prompts[-1]])
        return torch.cat(logits)

    def _decode(
        self, row: Row, rows: list[int], logits_nV: Tensor, uniform_NT: Tensor
    ) -> list[tuple[Ids, tuple[float, ...]]]:
        """Answers [N], of which the first n still go on; `rows` are their prompts."""
        N, T = uniform_NT.shape
        depth_N = torch.tensor([sum(high - low for low, high in row.prompts[r]) for r in rows])
        ids_NT, logp_NT = torch.zeros(N, T, dtype=torch.long), torch.zeros(N, T)
        count_N, ended_N = torch.zeros(N, dtype=torch.long), torch.zeros(N, dtype=torch.bool)
        going_n = torch.arange(N)  # answers still in the batch, by their first number
        state = _Turns(self.stored, torch.tensor(row.depth), _looks(row, rows), depth_N, T)
        for t in range(T):
            next_n, logp_n = sample(logits_nV, uniform_NT[going_n, t], self.sampling.temperature)
            ids_NT[going_n, t], logp_NT[going_n, t] = next_n, logp_n
            count_N[going_n] += (~ended_N[going_n]).long()
            ended_N[going_n] |= next_n == self.sampling.end_id
            if t + 1 == T or bool(ended_N.all()):
                break
            left_n = ~ended_N[going_n]
            if left_n.float().mean() < 0.8:  # leave ended answers out before they cost more than the copy
                going_n, next_n = going_n[left_n], next_n[left_n]
                state.keep(left_n, _looks(row, [rows[n] for n in going_n.tolist()]))
            logits_nV = self._forward(next_n, state.depth_N, state, 0)
            state.grown()
        answers = zip(ids_NT.tolist(), logp_NT.tolist(), count_N.tolist(), strict=True)
        return [(tuple(ids[:n]), tuple(logps[:n])) for ids, logps, n in answers]

    def _forward(self, ids: Any, depth: Any, state: _Prefill | _Turns, at: list[int] | int) -> Tensor:
        """Logits of one row of tokens, at some of them (0: at all), [n, V]."""
        keep = torch.tensor(at) if isinstance(at, list) else at
        logits_1nV: Tensor = over_ranges(self.model, ids, depth, state, logits_to_keep=keep).logits
        return logits_1nV[0]


def trie_batches(asked: Iterable[Asked], max_tokens: int, max_batch_tokens: int) -> Iterator[list[Asked]]:
    """Prompts in sorted order, as many as the budget of keys and values holds, at least one."""
    batch, held = list[Asked](), 0
    ordered = sorted(asked)
    for one, new in zip(ordered, new_tokens(prompt for prompt, _ in ordered), strict=True):
        prompt, wanted = one
        if batch and held + new + len(wanted) * max_tokens > max_batch_tokens:
            yield batch
            batch, held = [], 0
        held += (new if batch else len(prompt)) + len(wanted) * max_tokens
        batch.append(one)
    if batch:
        yield batch


def _looks(row: Row, rows: Sequence[int]) -> list[Look]:
    return together((n, n + 1, [(None, *where) for where in row.prompts[r]]) for n, r in enumerate(rows))


def use_tries(model: Any) -> bool:
    """Let a model's layers look at ranges, if its log-probabilities over a small trie are those of plain sequences."""
    return model.device.type == "cpu" and use_ranges(model, _trie_trouble) is None  # the kernels are the CPU's


@torch.inference_mode()
def _trie_trouble(model: Any) -> str | None:
    """What is wrong with greedy answers over a small trie, a prompt's two and several prompts' together."""
    prompts = [(0, 1), (0, 1, 2, 3), (0, 1, 3, 2)]
    sampler = TrieSampler(model, Sampling(0.0, 3, -1))
    asked = [(prompt, [2 * n, 2 * n + 1]) for n, prompt in enumerate(prompts)]
    requests = [Request(prompt, 0) for prompt in prompts for _ in range(2)]
    bound = max(1e-3, 8 * torch.finfo(model.dtype).eps)
    for n, ids, logps in sampler.answers(asked, requests):
        prompt = prompts[n // 2]
        logits = model(torch.tensor([prompt + ids[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :].float()
        plain = logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]
        gap, spread = (plain - torch.tensor(logps)).abs().max(), logits.amax() - logits.amin()
        if gap > bound * spread:
            return f"its log-probabilities differ by {float(gap):.2g}"
    return None
