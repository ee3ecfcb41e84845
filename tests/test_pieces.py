"""Pieces of a trie: whatever is merged and however it is cut, loss and gradients are those of separate sequences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import make_qwen2
from test_tree import one_prompt, quick, sequences, strands
from torch import Tensor

from swe_srl.config import Lora
from swe_srl.engines.hf import HFEngine
from swe_srl.errors import ConfigError
from swe_srl.train.model import core, log_probs, share_prefixes, with_lora
from swe_srl.train.pieces import Piece, cut, pack
from swe_srl.train.tree import Strand, grow
from swe_srl.train.tree_attention import blocks, dense, flex, sees
from swe_srl.train.trunk import hidden_states

BOUND = 1e-5  # relative norm of the difference, for each tensor; 3 times the padded control's where that is more


# ------------------------------------------------------------------------------------------------- models


def small(**changes: Any) -> dict[str, Any]:
    return {
        "vocab_size": 61,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "attn_implementation": "sdpa",
    } | changes


def qwen2() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**small()))


def qwen2_windows() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**small(use_sliding_window=True, sliding_window=6, max_window_layers=1)))


def qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**small(head_dim=8)))


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**small()))


def gemma3() -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    changes = {"head_dim": 8, "num_key_value_heads": 1, "sliding_window": 7, "layer_types": kinds}
    return Gemma3ForCausalLM(Gemma3TextConfig(**small(**changes)))


def lora() -> Any:
    model = with_lora(qwen2(), Lora(rank=4, alpha=8), seed=5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def checkpointed() -> Any:
    model = qwen2()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


MODELS = [qwen2, qwen2_windows, qwen3, llama, gemma3, lora, checkpointed]


# ------------------------------------------------------------------------------------------------ batches


def steps_of_runs(window: int | None, group: int = 3) -> list[Strand]:
    """Three runs of four steps, a group of answers each; answers may begin alike and one is there twice."""
    random = torch.Generator().manual_seed(7)

    def ids(low: int, high: int) -> tuple[int, ...]:
        n = int(torch.randint(low, high, (1,), generator=random))
        return tuple(torch.randint(0, 61, (n,), generator=random).tolist())

    system, pairs = ids(4, 6), []
    for _ in range(3):
        issue, history = system + ids(3, 20), list[tuple[int, ...]]()
        for _ in range(4):
            shown = history if window is None else history[-window:]
            prompt = issue + tuple(token for part in shown for token in part)
            pairs += [(prompt, (7, *ids(1, 12))) for _ in range(group)]
            history.append(ids(2, 15))
        pairs.append(pairs[-1])
    return strands(pairs)


def episode() -> list[Strand]:
    """An agent's own history: each turn's prompt holds the answers before it, as they were sampled."""
    random, text, pairs = torch.Generator().manual_seed(3), (1, 2, 3, 4, 5), []
    for _ in range(6):
        answer = tuple(torch.randint(0, 61, (5,), generator=random).tolist())
        pairs.append((text, answer))
        text = (*text, *answer, *torch.randint(0, 61, (4,), generator=random).tolist())
    return strands(pairs)


BATCHES: dict[str, Callable[[], list[Strand]]] = {
    "window 2": lambda: steps_of_runs(2),
    "full history": lambda: steps_of_runs(None),
    "sft": lambda: steps_of_runs(None, group=1),
    "episode": episode,
}


def weighted(
    model: Any, pieces: list[Piece], ids_N: Tensor, weight_N: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The loop's own steps: log-probabilities, with the gradient of their weighted sum left in the model."""
    model.zero_grad()
    found_N = torch.full((len(ids_N),), float("nan"))
    for piece in pieces:
        logp_N, _ = log_probs(model, piece, ids_N[piece.slot_N], 1.0, dtype)
        (weight_N[piece.slot_N] * logp_N).sum().backward()
        found_N[piece.slot_N] = logp_N.detach()
    return found_N


def gap(ours: Any, theirs: Any) -> float:
    pairs = zip(ours.named_parameters(), theirs.named_parameters(), strict=True)
    grads = [(name, a.grad, b.grad) for (name, a), (_, b) in pairs if b.grad is not None]
    assert grads
    return max(float((a - b).norm() / b.norm()) if float(b.norm()) else float(a.norm()) for _, a, b in grads)


# ------------------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("budget", [10_000, 40, 7], ids=["whole", "cut", "cut small"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_loss_and_gradient_equal_separate_sequences(make: Any, batch: str, budget: int) -> None:
    torch.manual_seed(0)
    ours = make()
    theirs, padded = copy.deepcopy(ours), copy.deepcopy(ours)
    share_prefixes(core(ours))
    found = BATCHES[batch]()
    ids_N = torch.tensor([token for strand in found for token in strand.ids])
    weight_N = torch.randn(len(ids_N))
    alone_N = weighted(theirs, [p for one in found for p in pack([[one]], 1, share=False)], ids_N, weight_N)
    weighted(padded, pack([found], 10_000, share=False), ids_N, weight_N)
    pieces = pack([found], budget, share=True)
    assert (len(pieces) > 1) == (budget < 100)
    together_N = weighted(ours, pieces, ids_N, weight_N)
    assert torch.allclose(together_N, alone_N, atol=1e-5)
    assert gap(ours, theirs) <= max(BOUND, 3 * gap(padded, theirs))
    assert all(piece.limb is not None and piece.limb.keys is None for piece in pieces)  # nothing is held


@pytest.mark.parametrize("make", [qwen2, gemma3], ids=lambda make: make.__name__)
def test_bfloat16_is_no_further_off_than_separate_sequences_are(make: Any) -> None:
    """Beside the gradient in float32: a trie rounds at other places, not more."""
    torch.manual_seed(0)
    exact = make()
    ours, theirs = copy.deepcopy(exact), copy.deepcopy(exact)
    share_prefixes(core(ours))
    found = steps_of_runs(None)
    ids_N = torch.tensor([token for strand in found for token in strand.ids])
    weight_N = torch.randn(len(ids_N))
    alone = [p for one in found for p in pack([[one]], 1, share=False)]
    weighted(exact, alone, ids_N, weight_N)
    weighted(theirs, alone, ids_N, weight_N, torch.bfloat16)
    weighted(ours, pack([found], 40, share=True), ids_N, weight_N, torch.bfloat16)

    def off(model: Any) -> float:
        a, b = (torch.cat([one.grad.flatten() for one in each.parameters()]) for each in (model, exact))
        return float((a - b).norm() / b.norm())

    assert 0 < off(ours) <= 1.5 * off(theirs) < 0.2


@settings(deadline=None, max_examples=60)
@given(sequences, st.integers(1, 12))
def test_any_trie_however_cut(pairs: Any, budget: int) -> None:
    ours = make_qwen2(vocabulary=4, num_hidden_layers=2)
    theirs = copy.deepcopy(ours)
    share_prefixes(ours)
    found = strands(pairs)
    ids_N = torch.tensor([token for strand in found for token in strand.ids])
    weight_N = torch.linspace(-1, 1, len(ids_N)) + 0.1
    alone_N = weighted(theirs, [p for one in found for p in pack([[one]], 1, share=False)], ids_N, weight_N)
    assert torch.allclose(weighted(ours, cut(grow(found), budget), ids_N, weight_N), alone_N, atol=1e-5)
    # All tensors as one: of equal tokens the keys' gradients are 0, and what is there is rounding alone.
    a, b = (torch.cat([one.grad.flatten() for one in model.parameters()]) for model in (ours, theirs))
    assert float((a - b).norm()) <= BOUND * float(b.norm())


@pytest.mark.parametrize("make", [qwen2, gemma3], ids=lambda make: make.__name__)
def test_the_ways_agree(make: Any) -> None:
    """Blocks, the boolean mask and flex attention's forward, on pieces with trunks above them."""
    torch.manual_seed(0)
    model = make().eval()
    share_prefixes(model)
    found = steps_of_runs(None)
    with torch.no_grad():
        told = {
            way: [
                hidden_states(model.base_model, piece.limb, way)
                for piece in pack([found], 50, share=True)
                if piece.limb
            ]
            for way in (dense, blocks, flex)
        }
    for way in (blocks, flex):
        for expected, seen in zip(told[dense], told[way], strict=True):
            assert torch.allclose(seen, expected, atol=1e-5)


def test_without_gradients_nothing_is_held_either() -> None:
    model = qwen2()
    share_prefixes(model)
    pieces = pack([steps_of_runs(None)], 40, share=True)
    with torch.no_grad():
        for piece in pieces:
            log_probs(model, piece, torch.zeros(len(piece.slot_N), dtype=torch.long), 1.0, torch.float32)
    assert all(piece.limb is not None and piece.limb.keys is None for piece in pieces)


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
        assert rows * tokens <= budget or (not share and rows == 1 and tokens <= longest)
    slots = torch.cat([piece.slot_N for piece in pieces])
    assert sorted(slots.tolist()) == list(range(slot))


@quick
@given(sequences, st.integers(1, 20))
def test_a_piece_comes_before_the_trunks_that_it_looks_at(pairs: Any, budget: int) -> None:
    pieces = cut(grow(strands(pairs)), budget)
    turn = {id(piece.limb): n for n, piece in enumerate(pieces)}
    for n, piece in enumerate(pieces):
        assert piece.limb is not None
        assert all(above.is_trunk and turn[id(above)] > n for above in piece.limb.above)


def test_one_path_of_trunks_is_held_at_a_time() -> None:
    """However many runs are in a batch: the trunks that a trunk looks at hang on one another, and on no other."""
    runs = [steps_of_runs(None), [replace(one, prompt_ids=(9, *one.prompt_ids)) for one in steps_of_runs(None)]]
    found = [replace(one, slot=n) for n, one in enumerate(one for run in runs for one in run)]
    trunks = [piece.limb for piece in cut(grow(found), 10) if piece.limb is not None and piece.limb.is_trunk]
    assert max(len(trunk.above) for trunk in trunks) > 2
    for trunk in trunks:
        chain = sorted(trunk.above, key=lambda above: len(above.above))
        assert all(set(map(id, above.above)) == set(map(id, chain[:n])) for n, above in enumerate(chain))


@quick
@given(sequences, st.integers(1, 20))
def test_looks_are_the_mask(pairs: Any, budget: int) -> None:
    for piece in cut(grow(strands(pairs)), budget):
        limb = piece.limb
        assert limb is not None
        sizes = [len(one.place_T) for one in limb.above]
        T, first = len(limb.place_T), sum(sizes)
        seen = torch.zeros(T, first + T, dtype=torch.long)
        for look in limb.looks:
            offset = first if look.of is None else sum(sizes[: look.of])
            here = torch.ones(look.last - look.first, look.high - look.low, dtype=torch.long)
            seen[look.first : look.last, offset + look.low : offset + look.high] += here.tril() if look.causal else here
        q, k = torch.arange(T)[:, None], torch.arange(first + T)[None]
        assert torch.equal(seen, sees(limb, None, torch.device("cpu"))(q, k).long())


def test_an_empty_batch_has_no_pieces() -> None:
    assert pack([], 100, share=True) == pack([[]], 100, share=False) == []


# ------------------------------------------------------------------------------------- what cannot be shared


def windows_in_masks() -> Any:
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    windows = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2}
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
    return Qwen2MoeForCausalLM(Qwen2MoeConfig(**small(**windows, **experts, shared_expert_intermediate_size=16)))


def layers_of_their_own() -> Any:
    from transformers import StableLmConfig, StableLmForCausalLM

    return StableLmForCausalLM(StableLmConfig(**small()))


def moving_positions() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    return LlamaForCausalLM(LlamaConfig(**small(rope_parameters=rope)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (windows_in_masks, "its windows are in its masks alone"),
        (layers_of_their_own, "its layers do not hand on"),
        (moving_positions, "its positions depend on the longest sequence of a pass"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_who_would_be_wrong_is_refused_by_the_reason(make: Any, why: str) -> None:
    """And is as it was: the engine then has its prompts in rows."""
    model = make()
    before = model.config._attn_implementation
    with pytest.raises(ConfigError, match=why):
        share_prefixes(model)
    assert model.config._attn_implementation == before
    assert not HFEngine(model).shares_prefixes


def test_a_model_that_shares_prefixes_still_generates() -> None:
    model = qwen2_windows().eval()
    asked = {"inputs": torch.arange(20)[None], "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    before = model.generate(**asked)
    share_prefixes(model)
    assert torch.equal(model.generate(**asked), before)


def test_a_model_that_cannot_is_refused_by_name() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    model = Gemma2ForCausalLM(Gemma2Config(**small(head_dim=8, attn_implementation="eager")))
    with pytest.raises(ConfigError, match=r"gemma2: prefixes cannot be shared.*softcap.*prefix_sharing = false"):
        share_prefixes(model)
    assert model.config._attn_implementation == "eager"
