"""One step's gradient is the paper's: against a reference that is as plain as its formula (Eq. 1)."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from made import make_group, make_qwen2
from torch import Tensor

from swe_srl.config import Lora
from swe_srl.train.loop import token_losses
from swe_srl.train.model import core, log_probs, named_weights, share_prefixes, with_lora
from swe_srl.train.objective import Batch, reinforced, rewards, sampler_weight, supervised
from swe_srl.train.pieces import pack
from swe_srl.train_config import SftStage, SrlStage
from swe_srl.types import Group, Sample, Score, Tokens

EPSILON = 0.2
BOUND = 1e-5  # relative norm of the difference, for each tensor
LARGE, SMALL = 10_000, 24  # token budgets: one piece, and about one sequence a piece


def groups() -> list[Group]:
    """Unequal lengths, a group of two prompts' length, answers that begin alike, one without a reward."""
    random = torch.Generator().manual_seed(1)

    def ids(n: int) -> list[int]:
        return torch.randint(0, 97, (n,), generator=random).tolist()

    stem = ids(3)
    return [
        make_group("a#1", 0, ids(9), [ids(5), stem + ids(4), stem + ids(1), ids(1)], [0.9, 0.1, -1.0, 0.35]),
        make_group("a#2", 1, ids(4), [ids(7), ids(2), ids(6), ids(3)], [0.2, None, -1.0, 0.25]),
        make_group("b#1", 2, ids(14), [ids(4), ids(8)], [1.0, 0.0]),
    ]


# ----------------------------------------------------------------------------------------- the reference


def plain_log_probs(model: Any, prompt: tuple[int, ...], ids: tuple[int, ...], temperature: float) -> Tensor:
    """Log-probabilities of an answer's tokens, from the full logits of one sequence."""
    logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].float() / temperature
    predicted = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return torch.stack([predicted[i, token] for i, token in enumerate(ids)])


def plain_loss(
    model: Any, found: list[Group], temperature: float, shifts: dict, kl: float, cap: float | None, initial: Any
) -> Tensor:
    """− mean over responses of the token mean of min(ρA, clip(ρ)A) − β·KL, typed as the paper writes it."""
    responses = []
    for group in found:
        scored = [sample for sample in group.samples if sample.score.value is not None]
        values = [sample.score.value for sample in scored]
        mean = sum(values) / len(values)
        std = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        for sample in scored:
            tokens = sample.tokens
            advantage = (sample.score.value - mean) / std
            logp = plain_log_probs(model, tokens.prompt_ids, tokens.ids, temperature)
            old = logp.detach() + shifts[tokens.ids]
            ratio = torch.exp(logp - old)
            gain = torch.min(ratio * advantage, torch.clip(ratio, 1 - EPSILON, 1 + EPSILON) * advantage)
            if cap is not None:
                gain = gain * torch.clip(torch.exp(old - torch.tensor(tokens.logps)), max=cap)
            if kl:
                with torch.no_grad():
                    reference = plain_log_probs(initial, tokens.prompt_ids, tokens.ids, temperature)
                gain = gain - kl * (torch.exp(reference - logp) - (reference - logp) - 1)
            responses.append(gain.mean())
    return -torch.stack(responses).mean()


# --------------------------------------------------------------------------------------------- the project


def shifts_of(found: list[Group]) -> dict[tuple[int, ...], Tensor]:
    """How far the old log-probs lie from the new ones: ratios below, inside and above the clip."""
    cycle = itertools.cycle([0.5, -0.02, -0.5, 0.1, 0.0])
    return {s.tokens.ids: torch.tensor([next(cycle) for _ in s.tokens.ids]) for g in found for s in g.samples}


def flat(batch: Batch, by_ids: dict[tuple[int, ...], Tensor]) -> Tensor:
    return torch.cat([by_ids[strand.ids] for group in batch.strands for strand in group])


def backward(
    model: Any, batch: Batch, stage: SrlStage | SftStage, old: Tensor | None, initial: Any, dtype: Any = torch.float32
) -> tuple[float, int]:
    """The loop's own steps, from batch to gradients; the loss and the number of pieces."""
    temperature = stage.temperature if isinstance(stage, SrlStage) else 1.0
    pieces = pack(batch.strands, stage.token_budget, share=stage.prefix_sharing)
    if stage.prefix_sharing:
        for one in (model, initial) if initial is not None else (model,):
            share_prefixes(core(one))
    reference_N = None
    if isinstance(stage, SrlStage) and stage.kl:
        reference_N = torch.zeros(len(batch.ids_N))
        with torch.no_grad():
            for piece in pieces:
                ids = batch.ids_N[piece.slot_N]
                reference_N[piece.slot_N] = log_probs(initial, piece, ids, temperature, dtype)[0]
    total = 0.0
    for piece in pieces:
        logp_N, _ = log_probs(model, piece, batch.ids_N[piece.slot_N], temperature, dtype)
        old_N = None if old is None else torch.zeros(len(batch.ids_N))
        if old_N is not None:
            old_N[piece.slot_N] = logp_N.detach() + old[piece.slot_N]
        loss_N = token_losses(stage, batch, piece, logp_N, old_N, reference_N)
        loss = (batch.weight_N[piece.slot_N] * loss_N).sum()
        loss.backward()
        total += float(loss.detach())
    return total, len(pieces)


def gap(ours: Any, theirs: Any) -> float:
    """The largest relative difference of a gradient, over the tensors that have one."""
    found = []
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        if not b.requires_grad:
            continue
        assert a.grad is not None, name
        assert b.grad is not None, name
        if float(b.grad.norm()) == 0:
            assert float(a.grad.norm()) == 0, name
        else:
            found.append(float((a.grad - b.grad).norm() / b.grad.norm()))
    return max(found)


def stage(**changes: Any) -> SrlStage:
    return SrlStage(name="srl", steps=1, clip_epsilon=EPSILON, **changes)


# ------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("budget", [SMALL, LARGE])
@pytest.mark.parametrize("share", [True, False], ids=["tree", "separate"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_gradient_is_the_papers(kl: float, temperature: float, share: bool, budget: int, record_property: Any) -> None:
    found, ours = groups(), make_qwen2()
    theirs, initial = copy.deepcopy(ours), make_qwen2(seed=3)
    settings = stage(kl=kl, temperature=temperature, prefix_sharing=share, token_budget=budget)
    shifts = shifts_of(found)
    batch = reinforced(found)
    loss, pieces = backward(ours, batch, settings, flat(batch, shifts), initial)
    expected = plain_loss(theirs, found, temperature, shifts, kl, None, initial)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    assert (pieces > 1) if budget == SMALL else (pieces == 1)
    worst = gap(ours, theirs)
    record_property("relative_gradient_error", worst)
    print(f"kl={kl} T={temperature} share={share} budget={budget}: {worst:.1e}")
    assert worst <= BOUND


def test_the_batch_has_what_the_formula_distinguishes() -> None:
    batch = reinforced(groups())
    ratio = (-flat(batch, shifts_of(groups()))).exp()
    for sign in (1, -1):
        of_sign = ratio[batch.advantage_N * sign > 0]
        assert (of_sign < 1 - EPSILON).any()
        assert ((of_sign > 1 - EPSILON) & (of_sign < 1 + EPSILON)).any()
        assert (of_sign > 1 + EPSILON).any()
    assert sum(len(group) for group in batch.strands) == 9  # ten answers, one without a reward
    assert float(batch.weight_N.sum()) == pytest.approx(1)


@pytest.mark.parametrize("cap", [2.0, 1.1])
def test_truncated_sampler_weight(cap: float) -> None:
    """It scales each token's gradient, and has none of its own."""
    found, ours = groups(), make_qwen2()
    theirs = copy.deepcopy(ours)
    shifts = shifts_of(found)
    batch = reinforced(found)
    backward(ours, batch, stage(sampler_weight_cap=cap), flat(batch, shifts), None)
    plain_loss(theirs, found, 1.0, shifts, 0.0, cap, None).backward()
    assert gap(ours, theirs) <= BOUND
    old = torch.tensor([0.0, -3.0, 5.0], requires_grad=True)
    weight = sampler_weight(old, torch.tensor([0.0, -1.0, 0.0]), cap)
    assert weight.tolist() == pytest.approx([1.0, 0.1353353, cap])
    assert not weight.requires_grad


def test_one_update_has_a_ratio_of_one() -> None:
    """Without stored log-probs the old ones are the new ones: the clip cannot bind."""
    found, ours = groups(), make_qwen2()
    theirs = copy.deepcopy(ours)
    zero = {ids: torch.zeros(len(ids)) for ids in shifts_of(found)}
    batch = reinforced(found)
    backward(ours, batch, stage(), None, None)
    plain_loss(theirs, found, 1.0, zero, 0.0, None, None).backward()
    assert gap(ours, theirs) <= BOUND


@pytest.mark.parametrize("budget", [SMALL, LARGE])
def test_sft_is_the_token_mean(budget: int) -> None:
    found, ours = groups(), make_qwen2()
    theirs = copy.deepcopy(ours)
    settings = SftStage(name="sft", steps=1, token_budget=budget)
    loss, _ = backward(ours, supervised(found), settings, None, None)
    samples = [sample.tokens for group in found for sample in group.samples]
    expected = -torch.cat([plain_log_probs(theirs, t.prompt_ids, t.ids, 1.0) for t in samples]).mean()
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    assert gap(ours, theirs) <= BOUND


# -------------------------------------------------------------------------------------------------- LoRA


def adapted() -> Any:
    """An adapter whose second matrices are not zero, as after some steps."""
    model = with_lora(make_qwen2(), Lora(rank=4, alpha=8), seed=5)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.1)
    return model


def test_lora_gradient() -> None:
    found, ours = groups(), adapted()
    theirs, initial = copy.deepcopy(ours), make_qwen2()
    shifts = shifts_of(found)
    batch = reinforced(found)
    with ours.disable_adapter():
        told = plain_log_probs(ours, (1, 2, 3), (4, 5), 1.0)
    assert torch.equal(told, plain_log_probs(initial, (1, 2, 3), (4, 5), 1.0))  # adapter off = where it began
    backward(ours, batch, stage(kl=0.3), flat(batch, shifts), initial)
    plain_loss(theirs, found, 1.0, shifts, 0.3, None, initial).backward()
    assert gap(ours, theirs) <= BOUND
    trained = {name for name, parameter in ours.named_parameters() if parameter.grad is not None}
    assert trained
    assert all("lora_" in name for name in trained)


@pytest.mark.parametrize("tied", [True, False])
def test_named_weights_are_the_merged_ones(tied: bool) -> None:
    model = with_lora(make_qwen2(tie_word_embeddings=tied), Lora(rank=4, alpha=8), seed=5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    ours = dict(named_weights(model))
    before = {name: tensor.clone() for name, tensor in ours.items()}
    merged = dict(copy.deepcopy(model).merge_and_unload().named_parameters())
    assert ours.keys() == merged.keys()
    for name, tensor in merged.items():
        assert torch.allclose(ours[name], tensor, rtol=0, atol=1e-6), name
    again = dict(named_weights(model))  # asking changed nothing
    assert all(torch.equal(again[name], tensor) for name, tensor in before.items())


# -------------------------------------------------------------------------------- bfloat16 over float32


def share_moved(dtype: torch.dtype) -> float:
    """The share of weights that one AdamW step at the paper's lr changes; compute is in bfloat16."""
    model = make_qwen2(scale=1.0, tie_word_embeddings=True).to(dtype)  # tied: every embedding has a gradient
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-7, weight_decay=0.01)
    batch = reinforced(groups())
    backward(model, batch, stage(), None, None, torch.bfloat16)
    optimizer.step()
    moved = [(a != b).sum() for a, b in zip(model.parameters(), before, strict=True)]
    return float(sum(moved)) / sum(tensor.numel() for tensor in before)


def test_small_steps_move_float32_masters() -> None:
    masters, pure = share_moved(torch.float32), share_moved(torch.bfloat16)
    print(f"moved at lr 5e-7: float32 masters {masters:.2%}, bfloat16 weights {pure:.2%}")
    assert masters > 0.99
    assert pure < 0.05


def test_an_episode_is_one_response() -> None:
    """Three turns of one episode: its advantage, and 1 / (episodes · its tokens) for each of its tokens."""
    turn = [Tokens((1, 2), tuple(range(3, 3 + n)), (0.0,) * n) for n in (2, 3, 1, 4)]
    scores = [Score(1.0), Score(1.0), Score(0.0), Score(0.0), Score(None)]
    episodes = [0, 0, 1, 1, 2]
    group = Group(
        "task",
        0,
        tuple(Sample(t, s, episode=e) for t, s, e in zip([*turn, turn[0]], scores, episodes, strict=True)),
    )
    batch = reinforced([group])
    assert rewards(group) == [1.0, 0.0]  # the third episode was lost: it is no zero
    assert batch.weight_N.tolist() == pytest.approx([1 / (2 * 5)] * 10)
    assert batch.advantage_N.tolist() == [1.0] * 5 + [-1.0] * 5
    assert [strand.ids for strand in batch.strands[0]] == [one.ids for one in turn]
