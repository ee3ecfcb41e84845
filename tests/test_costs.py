"""Tokens, FLOPs and seconds of an update, by hand for a network of round numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swe_srl.plan.costs import Batch, Cost, Gpu, Lengths, Sharing, cost
from swe_srl.plan.shape import Shape

# 2 layers of 300, 400 elsewhere; hidden 8, vocabulary 25: an output layer of 200; attention 16 wide in all
TINY = Shape("made", 1000, 1000, 2, 300, 400, 200, 8, 25, 16, 16, 64)
GPU = Gpu(flops=1000.0, bytes_s=1000.0, memory=1, training=0.5, prefill=0.5, decode=0.5, scaling=0.5)
BATCH = Batch(groups=4, answers=2, kept=0.5)
LENGTHS = Lengths(prompt=10, answer=4, shared=0.25)


def of(sharing: Sharing, gpu: Gpu = GPU, **changes: Any) -> Cost:
    given = {"cache_tokens": 1000, "longest": 4, "checkpointing": False, **changes}
    return cost(TINY, LENGTHS, BATCH, gpu, sharing, **given)


def test_tokens() -> None:
    neither = of(Sharing(tree=False, cache=False))
    both = of(Sharing())
    assert neither.learnt_tokens == 4 * 2 * (10 + 4)
    assert both.learnt_tokens == 4 * 10 * 0.75 + 4 * 2 * 4
    assert neither.prefill_tokens == 16 * 10  # 8 answers that are learnt from are half of what is drawn
    assert both.prefill_tokens == 8 * 10 * 0.75
    assert neither.decode_tokens == both.decode_tokens == 16 * 4


def test_flops() -> None:
    found = of(Sharing(tree=False, cache=False))
    prompt, answer = 2 * 600 + 4 * 16 * 5, 2 * 600 + 4 * 16 * 12  # of a token: its weights, and its keys
    assert found.learn_flops == 3 * (80 * prompt + 32 * answer) + 4 * 2 * 200 * 32
    assert found.prefill_flops == 160 * prompt + 2 * 200 * 16
    assert found.decode_flops == 64 * answer + 2 * 200 * 64
    again = of(Sharing(tree=False, cache=False), checkpointing=True)
    assert again.learn_flops - found.learn_flops == 80 * prompt + 32 * answer


def test_seconds() -> None:
    found = of(Sharing(tree=False, cache=False))
    assert found.learn_s == found.learn_flops / 500
    assert found.decode_s == found.decode_flops / 500  # compute is the longer here
    narrow = replace(GPU, flops=1e12)
    slow = of(Sharing(False, False), narrow, cache_tokens=28)
    weights, keys = 2 * (600 + 200), 2 * 16 * 12
    turn = (weights + 2 * keys) / 500  # 28 tokens of cache hold two answers
    assert slow.decode_s == pytest.approx(64 / 2 * turn)
    tail = of(Sharing(False, False), narrow, cache_tokens=28, longest=9)
    assert tail.decode_s - slow.decode_s == pytest.approx(5 * weights / 500)
    alone = of(Sharing(False, False), narrow, longest=9)  # all 16 at once: as many turns as the longest has tokens
    assert alone.decode_s == pytest.approx((9 * weights + 64 * keys) / 500)


def test_several_gpus() -> None:
    one, four = (of(Sharing(), replace(GPU, flops=1e12), gpus=gpus) for gpus in (1, 4))
    assert (one.decode_tokens, one.learn_flops) == (four.decode_tokens, four.learn_flops)
    assert four.learn_s == pytest.approx(one.learn_s / (4 * 0.5))
    assert four.prefill_s == pytest.approx(one.prefill_s / (4 * 0.5))
    weights, keys = 2 * (600 + 200), 2 * 16 * 12
    assert one.decode_s == pytest.approx((4 * weights + 64 * keys) / 500)
    assert four.decode_s == pytest.approx((4 * weights + 16 * keys) / 500 / 0.5)  # each reads all weights each turn
