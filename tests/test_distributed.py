"""Several ranks do what one process does: by gloo on CPUs, started by torchrun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import rank_gradients
import tomli_w
import torch
from made import tiny_config
from safetensors.torch import load_file

from swe_srl.runs import _without_none, read_rows
from swe_srl.train.chain import train
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.objective import reinforced
from swe_srl.train.passes import held_before, share_of
from swe_srl.train.pieces import pack

TESTS = Path(__file__).parent
BOUND = 1e-5  # relative norm of the difference, for each tensor
MANY = pytest.param(4, marks=pytest.mark.slow)


def torchrun(ranks: int, *arguments: str, fails: bool = False) -> str:
    """What they print, in the order in which they print it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments],
        check=False,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=400,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp_min(1e-30))


def gaps(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(gap(one[name], other[name]) for name in one)


# ------------------------------------------------------------------------------------------ one batch


@pytest.mark.parametrize("ranks", [2, MANY])
def test_gradients_are_those_of_one_process(tmp_path: Path, ranks: int) -> None:
    torchrun(ranks, str(TESTS / "rank_gradients.py"), str(tmp_path / "found.pt"))
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name, case in rank_gradients.CASES.items():
        expected, theirs = rank_gradients.computed(case, ALONE), found[name]
        worst = gaps(theirs["gradients"], expected["gradients"])
        print(f"{ranks} ranks, {name}: {worst:.1e}, (pieces, trunks held) by rank {theirs['passes']}")
        assert worst <= case.bound
        assert float(theirs["norm"]) == pytest.approx(float(expected["norm"]), rel=case.bound)
        assert gaps(theirs["weights"], expected["weights"]) <= case.bound
        assert all(one.dtype == torch.float32 for one in theirs["gradients"].values())
        if case.budget < 100:
            assert expected["passes"][0][0] > 1
        if name == "trunks":
            assert len(set(theirs["passes"])) > 1  # some waited for others


def test_shares_make_up_the_batch() -> None:
    batch = reinforced(rank_gradients.groups())
    everything = sorted(strand.slot for group in batch.strands for strand in group)
    for size in (1, 2, 3, 4, 50):
        shares = [share_of(batch.strands, World(rank, size)) for rank in range(size)]
        assert sorted(strand.slot for share in shares for group in share for strand in group) == everything
        if size <= 4:
            tokens = [sum(piece.ids_RT.numel() for piece in pack(share, 10_000, share=True)) for share in shares]
            assert max(tokens) < 1.6 * sum(tokens) / size


def test_trunks_are_held_once_until_their_turn() -> None:
    pieces = pack(reinforced(rank_gradients.groups()).strands, 24, share=True)
    held: set[Any] = set()
    for piece, wanted in zip(pieces, held_before(pieces), strict=True):
        assert piece.limb is not None
        for trunk in wanted:
            assert trunk not in held
            assert set(trunk.above) <= held
            held.add(trunk)
        assert set(piece.limb.above) <= held
        held.discard(piece.limb)
    assert held == set()


# -------------------------------------------------------------------------------------------- a run


class Made:
    """A run of one process, its warm start, and configs of an srl stage that goes on from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result = train(tiny_config(folder, "run"))
        warm = self.result["stages"][0]["checkpoint"]
        recorded = {"from": str(folder / "run")}
        stage = {"name": "srl", "kind": "srl", "steps": 4, "batch": 2, "group_size": 4, "lr": 1e-3, "kl": 0.01}
        self.recorded = self.config("recorded", model={"path": warm}, stage=[stage], rollouts=recorded)
        self.sampled = self.config("sampled", model={"path": warm}, stage=[stage])
        lora = {"path": warm, "lora": {"rank": 4}}
        self.lora = self.config("lora", model=lora, stage=[stage], rollouts=recorded)

    def config(self, name: str, **changes: Any) -> Path:
        path = self.folder / f"{name}.toml"
        config = tiny_config(self.folder, name, **changes)
        path.write_text(tomli_w.dumps(_without_none(config.model_dump(by_alias=True))))
        return path

    def trained(self, config: Path, ranks: int, run: str) -> Path:
        """The run's folder, after all of it."""
        torchrun(ranks, "-m", "swe_srl", "train", str(config), f"run={self.folder / run}")
        return self.folder / run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("ranks"))


def last_weights(run: Path, name: str = "srl") -> dict[str, torch.Tensor]:
    return load_file(next(run.glob(f"stages/*-{name}/checkpoints/step_4/model.safetensors")))


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    rows = [orjson.loads(line) for line in (run / "events.jsonl").read_bytes().splitlines()]
    return [row for row in rows if row["kind"] == kind and row["stage"] == "srl"]


@pytest.mark.parametrize("ranks", [2, MANY])
def test_recorded_answers_give_the_same_weights(made: Made, ranks: int) -> None:
    run = made.trained(made.recorded, ranks, f"recorded_by_{ranks}")
    alone = made.folder / "run"
    worst = gaps(last_weights(run), last_weights(alone))
    print(f"{ranks} ranks: the finished weights differ by {worst:.1e}")
    assert worst <= BOUND
    for ours, theirs in zip(events(run, "step"), events(alone, "step"), strict=True):
        for key in ("loss", "grad_norm", "entropy", "kl", "reward", "srl/kept_groups", "completions/mean_length"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-6), key
    for ours, theirs in zip(events(run, "validation"), events(alone, "validation"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["similarity"] == pytest.approx(theirs["similarity"], abs=1e-6)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        ours, theirs = (next(one.glob(f"stages/*-srl/checkpoints/step_4/{name}")) for one in (run, alone))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert not list(run.rglob("*.tmp"))
    assert (run / "stages" / "1-srl" / "trainer_state" / "step_4" / ".metadata").exists()


@pytest.mark.slow
def test_an_adapter_is_shared_too(made: Made) -> None:
    adapters = []
    for ranks in (1, 2):
        run = made.trained(made.lora, ranks, f"lora_by_{ranks}")
        (folder,) = run.glob("stages/1-srl/adapters/step_4")
        adapters.append(load_file(folder / "adapter_model.safetensors"))
    assert gaps(*adapters) <= BOUND


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_sampling_asks_the_same_prompts_in_the_same_order(made: Made, ranks: int) -> None:
    run = made.trained(made.sampled, ranks, f"sampled_by_{ranks}")
    for step in range(1, 5):
        assert asked(run, step) == asked(made.folder / "run", step)


def asked(run: Path, step: int) -> list[tuple[str, int, int]]:
    rows = read_rows(next(run.glob(f"stages/*-srl/rollouts/step_{step}.jsonl.zst")))
    return [(row["step_id"], row["draw"], row["sample"]) for row in rows]


# ---------------------------------------------------------------------------------- what goes wrong


def stopped(made: Made, run: str, ranks: int, rank: int, how: str, *point: str) -> str:
    script = [str(TESTS / "rank_stopped.py"), str(rank), how, *point, "--"]
    return torchrun(ranks, *script, "train", str(made.recorded), f"run={made.folder / run}", fails=True)


@pytest.mark.slow
def test_a_killed_rank_and_other_numbers_of_them(made: Made) -> None:
    """Two ranks, one killed in the third update's backward; what they saved goes on with one, two and four."""
    stopped(made, "killed", 2, 1, "kill", "_logits", "head.py", "backward", "3")
    (state,) = (made.folder / "killed").glob("stages/1-srl/trainer_state/step_*")
    assert state.name == "step_2"
    for ranks in (1, 2, 4):
        run = made.folder / f"killed_{ranks}"
        shutil.copytree(made.folder / "killed", run, symlinks=True)
        config = (run / "config.toml").read_text().replace(str(made.folder / "killed"), str(run))
        (run / "config.toml").write_text(config)
        made.trained(made.recorded, ranks, run.name)
        worst = gaps(last_weights(run), last_weights(made.folder / "run"))
        print(f"2 ranks, then {ranks}: the finished weights differ by {worst:.1e}")
        assert worst <= BOUND
        assert [row["step"] for row in events(run, "step")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_one_process_then_two(made: Made) -> None:
    stopped(made, "alone", 1, 0, "kill", "event", "runs.py", "train_stage", "3")
    run = made.trained(made.recorded, 2, "alone")
    assert gaps(last_weights(run), last_weights(made.folder / "run")) <= BOUND


@pytest.mark.slow
def test_a_rank_that_fails_says_why_first(made: Made) -> None:
    began = time.monotonic()
    said = stopped(made, "failed", 2, 1, "fail", "_logits", "head.py", "backward", "3")
    assert time.monotonic() - began < 120
    ours = [line for line in said.splitlines() if "disk is full" in line or "Traceback" in line]
    assert ours[0] == "rank 1: swe-srl: this rank's disk is full"
    assert "Traceback" not in said.split("disk is full")[0]
    run = made.trained(made.recorded, 2, "failed")
    assert gaps(last_weights(run), last_weights(made.folder / "run")) <= BOUND


@pytest.mark.slow
def test_what_all_ranks_find_wrong_is_said_once(made: Made) -> None:
    arguments = ["-m", "swe_srl", "train", str(made.recorded), f"run={made.folder / 'wrong'}"]
    said = torchrun(2, *arguments, "stage.srl.lrr=1", fails=True)
    assert said.count("unknown key") == 1
    said = torchrun(2, "-m", "swe_srl", "doctor", fails=True)
    assert said.count("only train is for torchrun") >= 1
