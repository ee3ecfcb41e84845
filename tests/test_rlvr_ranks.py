"""RLVR over several ranks: each makes its share of the attempts, and all learn what one process would."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
import tomli_w
import torch
from cluster import cluster
from kill_resume import Point
from safetensors.torch import load_file
from test_distributed import BOUND, TESTS, gaps, torchrun
from test_rlvr import episode, rlvr_config, start, steps, told, warmed

from swe_srl.disk import of_rank
from swe_srl.policies import seed_of
from swe_srl.runs import _without_none, read_events, read_rows
from swe_srl.train.kept import Kept, covered
from swe_srl.train.sources import Order
from swe_srl.types import Score

STAGE = "stages/1-rlvr"
MANY = pytest.param(4, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return warmed(tmp_path_factory.mktemp("warm"))


def written(folder: Path, model: str, **changes: Any) -> Path:
    """A configuration as a file, for torchrun."""
    config = rlvr_config(folder, model, **changes)
    path = folder / "config.toml"
    path.write_text(tomli_w.dumps(_without_none(config.model_dump(by_alias=True))))
    return path


def trained(config: Path, ranks: int, run: Path) -> Path:
    torchrun(ranks, "-m", "swe_srl", "train", str(config), f"run={run}")
    return run


def copied(run: Path, to: Path) -> Path:
    """A run that goes on elsewhere."""
    shutil.copytree(run, to, symlinks=True)
    (to / "config.toml").write_text((to / "config.toml").read_text().replace(str(run), str(to)))
    return to


def attempts(run: Path, step: int) -> list[dict[str, Any]]:
    return read_rows(run / STAGE / "rollouts" / f"episodes_{step}.jsonl.zst")


def on_disk(run: Path) -> dict[tuple[int, int], float]:
    """The seconds of attempts that are not learnt from for good, by step and number: no two take as long."""
    found = {}
    for path in (run / STAGE / "episodes").glob("update_*.jsonl"):
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.endswith(b"}")]
        step = int(path.name.split("_")[1].split(".")[0]) + 1
        made = {(step, row["sample"]): row["seconds"] for row in rows if "sample" in row}
        assert not made.keys() & found.keys()
        found |= made
    return found


# --------------------------------------------------------------------------------------------- on disk


def test_an_update_has_what_all_ranks_have_made(tmp_path: Path) -> None:
    made = [episode(number=number) for number in range(6)]
    for number, rank in enumerate([0, 0, 1, 1, 12, 12]):
        Kept(tmp_path, rank).add(3, made[number])
    Kept(tmp_path, 12).add(30, made[0])
    with (tmp_path / "episodes" / "update_3.rank_1.jsonl").open("ab") as file:
        file.write(b'{"id": "to')
    for rank in (0, 1, 5):
        found, scores = Kept(tmp_path, rank).take_up(3)
        assert (sorted(found), scores) == ([0, 1, 2, 3, 4, 5], {})
    assert len(list(covered(tmp_path, 4))) == 3
    assert len(list(covered(tmp_path, 31))) == 4


def test_what_one_rank_lost_another_has_made_since(tmp_path: Path) -> None:
    """And so it was used: the attempt that was lost never takes its place."""
    Kept(tmp_path, 1).add(0, episode("infrastructure", None, 7))
    assert Kept(tmp_path, 0).take_up(0) == ({}, {})
    Kept(tmp_path, 0).add(0, episode(number=7))
    Kept(tmp_path, 0).used(0, {7: Score(1.0, {"resolved": 1.0})})
    found, scores = Kept(tmp_path, 2).take_up(0)
    assert found[7].end == "submitted"
    assert scores[7].value == 1.0


# ------------------------------------------------------------------------------------- recorded attempts


@pytest.fixture(scope="module")
def recorded(warm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that was killed when all it was to learn from was on disk, and nothing of it learnt."""
    folder = tmp_path_factory.mktemp("recorded")
    changes = {"save_every": 99, "validate_every": 99}
    assert start(folder, warm, Point("the last update", "learn", "loop.py", "train_stage", "rlvr", 3), **changes)
    written(folder, warm, stage=changes)
    scattered(folder / "run" / STAGE / "episodes" / "update_1.jsonl")
    copied(folder / "run", folder / "before")
    assert not start(folder, warm, None, **changes)
    return folder


def scattered(path: Path) -> None:
    """Every other attempt is another rank's, which was killed while it wrote."""
    *lines, scores, _ = path.read_bytes().split(b"\n")
    assert b'"scores"' in scores
    path.write_bytes(b"".join(line + b"\n" for line in [*lines[::2], scores]))
    of_rank(path, 3).write_bytes(b"".join(line + b"\n" for line in lines[1::2]) + lines[0][:50])


@pytest.mark.parametrize("ranks", [2, MANY])
def test_recorded_attempts_give_the_same_weights(recorded: Path, ranks: int) -> None:
    run = trained(recorded / "config.toml", ranks, copied(recorded / "before", recorded / f"by_{ranks}"))
    alone = recorded / "run"
    last = f"{STAGE}/checkpoints/step_3/model.safetensors"
    worst = gaps(load_file(run / last), load_file(alone / last))
    print(f"{ranks} ranks: the finished weights differ by {worst:.1e}")
    assert worst <= BOUND
    for step in (1, 2, 3):
        assert attempts(run, step) == attempts(alone, step)
    for ours, theirs in zip(steps(run), steps(alone), strict=True):
        for key in ("loss", "grad_norm", "entropy", "reward", "reward_std"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-6), key
    assert told(run) == told(alone)
    assert (run / STAGE / "tasks.json").read_bytes() == (alone / STAGE / "tasks.json").read_bytes()
    assert not list((run / STAGE / "episodes").iterdir())
    assert not list(run.rglob("*.tmp"))


# ------------------------------------------------------------------------------------------ their own


@pytest.fixture(scope="module")
def killed(warm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks, of which the second dies in the second update, while it notes an attempt."""
    folder = tmp_path_factory.mktemp("killed")
    config = written(folder, warm, stage={"metric": "resolved"})
    script = [str(TESTS / "rank_stopped.py"), "1", "kill", "add", "kept.py", "work", "7", "--"]
    torchrun(2, *script, "train", str(config), fails=True)
    return folder


def test_ranks_make_the_attempts_of_one_process(warm: str, tmp_path: Path) -> None:
    run = trained(written(tmp_path, warm, stage={"metric": "resolved", "steps": 1}), 2, tmp_path / "run")
    looked_at(run, 1)
    assert not list((run / STAGE / "episodes").iterdir())
    graded = [len(path.read_bytes().splitlines()) for path in (run / STAGE).glob("verdicts*.jsonl")]
    assert sum(graded) >= 2


def looked_at(run: Path, total: int) -> None:
    """Tasks in the order of the seed alone, a batch of the first live groups, each attempt once."""
    order = Order(2, seed_of(0, "rlvr"))
    cursor = 0
    assert [row["step"] for row in steps(run)] == list(range(1, total + 1))
    for row in steps(run):
        made = attempts(run, row["step"])
        numbers = [one["sample"] for one in made]
        assert numbers == list(range(cursor * 4, cursor * 4 + len(made)))
        assert all(one["task"]["task_id"] == ("alpha__1", "beta__1")[order[one["sample"] // 4]] for one in made)
        groups = [made[first : first + 4] for first in range(0, len(made), 4)]
        live = [len({one["reward"] for one in group} - {None}) > 1 for group in groups]
        assert [one["live"] for one in made] == [value for value in live for _ in range(4)]
        assert sum(live) == 2
        assert live[-1]
        assert row["rlvr/episodes"] == len(made)
        assert row["rlvr/infrastructure"] == 0
        cursor += len(groups)
    validations = [row for row in read_events(run) if row["kind"] == "validation"]
    assert all(row["resolved_n"] == 1 for row in validations)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_killed_rank_and_other_numbers_of_them(killed: Path, ranks: int) -> None:
    before = on_disk(killed / "run")
    assert {step for step, _ in before} == {1, 2}
    assert list((killed / "run" / STAGE / "episodes").glob("update_1.rank_1.jsonl"))
    run = trained(killed / "config.toml", ranks, copied(killed / "run", killed / f"by_{ranks}"))
    looked_at(run, 3)
    after = {(step, row["sample"]): row["seconds"] for step in (1, 2, 3) for row in attempts(run, step)}
    reused = before.keys() & after.keys()
    assert len(reused) > 8
    assert all(before[key] == after[key] for key in reused)


@pytest.mark.slow
def test_a_rank_that_fails_says_why_first(warm: str, tmp_path: Path) -> None:
    config = written(tmp_path, warm, stage={"metric": "resolved"})
    script = [str(TESTS / "rank_stopped.py"), "1", "fail", "add", "kept.py", "work", "3", "--"]
    said = torchrun(2, *script, "train", str(config), fails=True)
    ours = [line for line in said.splitlines() if "disk is full" in line or "Traceback" in line]
    assert ours[0] == "rank 1: swe-srl: this rank's disk is full"
    looked_at(trained(config, 2, tmp_path / "run"), 3)


@pytest.mark.slow
def test_a_chain_of_all_kinds_of_stages(warm: str, tmp_path: Path) -> None:
    srl = {"name": "srl", "kind": "srl", "steps": 2, "batch": 2, "group_size": 4, "lr": 1e-4, "save_every": 2}
    config = rlvr_config(tmp_path, warm, stage={"steps": 2})
    chain = config.model_dump(by_alias=True)
    (rlvr,) = chain["stage"]
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(_without_none(chain | {"stage": [srl, rlvr]})))
    run = trained(path, 2, tmp_path / "run")
    assert [row["stage"] for row in steps(run)] == ["srl", "srl", "rlvr", "rlvr"]


@pytest.mark.slow
def test_a_lag_is_refused_by_name(warm: str, tmp_path: Path) -> None:
    config = written(tmp_path, warm, stage={"max_lag": 1, "sampler_weight_cap": 2.0})
    said = torchrun(2, "-m", "swe_srl", "train", str(config), fails=True)
    assert said.count("stage 'rlvr': batches are drawn while updates run (max_lag > 0) in one process") == 1


@pytest.mark.slow
def test_ranks_share_a_fleet(warm: str, tmp_path: Path) -> None:
    """Sandboxes and graders of both on the nodes of a Ray cluster; their rooms are told together."""
    with cluster(nodes=2, slots=4) as found:
        sandbox = {"kind": "runc", "fleet": "ray", "ray_address": found.address}
        config = written(tmp_path, warm, stage={"metric": "resolved", "steps": 2}, sandbox=sandbox)
        said = torchrun(2, "-m", "swe_srl", "train", str(config), f"sandbox.ray_address={found.address}")
        assert "up to 8 sandboxes of kind runc at a time" in said
        run = tmp_path / "run"
        looked_at(run, 2)
        for row in steps(run):
            closed = [one["closed"].get("attempts", 0) for one in row["time/fleet/nodes"].values()]
            assert sum(closed) >= row["rlvr/episodes"]  # of both ranks, from the run's beginning
            assert row["time/fleet/lost"] == 0
        more = torchrun(
            2,
            *("-m", "swe_srl", "train", str(config), f"sandbox.ray_address={found.address}"),
            *(f"run={tmp_path / 'more'}", "rollout.workers=7"),
            fails=True,
        )
        told = "each of 2 ranks keeps up to 9 sandboxes of the fleet (rollout.workers + grade.workers), and its nodes"
        assert more.count(told) == 1


# --------------------------------------------------------------------------------------------- waiting


@pytest.mark.slow
def test_who_is_slow_is_not_taken_for_lost(tmp_path: Path) -> None:
    """Ranks wait for each other's words for eight seconds at most; one needs twenty for its share, one has none."""
    torchrun(3, str(TESTS / "rank_meeting.py"), str(tmp_path / "found.pt"))
    assert torch.load(tmp_path / "found.pt") == ["first", "second"]
