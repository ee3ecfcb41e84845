"""A chain of stages from logs to checkpoints, small enough for seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from kill_resume import POINTS, content, differences, digest, kill_at
from made import make_trajectory, tiny_config, write_logs
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from swe_srl.errors import ConfigError, DataError
from swe_srl.runs import Run, read_rows
from swe_srl.train.chain import train
from swe_srl.train.schedule import learning_rate
from swe_srl.train_config import SrlStage, TrainConfig


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, dict[str, Any], Path]:
    """A run that was left alone: its config, its result, its folder."""
    folder = tmp_path_factory.mktemp("finished")
    config = tiny_config(folder)
    return config, train(config), folder / "run"


def events(run: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (run / "events.jsonl").read_bytes().splitlines()]


# -------------------------------------------------------------------------------------------- end to end


def test_a_chain_learns(finished: Any) -> None:
    _, result, run = finished
    warm, srl = result["stages"]
    assert (warm["name"], warm["kind"], warm["steps"], warm["ended"]) == ("warm", "sft", 70, "all steps done")
    assert (srl["name"], srl["kind"], srl["steps"]) == ("srl", "srl", 4)
    losses = [row["loss"] for row in events(run) if row["kind"] == "step" and row["stage"] == "warm"]
    assert len(losses) == 70
    assert losses[-1] < losses[0] / 10
    assert warm["validation"].keys() >= {"similarity", "interval", "loss", "n", "step"}
    assert result["checkpoint"] == srl["checkpoint"]
    rows = [row for row in events(run) if row["kind"] == "step" and row["stage"] == "srl"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row["srl/kept_groups"] == 2
        assert row["grad_norm"] > 0
        assert row["sampling/sampling_logp_difference/max"] < 1e-4
        assert row["clip_ratio/region_mean"] == 0  # one update a batch


def test_a_checkpoint_is_a_plain_model(finished: Any) -> None:
    """It loads, its template renders, and it writes what it was taught."""
    _, result, _ = finished
    model = AutoModelForCausalLM.from_pretrained(result["stages"][0]["checkpoint"])
    tokenizer = AutoTokenizer.from_pretrained(result["stages"][0]["checkpoint"])
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "alpha(1) is 2."}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    answer = model.generate(ids, do_sample=False, max_new_tokens=20)[0, ids.shape[1] :]
    assert tokenizer.decode(answer).startswith("<think>")
    folder = Path(result["checkpoint"])
    assert {path.name for path in folder.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "trained_on.json",
    }


def test_what_it_was_trained_on_goes_along(finished: Any) -> None:
    _, result, _ = finished
    told = orjson.loads((Path(result["checkpoint"]) / "trained_on.json").read_bytes())
    assert told["stages"] == ["warm", "srl"]
    assert told["repositories"] == ["alpha/alpha", "beta/beta", "gamma/gamma", "sigma/sigma"]
    assert told["instances"] == ["alpha__alpha-0", "beta__beta-1", "gamma__gamma-2", "sigma__sigma-5"]


def test_the_run_folder(finished: Any) -> None:
    """`keep_last` checkpoints and the best one, one state, every answer of every step, nothing half done."""
    _, _, run = finished
    for stage in ("1-warm", "2-srl"):
        folder = run / "stages" / stage
        kept = {path.name for path in (folder / "checkpoints").iterdir()} - {"best"}
        best = (folder / "checkpoints" / "best").resolve()
        assert len(kept - {best.name}) <= 2
        assert (best / "model.safetensors").exists()
        assert len(list((folder / "trainer_state").iterdir())) == 1
        assert (folder / "done.json").exists()
    assert not list(run.rglob("*.tmp"))
    for step in range(1, 5):
        rows = read_rows(run / "stages" / "2-srl" / "rollouts" / f"step_{step}.jsonl.zst")
        (event,) = [row for row in events(run) if row["stage"] == "srl" and row["step"] == step and "reward" in row]
        assert len(rows) == 4 * event["srl/seen_groups"]
        assert sum(row["reward"] for row in rows) / len(rows) == pytest.approx(event["reward"])
        assert sum(row["live"] for row in rows) == 8


def test_a_finished_run_returns_at_once(finished: Any) -> None:
    config, result, run = finished
    before = digest(run)
    assert train(config) == result
    assert digest(run) == before


def test_another_config_in_the_same_folder(finished: Any) -> None:
    config, _, run = finished
    with pytest.raises(ConfigError, match=r"seed = 1.*Give another run=FOLDER"):
        train(tiny_config(run.parent, seed=1))
    assert train(config)  # and nothing was harmed


def test_a_run_that_a_version_without_a_key_began(finished: Any) -> None:
    """What it did not know is at its default, or it is another configuration."""
    config, result, run = finished
    path = run / "config.toml"
    text = path.read_text()
    path.write_text(text.replace("execute = false\n", "").replace("tensorboard = false\n", ""))
    assert train(config) == result
    assert path.read_text() == text
    path.write_text(text.replace("group_size = 4\n", ""))
    with pytest.raises(ConfigError, match=r"differ: group_size = 4\."):
        train(config)
    path.write_text(text)


def test_another_config_while_a_run_begins_harms_nothing(tmp_path: Path) -> None:
    first, second = (Run(tmp_path, tiny_config(tmp_path, seed=seed)) for seed in (0, 1))
    with first.held():
        (tmp_path / "model").mkdir()  # made, and no event yet
        with pytest.raises(ConfigError, match="another process"), second.held():
            pass
        assert (tmp_path / "model").exists()
        assert "seed = 0\n" in (tmp_path / "config.toml").read_text()


def test_the_same_again_is_the_same_bits(finished: Any, tmp_path: Path) -> None:
    _, _, run = finished
    train(tiny_config(tmp_path))
    assert differences(digest(run), digest(tmp_path / "run")) == []


def test_another_seed_is_not(tmp_path: Path) -> None:
    stage = [{"name": "warm", "kind": "sft", "steps": 1, "batch": 4}]
    states = []
    for seed in (0, 1):
        config = tiny_config(tmp_path, f"run{seed}", seed=seed, stage=stage)
        train(config)
        states.append(content(next(Path(config.run).rglob("state.pt")), Path(config.run)))
    assert states[0] != states[1]


# ------------------------------------------------------------------------------------------------- kinds


def one_stage(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "one", "kind": "sft", "steps": 2, "batch": 4, **changes}]


def test_epochs(tmp_path: Path) -> None:
    """Four trajectories of four steps are trained on: two epochs of sixteen, four at a time."""
    result = train(tiny_config(tmp_path, stage=one_stage(steps=None, epochs=1.5)))
    assert result["stages"][0]["steps"] == 6


def test_patience(tmp_path: Path) -> None:
    stage = one_stage(steps=50, lr=0.0, validate_every=1, patience=2)
    result = train(tiny_config(tmp_path, stage=stage))
    assert result["stages"][0]["ended"] == "no better validation in 2"
    assert result["stages"][0]["steps"] == 2
    assert result["stages"][0]["validation"]["step"] == 0


def test_a_stage_that_cannot_learn_has_converged(tmp_path: Path) -> None:
    """A network that has learnt nothing: every answer is a format error, no group is alive."""
    stage = [{"name": "srl", "kind": "srl", "steps": 4, "batch": 2, "group_size": 2, "max_draws": 2}]
    result = train(tiny_config(tmp_path, stage=stage))
    assert result["stages"][0]["ended"].startswith("converged: 0 of 4 groups")
    assert (Path(result["checkpoint"]) / "model.safetensors").exists()
    (saved,) = (tmp_path / "run").rglob("state.pt")
    assert saved.stat().st_mtime <= (tmp_path / "run" / "events.jsonl").stat().st_mtime  # step 0 is saved once


def test_lora(tmp_path: Path, finished: Any) -> None:
    """From a checkpoint, with an adapter: what is saved is a plain model with the adapter merged in."""
    origin = finished[1]["stages"][0]["checkpoint"]
    stage = [
        {"name": "srl", "kind": "srl", "steps": 2, "batch": 2, "group_size": 4, "lr": 1e-2, "kl": 0.1},
    ]
    result = train(tiny_config(tmp_path, model={"path": origin, "lora": {"rank": 4}}, stage=stage))
    last = Path(result["checkpoint"]).parent / "step_2"
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (origin, last))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)
    told = orjson.loads((last / "trained_on.json").read_bytes())
    assert told["stages"] == ["warm", "srl"]
    adapters = last.parent.parent / "adapters"
    assert {path.name for path in adapters.iterdir()} == {path.name for path in last.parent.glob("step_*")}
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(origin), adapters / "step_2")
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        by_adapter, merged = (
            one(ids).logits.log_softmax(-1) for one in (adapted, AutoModelForCausalLM.from_pretrained(last))
        )
    assert float((by_adapter - merged).abs().max()) < 1e-5
    assert (
        float((by_adapter - AutoModelForCausalLM.from_pretrained(origin)(ids).logits.log_softmax(-1)).abs().max())
        > 1e-3
    )


def test_activations_that_are_computed_again(tmp_path: Path, finished: Any) -> None:
    """They are the same to the bit, and so is what is learnt."""
    origin = finished[1]["stages"][0]["checkpoint"]
    stage = {"name": "srl", "kind": "srl", "steps": 1, "batch": 2, "group_size": 4, "lr": 1e-3, "token_budget": 200}
    weights = []
    for again in (False, True):
        told = [stage | {"activation_checkpointing": again}]
        result = train(tiny_config(tmp_path, f"run_{again}", model={"path": origin}, stage=told))
        last = Path(result["checkpoint"]).parent / "step_1"
        weights.append(AutoModelForCausalLM.from_pretrained(last).state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_bfloat16_compute(tmp_path: Path, finished: Any) -> None:
    origin = finished[1]["stages"][0]["checkpoint"]
    stage = [{"name": "srl", "kind": "srl", "steps": 1, "batch": 2, "group_size": 4, "lr": 5e-7}]
    result = train(tiny_config(tmp_path, model={"path": origin, "dtype": "bfloat16"}, stage=stage))
    last = Path(result["checkpoint"]).parent / "step_1"
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (origin, last))
    assert all(tensor.dtype == torch.float32 for tensor in after.values())
    moved = sum(int((before[name] != after[name]).sum()) for name in before)
    assert moved > 0.99 * sum(tensor.numel() for tensor in before.values())


def test_data_without_validation_steps(tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "one.jsonl", [make_trajectory(0)])
    with pytest.raises(DataError, match="no validation steps"):
        train(tiny_config(tmp_path, data={"path": str(logs), "validation": 0.0, "test": 0.0}))


# -------------------------------------------------------------------------------------------- kill −9


@pytest.mark.parametrize("name", ["generation", "the last state there, best not yet"])
def test_a_killed_run_goes_on(finished: Any, tmp_path: Path, name: str) -> None:
    _, _, run = finished
    (point,) = [point for point in POINTS if point.name == name]
    assert kill_at(tmp_path, point) >= 1
    assert differences(digest(run), digest(tmp_path / "run")) == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_anywhere() -> None:
    script = Path(__file__).parent / "kill_resume.py"
    done = subprocess.run([sys.executable, str(script)], check=False, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------------------------ learning rate


def stage(**changes: Any) -> SrlStage:
    return SrlStage(**{"name": "srl", "steps": 10, "lr": 1.0} | changes)


def rates(settings: SrlStage, total: int = 10) -> list[float]:
    return [learning_rate(settings, step, total) for step in range(total)]


def test_constant() -> None:
    assert rates(stage()) == [1.0] * 10
    assert rates(stage(warmup=0.3)) == pytest.approx([1 / 3, 2 / 3, *[1.0] * 8])


def test_linear_and_cosine() -> None:
    assert rates(stage(schedule="linear")) == pytest.approx([1 - i / 10 for i in range(10)])
    cosine = rates(stage(schedule="cosine", warmup=0.2))
    assert cosine[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert cosine[6] == pytest.approx(0.5)
    assert cosine == [*cosine[:2], *sorted(cosine[2:], reverse=True)]
    assert rates(stage(schedule="cosine", final_lr=0.1, lr=2.0), 1000)[-1] == pytest.approx(0.2, abs=1e-4)


def test_all_warmup_and_a_single_step() -> None:
    assert rates(stage(warmup=1.0)) == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates(stage(schedule="cosine"), 1) == [1.0]
    assert rates(stage(schedule="linear", warmup=0.5), 1) == [1.0]
