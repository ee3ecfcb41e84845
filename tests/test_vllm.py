"""What vLLM's engine promises beyond every engine's: weights that are checked, a cache that hits, memory refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made import tiny_config
from pydantic import ValidationError
from test_engine import END, MODELS, open_vllm, prompts, several, tiny_qwen2, trainers

from swe_srl.config import EngineConfig, Lora
from swe_srl.engines import Engine, Request, Sampling
from swe_srl.engines.choice import open_engine, vllm_trouble
from swe_srl.engines.vllm import HIT_RATE, VLLMEngine
from swe_srl.errors import ConfigError, TrainingError
from swe_srl.train.model import named_weights, with_lora
from swe_srl.types import Tokens

needs_vllm = pytest.mark.skipif(vllm_trouble() is not None, reason=f"vllm: {vllm_trouble()}")


@pytest.fixture(scope="module")
def trained() -> Any:
    return tiny_qwen2(tie_word_embeddings=True)


@pytest.fixture(scope="module")
def engine(trained: Any) -> Iterator[Engine]:
    engine = open_vllm(trained)
    yield engine
    engine.close()


def gap(engine: Engine, model: Any, temperature: float) -> float:
    """Mean |trainer − sampler| of sampled tokens."""
    answers = engine.generate(several(), Sampling(temperature, 16, END))
    pairs = zip(answers, trainers(model, answers, temperature), strict=True)
    gaps = [abs(ours - theirs) for tokens, row in pairs for ours, theirs in zip(tokens.logps, row, strict=True)]
    return sum(gaps) / len(gaps)


# ------------------------------------------------------------------------------------------- weights


@needs_vllm
@pytest.mark.parametrize("kind", [*MODELS, "tied"])
def test_weights_that_are_pushed_are_the_trainers(kind: str) -> None:
    """After each of several updates, at T = 1 and T = 0.7."""
    model = tiny_qwen2(tie_word_embeddings=True) if kind == "tied" else MODELS[kind]()
    engine, generator = open_vllm(model), torch.Generator().manual_seed(3)
    for _ in range(4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        engine.load_weights(named_weights(model))
        for temperature in (1.0, 0.7):
            assert gap(engine, model, temperature) < 1e-5
    engine.close()


@needs_vllm
def test_an_adapter_is_merged() -> None:
    model = tiny_qwen2(tie_word_embeddings=True)
    engine = open_vllm(model)
    adapted = with_lora(model, Lora(rank=4), seed=0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    assert gap(engine, adapted, 1.0) > 1e-3
    engine.load_weights(named_weights(adapted))
    assert gap(engine, adapted, 1.0) < 1e-5
    engine.close()


@needs_vllm
def test_bfloat16(trained: Any) -> None:
    engine = open_vllm(trained, dtype=torch.bfloat16)
    assert gap(engine, trained, 1.0) < 3e-2  # of a trainer in float32: these weights are four times a model's
    engine.close()


@needs_vllm
def test_weights_that_are_not_the_networks(engine: Engine, trained: Any) -> None:
    right = list(named_weights(trained))
    name, tensor = right[0]
    for wrong, said in {
        "unknown": ([*right, ("model.layers.9.mlp.up_proj.weight", tensor)], "layers.9.* is none"),
        "missing": (right[1:], f"1 did not come, {name}"),
        "twice": ([right[0], *right], f"{name} is none of this network's, or came twice"),
        "shape": ([(name, tensor[:-1]), *right[1:]], r"has the shape \(96, 64\), expected \(97, 64\)"),
    }.values():
        with pytest.raises(TrainingError, match=said):
            engine.load_weights(wrong)
    engine.load_weights(right)
    assert gap(engine, trained, 1.0) < 1e-5


@needs_vllm
def test_broken_weights_are_told(engine: Engine, trained: Any) -> None:
    engine.load_weights((name, torch.full_like(tensor, float("nan"))) for name, tensor in named_weights(trained))
    with pytest.raises(TrainingError, match="not numbers"):
        engine.generate([Request((1, 2), 0)], Sampling(1.0, 2, END))
    engine.load_weights(named_weights(trained))


# --------------------------------------------------------------------------------------------- cache


@needs_vllm
def test_prompts_that_begin_alike_hit_the_cache(engine: Engine, trained: Any) -> None:
    """In whatever order they are asked: of three prompts over one trunk of 256 tokens, eight answers each."""
    trunk, *ends = prompts(256, 20, 30, 40)
    asked = [Request(trunk + end, seed) for seed in range(8) for end in ends]
    engine.stats()
    engine.generate(asked, Sampling(1.0, 4, END))
    found = engine.stats()
    assert found[HIT_RATE] > 0.85  # 23 of 24 times the trunk
    assert engine.stats() == {}
    engine.load_weights(named_weights(trained))
    engine.generate([Request(trunk, 0)], Sampling(1.0, 4, END))
    assert engine.stats()[HIT_RATE] == 0  # nothing that older weights made is left


@needs_vllm
def test_a_prompt_that_cannot_be_held(trained: Any) -> None:
    engine = open_vllm(trained, max_batch_tokens=64)
    engine.generate([Request(prompts(60)[0], 0)], Sampling(1.0, 4, END))
    with pytest.raises(ConfigError, match=r"may be 65 tokens.*holds 64.*engine\.max_batch_tokens"):
        engine.generate([Request(prompts(60)[0], 0)], Sampling(1.0, 5, END))
    engine.close()


@needs_vllm
def test_more_prompts_than_one_pass_holds(engine: Engine) -> None:
    """No prompt is computed in pieces: each would use up a draw of the request's seed."""
    asked = [Request(prompt, seed) for seed, prompt in enumerate(prompts(*[300] * 32))]
    together = engine.generate(asked, Sampling(1.0, 3, END))
    assert [engine.generate([one], Sampling(1.0, 3, END))[0].ids for one in asked[::8]] == [
        tokens.ids for tokens in together[::8]
    ]


@needs_vllm
def test_a_call_that_nobody_waits_for(engine: VLLMEngine, trained: Any) -> None:
    """It goes on in its thread, by the weights that it began with; new weights and the next call wait for it."""
    long = [Request(prompt, seed) for seed, prompt in enumerate(prompts(*[50] * 32))]
    alone = [engine.generate(asked, Sampling(1.0, 60, END)) for asked in (long, several())]
    left = list[list[Tokens]]()
    thread = threading.Thread(target=lambda: left.append(engine.generate(long, Sampling(1.0, 60, END))))
    thread.start()
    while not engine._busy.locked():
        pass
    engine.load_weights(named_weights(trained))
    found = engine.generate(several(), Sampling(1.0, 60, END))
    thread.join()
    assert [ids_of(left[0]), ids_of(found)] == [ids_of(answers) for answers in alone]


def ids_of(answers: list[Tokens]) -> list[tuple[int, ...]]:
    return [tokens.ids for tokens in answers]


# -------------------------------------------------------------------------------------------- memory


@needs_vllm
def test_sleep_is_refused_on_a_cpu(tmp_path: Any, trained: Any) -> None:
    trained.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"engine\.sleep: vLLM cannot sleep on cpu"):
        open_engine(EngineConfig(kind="vllm", sleep=True), str(tmp_path), trained, torch.float32)


@needs_vllm
def test_rest_without_sleep_changes_nothing(engine: VLLMEngine) -> None:
    assert not engine.sleeps
    before = engine.generate(several(), Sampling(0.0, 4, END))
    engine.rest()
    assert engine.generate(several(), Sampling(0.0, 4, END)) == before


# --------------------------------------------------------------------------------------------- ranks


@needs_vllm
@pytest.mark.slow
def test_an_engine_a_rank(tmp_path: Path) -> None:
    tiny_qwen2().save_pretrained(tmp_path)
    script = [str(Path(__file__).with_name("rank_vllm.py")), str(tmp_path)]
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*ranks, *script], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):  # their lines may run into one another
        assert f"rank {rank}: as the trainer" in done.stdout


# ------------------------------------------------------------------------------------------- configs


def test_where_it_is_not_installed(tmp_path: Any, trained: Any) -> None:
    if importlib.util.find_spec("vllm"):
        pytest.skip("it is installed")
    with pytest.raises(ConfigError, match=r'engine\.kind = "vllm" needs vLLM.*make vllm'):
        open_engine(EngineConfig(kind="vllm"), str(tmp_path), trained, torch.float32)


def test_sleep_is_vllms() -> None:
    assert EngineConfig(kind="vllm", sleep=True).sleep
    with pytest.raises(ValidationError, match=r'sleep: of engine\.kind = "vllm", and it is "hf"'):
        EngineConfig(sleep=True)


def test_one_engine_a_process(tmp_path: Any) -> None:
    lagging = {"name": "r", "kind": "rlvr", "steps": 1, "max_lag": 1, "sampler_weight_cap": 2.0}
    with pytest.raises(Exception, match=r"stage 'r': max_lag wants a second engine"):
        tiny_config(tmp_path, engine={"kind": "vllm"}, stage=[lagging])
