"""What every engine promises, for every engine there is."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import make_qwen2, scaled

from swe_srl.config import EngineConfig
from swe_srl.engines import Engine, Request, Sampling
from swe_srl.engines.choice import open_engine, vllm_trouble
from swe_srl.engines.hf import HFEngine, can_mask
from swe_srl.engines.prefixes import lay_out, new_tokens
from swe_srl.errors import TrainingError
from swe_srl.policies import seed_of
from swe_srl.train.model import log_probs, named_weights
from swe_srl.train.objective import supervised
from swe_srl.train.pieces import pack
from swe_srl.types import Group, Sample, Score, Tokens

VOCABULARY = 97
END = 5


def tiny_qwen2(**changes: Any) -> Any:
    """Heads of 32: vLLM's kernels for CPUs have no narrower ones."""
    return make_qwen2(**{"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1} | changes)


def tiny_mistral() -> Any:
    """A sliding window of four: a mask over branches cannot say what it sees."""
    from transformers import MistralConfig, MistralForCausalLM

    settings = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        sliding_window=4,
        eos_token_id=None,
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return scaled(MistralForCausalLM(settings), 4.0)


def tiny_gemma3() -> Any:
    """Layers with a window beside layers without."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    settings = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return scaled(Gemma3ForCausalLM(settings), 4.0)


def tiny_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        eos_token_id=None,
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return scaled(LlamaForCausalLM(settings), 4.0)


MODELS: dict[str, Callable[[], Any]] = {"qwen2": tiny_qwen2, "mistral": tiny_mistral, "gemma3": tiny_gemma3}


def open_vllm(model: Any, max_batch_tokens: int = 65_536, dtype: torch.dtype = torch.float32) -> Engine:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return open_engine(EngineConfig(kind="vllm", max_batch_tokens=max_batch_tokens), folder, model, dtype)


# An engine is made of a transformers model; `max_batch_tokens` is the memory it may use.
ENGINES: dict[str, Callable[..., Engine]] = {
    "hf": HFEngine,
    "hf over tries": partial(HFEngine, shared_from=0),
    "vllm": open_vllm,
}
WITHOUT_VLLM = pytest.mark.skipif(vllm_trouble() is not None, reason=f"vllm: {vllm_trouble()}")


@pytest.fixture(params=["hf", "hf over tries", pytest.param("vllm", marks=WITHOUT_VLLM)])
def make_engine(request: pytest.FixtureRequest) -> Iterator[Callable[..., Engine]]:
    opened: list[Engine] = []

    def make(*args: Any, **kwargs: Any) -> Engine:
        opened.append(ENGINES[request.param](*args, **kwargs))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]()


def prompts(*lengths: int) -> list[tuple[int, ...]]:
    random = torch.Generator().manual_seed(7)
    return [tuple(torch.randint(6, VOCABULARY, (n,), generator=random).tolist()) for n in lengths]


def several(seeds: int = 3) -> list[Request]:
    """Prompts of different lengths, some the beginnings of others, all asked several times."""
    a, b, c, d, e = prompts(3, 11, 7, 1, 20)
    wanted = [a, b, c, d, e, b + a, b + a + c, b + a + e, e[:8], e[:12] + c]
    asked = [Request(prompt, seed_of(i, seed)) for i, prompt in enumerate(wanted) for seed in range(seeds)]
    return [*asked, Request(wanted[1], 99)]  # and one more often than the others


def trainers(model: Any, answers: Sequence[Tokens], temperature: float) -> list[list[float]]:
    """The trainer's log-probabilities of sampled answers."""
    batch = supervised([Group("", 0, (Sample(tokens, Score(None)),)) for tokens in answers])
    flat = torch.zeros(len(batch.ids_N))
    with torch.no_grad():
        for piece in pack(batch.strands, 4096, share=False):
            logp_N, _ = log_probs(model, piece, batch.ids_N[piece.slot_N], temperature, torch.float32)
            flat[piece.slot_N] = logp_N
    return [part.tolist() for part in flat.split([len(tokens.ids) for tokens in answers])]


# ------------------------------------------------------------------------------------------------- tests


def test_which_models_share_prompts() -> None:
    assert {name: can_mask(make().config) for name, make in MODELS.items()} == {
        "qwen2": True,
        "mistral": False,
        "gemma3": False,
    }


def test_which_models_share_prefixes() -> None:
    makers = {**MODELS, "llama": tiny_llama}
    assert all(HFEngine(make()).shares_prefixes for make in makers.values())


def test_a_model_whose_layers_are_not_known_has_its_prompts_in_rows() -> None:
    model = tiny_qwen2()
    model.config.layer_types = ["chunked_attention"] * model.config.num_hidden_layers
    assert not HFEngine(model).shares_prefixes


@pytest.mark.parametrize("make", [tiny_qwen2, tiny_llama, *(MODELS[name] for name in ("mistral", "gemma3"))])
def test_a_prefix_is_computed_once(make: Any) -> None:
    """In one batch, in several, and in pieces: as many prompt tokens as the trie has; the same answers as in rows."""
    asked, sampling = several(), Sampling(0.0, 6, -1)
    wanted = sorted({request.prompt_ids for request in asked})
    expected = HFEngine(make(), shared_from=10**9).generate(asked, sampling)
    for budget in (1, 60, 65_536):
        engine = HFEngine(make(), max_batch_tokens=budget, shared_from=0)
        seen: list[int] = []
        embeddings = engine.model.get_input_embeddings()
        embeddings.register_forward_hook(lambda _layer, ids, _out, seen=seen: seen.append(ids[0].numel()))
        answers = engine.generate(asked, sampling)
        assert sum(seen) == sum(new_tokens(wanted)) + len(asked) * (sampling.max_tokens - 1)
        assert [tokens.ids for tokens in answers] == [tokens.ids for tokens in expected]


def test_prompts_longer_than_a_piece() -> None:
    """A prompt's pieces look at those before them, inside a block and across."""
    a, b, c = prompts(2500, 900, 700)
    asked = [Request(prompt, 0) for prompt in (a, a + b, a[:2100] + c, a + b + c, b)]
    model, sampling = tiny_qwen2(scale=2.0, max_position_embeddings=8192), Sampling(0.0, 4, -1)
    over_trie, in_rows = (HFEngine(model, shared_from=n).generate(asked, sampling) for n in (0, 10**9))
    assert [tokens.ids for tokens in over_trie] == [tokens.ids for tokens in in_rows]
    for ours, theirs in zip(over_trie, in_rows, strict=True):
        assert ours.logps == pytest.approx(theirs.logps, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_the_trainers(make_engine: Any, model: Any, temperature: float) -> None:
    answers = make_engine(model).generate(several(), Sampling(temperature, 24, END))
    for tokens, expected in zip(answers, trainers(model, answers, temperature), strict=True):
        assert tokens.logps == pytest.approx(expected, abs=1e-5)


def test_greedy_is_transformers_own(make_engine: Any, model: Any) -> None:
    asked = [Request(prompt, 0) for prompt in prompts(3, 11, 7, 1, 20)]
    answers = make_engine(model).generate(asked, Sampling(0.0, 24, END))
    for request, tokens in zip(asked, answers, strict=True):
        theirs = model.generate(
            torch.tensor([request.prompt_ids]), do_sample=False, max_new_tokens=24, eos_token_id=END, pad_token_id=0
        )
        assert tokens.ids == tuple(theirs[0, len(request.prompt_ids) :].tolist())
        assert tokens.prompt_ids == request.prompt_ids
    for tokens, expected in zip(answers, trainers(model, answers, 1.0), strict=True):
        assert tokens.logps == pytest.approx(expected, abs=1e-5)  # of T = 1


def test_an_answer_depends_on_its_seed_alone(make_engine: Any, model: Any) -> None:
    """Alone, in another order, among others, in small batches: the same ids."""
    asked, sampling = several(), Sampling(1.0, 24, END)
    engine = make_engine(model)
    together = [tokens.ids for tokens in engine.generate(asked, sampling)]
    assert [tokens.ids for request in asked for tokens in engine.generate([request], sampling)] == together
    backwards = engine.generate(asked[::-1], sampling)
    assert [tokens.ids for tokens in backwards[::-1]] == together
    assert [tokens.ids for tokens in engine.generate([asked[4], *asked[9:]], sampling)] == [together[4], *together[9:]]
    for few in (64, 90, 300):
        small = make_engine(model, max_batch_tokens=few)
        assert [tokens.ids for tokens in small.generate(asked, sampling)] == together
    assert len(set(together)) > len(asked) / 2  # and seeds do differ


def test_more_tokens_begin_the_same(make_engine: Any) -> None:
    """Where an answer is cut does not change what comes before."""
    engine = make_engine(tiny_qwen2())
    short, long = (engine.generate(several(), Sampling(1.0, n, END)) for n in (6, 24))
    for a, b in zip(short, long, strict=True):
        assert b.ids[: len(a.ids)] == a.ids


def test_an_answer_ends_with_the_end_or_at_the_bound(make_engine: Any, model: Any) -> None:
    asked = [Request(prompt, seed) for prompt in prompts(3, 11) for seed in range(40)]
    answers = make_engine(model).generate(asked, Sampling(1.0, 30, END))
    for tokens in answers:
        assert 1 <= len(tokens.ids) <= 30
        assert len(tokens.logps) == len(tokens.ids)
        assert END not in tokens.ids[:-1]
        assert tokens.ids[-1] == END or len(tokens.ids) == 30
    ends = Counter(tokens.ids[-1] == END for tokens in answers)
    assert ends[True]
    assert ends[False]


def test_no_requests_no_answers(make_engine: Any) -> None:
    assert make_engine(tiny_qwen2()).generate([], Sampling(1.0, 4, END)) == []


@pytest.mark.parametrize("tied", [True, False])
def test_load_weights_takes_effect_and_only_then(make_engine: Any, tied: bool) -> None:
    trained, other = tiny_qwen2(tie_word_embeddings=tied), tiny_qwen2(seed=1, tie_word_embeddings=tied)
    asked, sampling = several(), Sampling(1.0, 12, END)
    engine = make_engine(trained)
    before = engine.generate(asked, sampling)
    with torch.no_grad():
        for mine, new in zip(trained.parameters(), other.parameters(), strict=True):
            mine.copy_(new)
    assert engine.generate(asked, sampling) == before
    engine.load_weights(named_weights(trained))
    after = engine.generate(asked, sampling)
    assert after == make_engine(other).generate(asked, sampling)
    assert after != before
    engine.close()
    engine.close()


def test_a_models_generation_config_is_not_inherited(make_engine: Any) -> None:
    plain = tiny_qwen2()
    odd = copy.deepcopy(plain)
    narrow = {"do_sample": True, "temperature": 0.1, "top_k": 1, "top_p": 0.1, "repetition_penalty": 3.0}
    for key, value in narrow.items():
        setattr(odd.generation_config, key, value)
    odd.generation_config.eos_token_id = 7
    asked, sampling = several(), Sampling(1.0, 12, END)
    assert make_engine(odd).generate(asked, sampling) == make_engine(plain).generate(asked, sampling)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_distribution_is_the_models(make_engine: Any, temperature: float) -> None:
    """Pearson's chi-square of the first token over 4,000 seeds; 5 standard deviations of its distribution."""
    model, n = tiny_qwen2(scale=2.0), 4000
    (prompt,) = prompts(9)
    asked = [Request(prompt, seed_of("chi", seed)) for seed in range(n)]
    seen = Counter(tokens.ids[0] for tokens in make_engine(model).generate(asked, Sampling(temperature, 1, END)))
    with torch.no_grad():
        share = (model(torch.tensor([prompt])).logits[0, -1].double() / temperature).softmax(-1).tolist()
    often = [token for token in range(VOCABULARY) if share[token] * n >= 5]
    rare = n * (1 - sum(share[token] for token in often))
    cells = [(seen[token], share[token] * n) for token in often]
    cells.append((n - sum(count for count, _ in cells), rare))
    chi_square = sum((count - expected) ** 2 / expected for count, expected in cells if expected > 1)
    freedom = len(cells) - 1
    assert freedom > 10
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("shared_from", [0, 10**9])
def test_bfloat16_keeps_positions_exact(shared_from: int) -> None:
    """Weights are rounded, the frequencies of positions are not: far into a prompt both still agree."""
    model = tiny_qwen2(scale=8.0)
    (prompt,) = prompts(1500)
    engine = HFEngine(model, torch.bfloat16, shared_from=shared_from)
    for name, buffer in engine.model.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name])
    asked = [Request(prompt, seed) for seed in range(8)]
    answers = engine.generate(asked, Sampling(1.0, 8, END))
    ours = torch.tensor([logp for tokens in answers for logp in tokens.logps])
    theirs = torch.tensor([logp for row in trainers(model, answers, 1.0) for logp in row])
    assert float((ours - theirs).abs().mean()) < 0.03  # rounded frequencies make it 0.05


# ------------------------------------------------------------------------------------------ the trie's row

few_ids = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), min_size=1, max_size=7)


@settings(deadline=None, max_examples=200)
@given(few_ids, st.integers(1, 12))
def test_each_token_of_a_row_looks_at_its_own_prefix(wanted: list[tuple[int, ...]], size: int) -> None:
    distinct = sorted(set(wanted))
    row = lay_out(distinct)
    places = [[at for low, high in ranges for at in range(low, high)] for ranges in row.prompts]
    assert [tuple(row.ids[at] for at in path) for path in places] == distinct
    assert [row.depth[at] for path in places for at in path] == [n for path in places for n in range(len(path))]
    assert len(row.ids) == len({prompt[:n] for prompt in distinct for n in range(1, len(prompt) + 1)})
    above = {path[n]: path[: n + 1] for path in places for n in range(len(path))}
    for first in range(0, len(row.ids), size):
        seen: dict[int, list[int]] = {n: [] for n in range(first, min(first + size, len(row.ids)))}
        for look in row.looks(first, min(first + size, len(row.ids))):
            for n in range(look.first, look.last):
                seen[first + n] += range(look.low, first + n + 1 if look.causal else look.high)
        assert {n: sorted(found) for n, found in seen.items()} == {n: sorted(above[n]) for n in seen}


def test_broken_weights_are_told() -> None:
    model = tiny_qwen2()
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not numbers"):
        HFEngine(model, shared_from=10**9).generate([Request((1, 2), 0)], Sampling(1.0, 2, END))
