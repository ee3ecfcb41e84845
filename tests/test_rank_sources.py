"""Several ranks and the sources with sandboxes, or rewards, of their own kind: walks, passes, executed answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from made import make_trajectory, tiny_config, write_logs
from safetensors.torch import load_file
from test_distributed import BOUND, MANY, gaps, torchrun

from swe_srl.runs import _without_none, read_events, read_rows
from swe_srl.train.chain import train
from swe_srl.train_config import TrainConfig

SRL = {"kind": "srl", "steps": 2, "batch": 2, "group_size": 4, "lr": 1e-3, "validate_every": 2, "save_every": 2}
STAGES: dict[str, dict[str, Any]] = {
    "walked": {"history": "own", "own_threshold": 0.8, "metric": "own_similarity"},
    "passed": {"reward_per": "trajectory"},
    "executed": {"execute": True},
}
WARM = {"steps": 70, "batch": 6, "lr": 1e-2, "warmup": 0.1, "validate_every": 70}
KEYS = {"loss", "grad_norm", "reward", "own_similarity", "own_put_back", "similarity", "srl/kept_groups"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process: a warm start, and a chain of all of them from there."""
    folder = tmp_path_factory.mktemp("alone")
    made = [make_trajectory(number) for number in range(6)]
    tasks = [replace(one.task, task_id=f"spans__{number}") for number, one in enumerate(made, 1)]
    write_logs(folder / "logs.jsonl", [replace(one, task=task) for one, task in zip(made, tasks, strict=True)])
    warm = tiny_config(folder, "warm", stage=[{"name": "warm", "kind": "sft", **WARM}])
    chain = tiny_config(
        folder,
        model={"path": train(warm)["checkpoint"]},
        stage=[{"name": name, **SRL, **changes} for name, changes in STAGES.items()],
        sandbox={"kind": "local"},
        validation={"steps": 4, "history": "both"},
    )
    path = folder / "config.toml"
    path.write_text(tomli_w.dumps(_without_none(chain.model_dump(by_alias=True))))
    train(TrainConfig.model_validate(chain.model_dump(by_alias=True)))
    return folder / "run"


@pytest.mark.parametrize("ranks", [2, MANY])
def test_ranks_do_what_one_process_does(alone: Path, ranks: int) -> None:
    run = alone.parent / f"by_{ranks}"
    torchrun(ranks, "-m", "swe_srl", "train", str(alone.parent / "config.toml"), f"run={run}")
    for number, name in enumerate(STAGES, 1):
        stage = Path("stages", f"{number}-{name}")
        for step in (1, 2):
            ours, theirs = (read_rows(one / stage / "rollouts" / f"step_{step}.jsonl.zst") for one in (run, alone))
            assert [told(row) for row in ours] == [told(row) for row in theirs], (name, step)
        last = stage / "checkpoints" / "step_2" / "model.safetensors"
        worst = gaps(load_file(run / last), load_file(alone / last))
        print(f"{ranks} ranks, {name}: the finished weights differ by {worst:.1e}")
        assert worst <= number * BOUND  # a stage begins with the one before
    for ours, theirs in zip(read_events(run), read_events(alone), strict=True):
        assert ours["kind"] == theirs["kind"]
        assert ours.keys() == theirs.keys()
        for key in KEYS & ours.keys():
            assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-6), key


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    """What an answer was to, what it was, and what came of it."""
    did = row.get("executed")
    done = did and (did.get("exit_code"), did.get("output"), did.get("error"))
    return (*(row.get(key) for key in ("step_id", "draw", "sample", "episode", "went", "text", "reward")), done)


def test_answers_are_executed_once(alone: Path) -> None:
    """By one rank: every answer with an action has what it did."""
    rows = read_rows(alone / "stages" / "3-executed" / "rollouts" / "step_1.jsonl.zst")
    assert {row["executed"] is not None for row in rows if row["format_error"] is None} == {True}
