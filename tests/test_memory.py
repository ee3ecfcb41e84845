"""Peak memory does not grow with length × vocabulary: logits exist for a bounded number of tokens at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made import make_qwen2

from swe_srl.plan.live_bytes import LiveBytes
from swe_srl.train.model import log_probs
from swe_srl.train.objective import nll
from swe_srl.train.pieces import Piece, pack
from swe_srl.train.tree import Strand

VOCABULARY = 30_000
DIMENSIONS = 32


@pytest.fixture(scope="module")
def model() -> Any:
    return make_qwen2(VOCABULARY, num_hidden_layers=1, max_position_embeddings=8192, tie_word_embeddings=True)


def one_piece(rows: int, length: int) -> tuple[Piece, torch.Tensor]:
    """Plain rows: the attention of a row is not what is measured."""
    ids = torch.randint(0, VOCABULARY, (rows, length + 2), generator=torch.Generator().manual_seed(0)).tolist()
    strands = [Strand(tuple(row[:2]), tuple(row[2:]), i * length) for i, row in enumerate(ids)]
    (piece,) = pack([strands], 10**6, share=False)
    return piece, torch.tensor([token for row in ids for token in row[2:]])


def measured(model: Any, rows: int, length: int) -> LiveBytes:
    piece, ids_N = one_piece(rows, length)
    model.zero_grad(set_to_none=True)
    with LiveBytes() as memory:
        logp_N, _ = log_probs(model, piece, ids_N[piece.slot_N], 1.0, torch.float32)
        nll(logp_N).mean().backward()
    return memory


@pytest.mark.parametrize("longer", [True, False], ids=["longer", "more rows"])
def test_peak_grows_with_tokens_and_not_with_tokens_times_vocabulary(model: Any, longer: bool) -> None:
    sizes = [512, 1024, 2048]
    found = [measured(model, 1 if longer else n // 64, n if longer else 64) for n in sizes]
    logits = [n * VOCABULARY * 4 for n in sizes]
    assert all(memory.largest < 32e6 for memory in found)  # 256 predictions' logits in float32 are 30.7 MB
    for (small, few), (large, many) in zip(
        zip(found, sizes, strict=True), zip(found[1:], sizes[1:], strict=True), strict=False
    ):
        slope = (large.peak - small.peak) / (many - few)
        print(f"{few}→{many} tokens: {small.peak / 1e6:.0f}→{large.peak / 1e6:.0f} MB, {slope:.0f} bytes a token")
        assert slope < 400 * DIMENSIONS  # activations: floats of some hundred vectors at most
        assert slope < VOCABULARY * 4 / 8
    assert found[-1].peak < logits[-1] / 2


def test_the_measure_sees_full_logits(model: Any) -> None:
    """The same measure on logits that are all there at once."""
    piece, ids_N = one_piece(4, 64)
    with LiveBytes() as memory:
        logits = model(piece.ids_RT).logits
        logits.log_softmax(-1).sum().backward()
    assert memory.largest >= 4 * 64 * VOCABULARY * 4
    assert memory.peak >= 2 * 4 * 64 * VOCABULARY * 4  # logits and log-probabilities live side by side
    assert len(ids_N) == 4 * 64
