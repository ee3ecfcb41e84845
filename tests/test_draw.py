"""A token's draw beside the plain running sum over the whole vocabulary."""

from __future__ import annotations

import pytest
import torch

from swe_srl.engines.draw import sample


@pytest.mark.parametrize("vocabulary", [1, 2, 7, 1000, 1024, 151_936])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_blocks_draw_what_one_sum_draws(vocabulary: int, temperature: float) -> None:
    random = torch.Generator().manual_seed(vocabulary)
    logits_NV = 4 * torch.randn(64, vocabulary, generator=random)
    uniform_N = torch.rand(64, dtype=torch.float64, generator=random)
    chosen_N, logp_N = sample(logits_NV, uniform_N, temperature)
    logp_NV = (logits_NV / temperature).log_softmax(-1)
    running_NV = logp_NV.double().exp().cumsum(-1)
    plain_N = torch.searchsorted(running_NV, uniform_N[:, None] * running_NV[:, -1:], right=True)[:, 0]
    assert torch.equal(chosen_N, plain_N.clamp(max=vocabulary - 1))
    torch.testing.assert_close(logp_N, logp_NV.gather(-1, chosen_N[:, None])[:, 0])


@pytest.mark.parametrize("seed", range(50))
def test_rounding_draws_no_token_without_a_share(seed: int) -> None:
    """Just below the whole, and just below each token: sums of blocks are rounded otherwise than sums in them."""
    random = torch.Generator().manual_seed(seed)
    logits_V = torch.full((50,), float("-inf"))
    logits_V[torch.randperm(50, generator=random)[:4]] = torch.randn(4, generator=random)
    running_V = logits_V.softmax(-1).double().cumsum(-1)
    below_N = torch.cat([running_V / running_V[-1], torch.ones(1, dtype=torch.float64)]).clamp(max=1 - 2**-53)
    near_N = torch.cat([below_N, torch.nextafter(below_N, torch.zeros_like(below_N))])
    _, logp_N = sample(logits_V.expand(len(near_N), -1), near_N, 1.0)
    assert logp_N.isfinite().all()


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_without_a_share_is_never_drawn(uniform: float) -> None:
    logits_NV = torch.full((1, 50), float("-inf"))
    logits_NV[0, [3, 47]] = 0.0
    (chosen,), _ = sample(logits_NV, torch.tensor([uniform], dtype=torch.float64), 1.0)
    assert int(chosen) == (3 if uniform < 0.5 else 47)
