"""A network without memory: FSDP2's own shards of it, the optimizer's groups, and vLLM's names."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import torch
from made import make_qwen2

from swe_srl.errors import ConfigError
from swe_srl.loading import load
from swe_srl.plan.dry_run import PACKED, by_layer, dry_run, in_vllm, shapes_of, shards_of
from swe_srl.plan.shape import network
from swe_srl.train_config import TrainConfig

PAPER = str(Path(__file__).parent.parent / "configs" / "paper_swe_7b.toml")


def test_the_papers_network_on_eight_ranks() -> None:
    config = load(TrainConfig, PAPER, ["model.device=cpu"])
    found = dry_run(config, network(config.model, PAPER)[0], 8)
    assert found["numbers"] == 7_615_616_512
    assert found["on_first_rank"] == found["on_last_rank"] == 7_615_616_512 // 8  # its shapes go into eight evenly
    matrices, vectors = found["optimizer"]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.01, 0.0)
    assert matrices["weights"] + vectors["weights"] == len(found["weights"]) == 339
    assert matrices["numbers"] + vectors["numbers"] == found["numbers"]
    rows = {row["name"]: row for row in found["weights"]}
    key = rows["model.layers.3.self_attn.k_proj.weight"]
    assert (key["shape"], key["shard"]) == ((512, 3584), (64, 3584))
    assert key["vllm"] == "model.layers.3.self_attn.qkv_proj.weight"
    assert found["in_vllm"] == 3 + 28 * 7  # qkv and its bias, o, gate_up, down, two norms


def test_shards_of_all_ranks_are_the_whole() -> None:
    """A weight of fewer rows than there are ranks is on some of them only."""
    model = make_qwen2(num_hidden_layers=1)  # 97 tokens, 32 wide, two heads of keys: nothing divides by 5
    whole = shapes_of(model)
    shards = [shards_of(model.to("meta"), torch.float32, rank, 5) for rank in range(5)]
    for name, shape in whole.items():
        assert sum(prod(one[name]) for one in shards) == prod(shape)
    assert not torch.distributed.is_initialized()


def test_vllms_weights_are_made_of_ours() -> None:
    shapes = shapes_of(make_qwen2(num_hidden_layers=1, tie_word_embeddings=True))
    served = in_vllm(shapes)
    qkv, names = served["model.layers.0.self_attn.qkv_proj.weight"]
    assert qkv == (32 + 16 + 16, 32)
    assert [name.split(".")[-2] for name in names] == ["q_proj", "k_proj", "v_proj"]
    assert served["model.layers.0.mlp.gate_up_proj.weight"][0] == (2 * 48, 32)
    assert sorted(name for _, names in served.values() for name in names) == sorted(shapes)
    with pytest.raises(ConfigError, match="does not fit beside"):
        in_vllm({"a.q_proj.weight": (4, 4), "a.k_proj.weight": (4, 5)})


def test_layers_are_alike() -> None:
    assert by_layer("model.layers.12.mlp.up_proj.weight") == "model.layers.*.mlp.up_proj.weight"


@pytest.mark.parametrize("architecture", ["Qwen2", "Qwen3", "Llama", "Mistral", "Gemma3"])
def test_vllm_packs_as_we_say(architecture: str) -> None:
    """With vLLM's own venv: make test-vllm."""
    models = pytest.importorskip("vllm.model_executor.models.registry", reason="vLLM is not installed here")
    found = models.ModelRegistry._try_load_model_cls(f"{architecture}ForCausalLM").packed_modules_mapping
    assert {name: tuple(found[name]) for name in PACKED} == PACKED
