"""Tokens, FLOPs and seconds of an update, by hand for a network of round numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swe_srl.plan.costs import Batch, Cost, Gpu, Lengths, Sharing, cost, hours
from swe_srl.plan.shape import Shape

# 2 layers of 300, 400 elsewhere; hidden 8, vocabulary 25: an output layer of 200; attention 16 wide in all
TINY = Shape("made", 1000, 1000, 2, 300, 400, 200, 8, 25, 16, 16, 64)
GPU = Gpu(flops=1000.0, bytes_s=1000.0, memory=1, training=0.5, prefill=0.5, decode=0.5, scaling=0.5)
BATCH = Batch(groups=4, answers=2, kept=0.5)
LENGTHS = Lengths(prompt=10, answer=4, shared=0.25)


def of(sharing: Sharing, *, checkpointing: bool = False, cache_tokens: int = 1000) -> Cost:
    return cost(TINY, LENGTHS, BATCH, GPU, sharing, cache_tokens=cache_tokens, checkpointing=checkpointing)


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
    slow = cost(
        TINY, LENGTHS, BATCH, replace(GPU, flops=1e12), Sharing(False, False), cache_tokens=28, checkpointing=False
    )
    turn = (2 * (600 + 200) + 2 * 2 * 16 * 12) / 500  # weights, and the keys of two answers: 28 tokens hold two
    assert slow.decode_s == pytest.approx(64 / 2 * turn)


def test_hours() -> None:
    one = of(Sharing())
    assert hours(one, 7200, 1, GPU) == pytest.approx(2 * one.seconds)
    assert hours(one, 7200, 8, GPU) == pytest.approx(2 * one.seconds / 4)
