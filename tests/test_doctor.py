"""`swe-srl doctor CONFIG`: every kind of config is known, what is missing is told, and its sum is all there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made import make_qwen2, make_tokenizer

from swe_srl.agent_config import AgentConfig
from swe_srl.config import EvaluateConfig, RecordConfig, RolloutConfig
from swe_srl.doctor import GIB, _gpus
from swe_srl.doctor_configs import about, command_of
from swe_srl.errors import ConfigError
from swe_srl.ladder_config import LadderConfig
from swe_srl.loading import load, read_toml
from swe_srl.train_config import TrainConfig

CONFIGS = Path(__file__).parent.parent / "configs"


def asked(name: str, *overrides: str, gpus: int | None = None, gib: float = 80, dry_run: bool = False) -> Any:
    devices = None if gpus is None else _gpus(gpus, gib)
    return about(str(CONFIGS / name), list(overrides), devices, dry_run=dry_run)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_config_of_the_project_is_known(path: Path) -> None:
    """As what its own command reads."""
    named = {"record": RecordConfig, "ladder": LadderConfig, "eval": AgentConfig, "rollout": AgentConfig}
    others = {"eval_steps": EvaluateConfig, "rollout": RolloutConfig}
    expected = others.get(path.stem) or named.get(path.stem.partition("_")[0], TrainConfig)
    assert command_of(read_toml(path)) is expected
    assert load(expected, path)


@pytest.fixture(scope="module")
def paper() -> Any:
    return asked("paper_swe_7b.toml", gpus=8, dry_run=True)


def test_the_papers_config_fits_eight_gpus(paper: Any) -> None:
    """Without a GPU, a network's weights, its data or the internet."""
    assert paper["parameters"] == 7_615_616_512
    assert paper["fits"] is True
    assert [one.partition(":")[0] for one in paper["missing"]] == ["model.path", "data.path"]
    assert paper["costs"]["srl"]["decoded_tokens"] > 512 * 8 * 208
    assert paper["dry_run"]["on_first_rank"] * 8 == 7_615_616_512


def test_what_does_not_fit_is_told_what_would_help() -> None:
    memory = asked("sft.toml", "model.path=Qwen/Qwen2.5-Coder-0.5B-Instruct", gpus=1, gib=16)["memory"]
    assert not memory["fits"]
    assert memory["after_a_change_gib"]["train.activation_checkpointing=true"] < memory["need_gib"]


def test_an_adapter_lets_one_gpu_do() -> None:
    assert asked("lora_7b.toml", gpus=1, gib=44)["fits"]  # a card of 48 GB
    assert asked("lora_7b.toml", "model.path=Qwen/Qwen2.5-Coder-1.5B-Instruct", gpus=1, gib=22)["fits"]


def test_prompts_of_32k_tokens_fit_a_gpu_of_80_gb() -> None:
    memory = asked("paper_swe_7b.toml", "prompt.window=all", gpus=8)["memory"]
    trunk = next(part for part in memory["phases"]["learn"]["parts"] if part["name"] == "trunk")
    assert trunk["bytes"] == 2 * 57_344 * 32_768
    assert memory["fits"]


def test_every_sum_is_that_of_its_parts(paper: Any) -> None:
    memory = paper["memory"]
    for phase in memory["phases"].values():
        assert phase["gib"] == round(sum(part["bytes"] for part in phase["parts"]) / GIB, 2)
        assert all(part["how"] for part in phase["parts"])
    assert memory["need_gib"] == max(phase["gib"] for phase in memory["phases"].values())


def test_a_ladder_is_looked_at_whole() -> None:
    found = asked("ladder_tiny.toml")
    assert found["arms"][0] == "base"
    assert found["fits"]
    assert found["disk"]["need_gib"] < 1


def test_attempts_at_tasks() -> None:
    found = asked("eval_bugfix.toml", "sandbox.kind=local")
    assert found["sandbox"]["n_tasks"] > 0
    assert found["sandbox"]["images_missing"] == 0
    assert found["missing"][0].startswith("model.path: give a checkpoint")
    assert "missing" in asked("eval_bugfix.toml", "sandbox.kind=local", "agent=gold")


def test_an_rlvr_training_tells_of_its_sandbox_and_tasks() -> None:
    found = asked("rlvr.toml", "sandbox.kind=local")
    assert found["sandbox"]["kind"] == "local"
    assert found["sandbox"]["n_tasks"] > 0
    assert "model.path: stage 'rlvr' would begin with a new network" in found["missing"][0]
    assert not asked("srl_then_rlvr.toml", "sandbox.kind=local")["missing"]  # it is trained before


def test_a_checkpoint_that_answers(tmp_path: Path) -> None:
    model = make_qwen2()
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    found = asked("eval_steps.toml", f"model.path={tmp_path}")
    sizes = {part["name"]: part["bytes"] for part in found["parts"]}
    assert sizes["engine's weights"] == 4 * model.num_parameters()
    assert sizes["engine's cache"] == 4 * 2 * 2 * 2 * 8 * 65_536  # float32, keys and values, 2 layers, 2 heads of 8
    assert found["fits"]


def test_only_a_training_is_run_dry() -> None:
    with pytest.raises(ConfigError, match="--dry-run is of a training"):
        asked("record.toml", dry_run=True)
