"""The prefix tree: whatever sequences it merges, it says of each token what a sequence of its own would."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import make_qwen2

from swe_srl.train.model import log_probs
from swe_srl.train.tree import Piece, Strand, Tree, attention_mask, grow, pack

token = st.integers(0, 3)  # few tokens, so that prefixes are often shared
prompt = st.lists(token, min_size=1, max_size=6).map(tuple)
answer = st.lists(token, min_size=1, max_size=5).map(tuple)
sequences = st.lists(st.tuples(prompt, answer), min_size=1, max_size=7)
one_prompt = st.tuples(prompt, st.lists(answer, min_size=1, max_size=5)).map(lambda p: [(p[0], ids) for ids in p[1]])
quick = settings(deadline=None, max_examples=150)


def strands(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]], slot: int = 0) -> list[Strand]:
    found = []
    for prompt_ids, ids in pairs:
        found.append(Strand(prompt_ids, ids, slot))
        slot += len(ids)
    return found


def ancestors(tree: Tree, position: int) -> list[int]:
    """Positions from the root to this one, by the definition of depth-first order: the last of each depth."""
    path: dict[int, int] = {}
    for i in range(position + 1):
        path[tree.depth[i]] = i
    return [path[depth] for depth in range(tree.depth[position] + 1)]


# --------------------------------------------------------------------------------------------- the tree


@quick
@given(sequences)
def test_every_prediction_sees_its_own_sequence(pairs: Any) -> None:
    """The tokens above a prediction's source are exactly the prompt and the answer before it."""
    found = strands(pairs)
    tree = grow(found)
    expected = {strand.slot + i: strand.prompt_ids + strand.ids[:i] for strand in found for i in range(len(strand.ids))}
    assert sorted(tree.slot) == sorted(expected)
    for source, slot in zip(tree.source, tree.slot, strict=True):
        assert tuple(tree.ids[i] for i in ancestors(tree, source)) == expected[slot]


@quick
@given(sequences)
def test_the_mask_is_who_is_above_whom(pairs: Any) -> None:
    tree = grow(strands(pairs))
    mask = attention_mask(torch.tensor([tree.end]))[0, 0]
    for q in range(len(tree.ids)):
        assert mask[q].nonzero()[:, 0].tolist() == sorted(ancestors(tree, q))
        assert [tree.depth[i] for i in ancestors(tree, q)] == list(range(tree.depth[q] + 1))


@quick
@given(sequences)
def test_a_prefix_is_there_once(pairs: Any) -> None:
    tree = grow(strands(pairs))
    prefixes = {strand.inputs[:n] for strand in strands(pairs) for n in range(1, len(strand.inputs) + 1)}
    assert len(tree.ids) == len(prefixes)
    assert tree.branches == any(a[: len(b)] != b and b[: len(a)] != a for a in prefixes for b in prefixes)


# --------------------------------------------------------------------------------------- log-probabilities


@pytest.fixture(scope="module")
def model() -> Any:
    return make_qwen2(vocabulary=4, num_hidden_layers=1)


def by_slot(model: Any, pieces: list[Piece], ids_N: torch.Tensor) -> torch.Tensor:
    found = torch.full((len(ids_N),), float("nan"))
    with torch.no_grad():
        for piece in pieces:
            found[piece.slot_N] = log_probs(model, piece, ids_N[piece.slot_N], 1.0, torch.float32)[0]
    return found


@settings(deadline=None, max_examples=40)
@given(sequences)
def test_log_probs_equal_separate_sequences(model: Any, pairs: Any) -> None:
    found = strands(pairs)
    ids_N = torch.tensor([token for strand in found for token in strand.ids])
    one_tree = by_slot(model, pack([found], 10_000, share=True), ids_N)
    for strand in found:
        with torch.no_grad():
            logits = model(torch.tensor([[*strand.prompt_ids, *strand.ids]])).logits[0, len(strand.prompt_ids) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(strand.ids)[:, None])[:, 0]
        assert torch.allclose(one_tree[strand.slot : strand.slot + len(strand.ids)], expected, atol=2e-6)


@pytest.mark.parametrize(
    "pairs",
    [
        [((0, 1), (2, 3))] * 3,  # identical answers
        [((0, 1), (2,)), ((0, 1), (2,)), ((0, 1), (3,))],  # one token: nothing after the prompt goes in
        [((0,), (1, 2, 3)), ((0, 1), (2, 3)), ((0, 1, 2), (3,))],  # one's answer is another's prompt
        [((0, 1, 2), (1,)), ((0, 1, 3), (1,)), ((3,), (0, 0))],  # prompts that share a part, and nothing
    ],
    ids=["identical", "one token", "nested", "partial"],
)
def test_corners(model: Any, pairs: Any) -> None:
    found = strands(pairs)
    ids_N = torch.tensor([token for strand in found for token in strand.ids])
    together = by_slot(model, pack([found], 10_000, share=True), ids_N)
    apart = by_slot(model, pack([found], 1, share=False), ids_N)
    assert torch.allclose(together, apart, atol=2e-6)


# ------------------------------------------------------------------------------------------------ packing


@quick
@given(st.lists(one_prompt, min_size=1, max_size=5), st.integers(1, 60), st.booleans())
def test_pack_keeps_the_budget_and_loses_nothing(groups: Any, budget: int, share: bool) -> None:
    batch, slot = [], 0
    for pairs in groups:
        batch.append(strands(pairs, slot))
        slot += sum(len(ids) for _, ids in pairs)
    pieces = pack(batch, budget, share=share)
    longest = max(len(strand.inputs) for group in batch for strand in group)
    for piece in pieces:
        rows, tokens = piece.ids_RT.shape
        assert rows * tokens <= budget or (rows == 1 and tokens <= longest)
        assert piece.mask_R1TT is None or share
    slots = torch.cat([piece.slot_N for piece in pieces])
    assert sorted(slots.tolist()) == list(range(slot))


def test_an_empty_batch_has_no_pieces() -> None:
    assert pack([], 100, share=True) == []


def test_padding_sees_something(model: Any) -> None:
    """A row that is all masked would be not-a-number, and so would its gradient be."""
    short, long = strands([((0,), (1,)), ((0,), (2,))]), strands([((0, 1, 2, 3), (3, 2)), ((0, 1, 2, 3), (2, 2))], 2)
    (piece,) = pack([short, long], 1000, share=True)
    assert piece.ids_RT.shape[0] == 2
    assert piece.mask_R1TT is not None
    assert bool(piece.mask_R1TT.any(-1).all())
