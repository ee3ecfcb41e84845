"""The sum of a training's memory: what is counted on fake tensors beside real ones, and the rest by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made import make_qwen2

from swe_srl.config import Lora, ModelConfig
from swe_srl.plan.disk import disk
from swe_srl.plan.live_bytes import LiveBytes
from swe_srl.plan.memory import CONTEXT, GRAPHS, Part, Work, phases, total
from swe_srl.plan.shape import Shape, network, shape_of
from swe_srl.plan.step_memory import Held, Pass, held, piece_of
from swe_srl.train.model import checkpoint_activations, log_probs, share_prefixes, with_lora

SEVEN_B = "Qwen/Qwen2.5-Coder-7B-Instruct"
CONFIG = str(Path(__file__).parent.parent / "configs" / "paper_swe_7b.toml")


def really_held(model: Any, one: Pass) -> Held:
    """The same pass with numbers in it."""
    if one.share:
        share_prefixes(model)
    if one.lora is not None:
        model = with_lora(model.to(one.dtype), one.lora, 0)  # as it is loaded where an adapter is trained
    if one.checkpointing:
        checkpoint_activations(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    piece = piece_of(one)
    with LiveBytes() as memory:
        logp_N, _ = log_probs(model, piece, torch.zeros(len(piece.slot_N), dtype=torch.long), 1.0, one.dtype)
        kept = memory.live
        logp_N.sum().backward()
    return Held(kept, memory.peak)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"share": False}, {"checkpointing": True}, {"lora": Lora(rank=4)}, {"answers": 1}],
    ids=["a trie", "rows", "checkpointing", "an adapter", "one answer"],
)
def test_what_is_counted_is_what_a_real_pass_holds(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    """Within 15% is asked for; both run the same code, so they are far nearer."""
    one = replace(Pass(512, 256, 4, dtype, cuda=False), **changes)
    model = make_qwen2(1000, hidden_size=64, intermediate_size=160, num_hidden_layers=5)
    counted, real = held(model.config, one), really_held(model, one)
    print(f"kept {counted.kept} counted, {real.kept} real; peak {counted.peak} counted, {real.peak} real")
    assert counted.kept == pytest.approx(real.kept, rel=0.02)
    assert counted.peak == pytest.approx(real.peak, rel=0.02)


def of_a_token_and_layer(dtype: torch.dtype, *, masters: bool, checkpointing: bool, **size: int) -> float:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2, **size}
    few, many = (
        Pass(tokens, tokens // 2, 4, dtype, cuda=True, masters=masters, checkpointing=checkpointing)
        for tokens in (256, 512)
    )
    two, three = (make_qwen2(100, num_hidden_layers=n, **sizes).config for n in (2, 3))
    added = [held(three, one).kept - held(two, one).kept for one in (few, many)]
    return (added[1] - added[0]) / 256


@pytest.mark.parametrize("size", [{}, {"hidden_size": 512}, {"intermediate_size": 1024}])
def test_a_layer_keeps_what_the_page_derives(size: dict[str, int]) -> None:
    """docs/memory.md: D hidden, I intermediate, Q all heads' width, K that of the keys, H heads; bytes a token."""
    D, I, H, heads = size.get("hidden_size", 256), size.get("intermediate_size", 512), 4, 2  # noqa: E741
    Q, K = D, D // H * heads
    bf16, f32 = torch.bfloat16, torch.float32
    plain = of_a_token_and_layer(f32, masters=True, checkpointing=False, **size)
    assert plain == 24 * D + 8 * Q + 8 * K + 16 * I + 4 * H + 8
    cast = of_a_token_and_layer(bf16, masters=True, checkpointing=False, **size)
    assert cast == 26 * D + 4 * Q + 4 * K + 8 * I + 4 * H + 8
    sharded = of_a_token_and_layer(bf16, masters=False, checkpointing=False, **size)
    assert sharded == 16 * D + 4 * Q + 4 * K + 8 * I + 4 * H + 8
    assert of_a_token_and_layer(bf16, masters=False, checkpointing=True, **size) == 2 * D


# ------------------------------------------------------------------------------------------------- by hand

TINY = Shape("made", 1000, 1000, 2, 300, 400, 200, 8, 25, 16, 16, 64)


def sizes(parts: tuple[Part, ...]) -> dict[str, int]:
    return {part.name: part.bytes for part in parts}


def test_the_sum_of_one_process() -> None:
    work = Work(TINY, Held(5000, 7000), 1, 4, "cpu", cache_tokens=10, forward=600, prefill_tokens=10, held_tokens=3)
    found = {name: sizes(parts) for name, parts in phases(work).items()}
    context = CONTEXT["cpu"]
    assert found["load"] == {"weights": 4000, "engine's copy": 4000, "context": context, "fragments": 400}
    assert found["sample"] == {
        "trained weights": 4000,
        "Adam's moments": 8000,
        "engine's weights": 4000,
        "engine's cache": 4 * 16 * 10,
        "prefill": 600,
        "context": context,
        "fragments": 862,
    }
    assert found["learn"] == {
        "trained weights": 4000,
        "gradients": 4000,
        "Adam's moments": 8000,
        "engine's weights": 4000,
        "activations": 5000,
        "backward": 2000,
        "trunk": 2 * 4 * 16 * 3,
        "context": context,
        "fragments": 1369,
    }
    assert found["update"]["AdamW's temporary"] == 2 * 4 * 200
    assert total(phases(work)["load"]) == 8400 + context


def test_the_sum_of_eight_ranks_with_vllm() -> None:
    work = Work(TINY, Held(5000, 7000), 8, 2, "cuda", vllm=True, cache_tokens=10)
    learn = sizes(phases(work)["learn"])
    assert learn["trained weights"] == learn["gradients"] == 4 * 125
    assert learn["Adam's moments"] == 8 * 125
    assert learn["gathered weights"] == 2 * (400 + 2 * 300)
    assert learn["their gradients"] == 2 * (400 + 300) + 4 * 300
    assert (learn["engine's weights"], learn["engine's cache"], learn["CUDA graphs"]) == (2000, 320, GRAPHS)
    asleep = sizes(phases(replace(work, sleeps=True))["learn"])
    assert not {"engine's weights", "engine's cache", "CUDA graphs"} & asleep.keys()
    assert sizes(phases(work)["load"])["weights"] == 4 * (125 + 400)  # its shards, and the ends


def test_the_sum_with_an_adapter() -> None:
    work = Work(replace(TINY, trained=50), Held(0, 0), 1, 2, "cuda", frozen=2)
    learn = sizes(phases(work)["learn"])
    assert (learn["frozen weights"], learn["trained weights"], learn["Adam's moments"]) == (2000, 200, 400)


def test_a_copy_for_the_kl_and_engines_that_lag_are_counted() -> None:
    work = Work(TINY, Held(0, 0), 1, 4, "cpu", engines=2, reference=True, cache_tokens=1)
    sample = sizes(phases(work)["sample"])
    assert (sample["KL's reference"], sample["engine's weights"], sample["engine's cache"]) == (4000, 8000, 128)


def test_disk_by_hand() -> None:
    found = disk(TINY, [2, 1])
    assert (found.checkpoint, found.state) == (4000, 12000)
    assert found.kept == (3 * 4000 + 12000) + (2 * 4000 + 12000)
    assert found.peak == found.kept + 16000
    adapted = disk(replace(TINY, trained=50), [1])
    assert (adapted.checkpoint, adapted.state) == (4000 + 200, 12 * 50)


# ---------------------------------------------------------------------------------------------- the network


def test_the_papers_network_is_counted_from_a_file_that_lies_here() -> None:
    built, source = network(ModelConfig(path=SEVEN_B), CONFIG)
    shape = shape_of(built, source)
    assert source.endswith(f"configs/shapes/{SEVEN_B}")
    assert shape.parameters == shape.trained == 7_615_616_512
    assert shape.keys_values * 2 == 57_344  # bytes a token in bfloat16: 2 × 28 layers × 4 heads × 128 × 2
    assert (shape.layers, shape.a_layer, shape.largest) == (28, 233_057_792, 152_064 * 3584)
    assert shape.ends + 28 * shape.a_layer == shape.parameters


def test_a_folder_that_is_there_is_read_itself(tmp_path: Path) -> None:
    make_qwen2(num_hidden_layers=1).save_pretrained(tmp_path)
    built, source = network(ModelConfig(path=str(tmp_path)), CONFIG)
    assert (source, shape_of(built, source).layers) == (str(tmp_path), 1)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
def test_an_adapters_parameters_are_peft_s(targets: Any) -> None:
    pytest.importorskip("peft")
    model, lora = make_qwen2(), Lora(rank=3, targets=targets)
    expected = shape_of(model, "made", lora).adapter
    adapted = with_lora(model, lora, 0)
    assert sum(one.numel() for one in adapted.parameters() if one.requires_grad) == expected
