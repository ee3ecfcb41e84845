"""The ladder: two arms from one base, killed and left alone; how seeds are pooled; what is refused."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from kill_resume import Point, killer
from made import ROOT, ScriptedEngine, bash, make_tokenizer, make_trajectory, write_logs
from test_rlvr import expert, write_suite

from swe_srl.engines import Request
from swe_srl.errors import ConfigError, DataError
from swe_srl.evaluate.metrics import StepValues
from swe_srl.ladder import ladder
from swe_srl.ladder_config import LadderConfig
from swe_srl.ladder_report import written
from swe_srl.ladder_rows import KEPT, Row, Spent, read, write
from swe_srl.loading import check, load
from swe_srl.policies.engine import EnginePolicy
from swe_srl.prompts import PromptSettings
from swe_srl.render import Renderer
from swe_srl.rewards import Scorer
from swe_srl.runs import read_events
from swe_srl.steps import StepSet
from swe_srl.train.checkpoint import Progress
from swe_srl.train.objective import reinforced
from swe_srl.train.take import take
from swe_srl.train.whole_source import WholeSource
from swe_srl.train_config import SrlStage

BUDGET = 1.0
SFT = {"name": "warm", "kind": "sft", "steps": 80, "batch": 8, "lr": 1e-2, "warmup": 0.1, "validate_every": 80}
SRL = {"name": "srl", "kind": "srl", "batch": 2, "group_size": 4, "lr": 1e-3, "dynamic_sampling": False}
RLVR = {"name": "rlvr", "kind": "rlvr", "batch": 2, "group_size": 4, "lr": 1e-3}
ARMS = [{"name": "srl", "stage": [SRL]}, {"name": "both", "stage": [SRL | {"share": 0.6}, RLVR | {"share": 0.4}]}]


def asked(folder: Path, **changes: Any) -> dict[str, Any]:
    if not (folder / "suite").exists():
        write_suite(folder / "suite")
    logs = write_logs(folder / "expert.jsonl", [expert(number) for number in range(8)])
    scratch = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "intermediate": 128, "vocabulary": 400}
    return {
        "run": str(folder / "ladder"),
        "seeds": [0],
        "budget_cpu_s": BUDGET,
        "data": {"path": str(logs), "validation": ["delta"], "test": ["omega"]},
        "model": {"scratch": scratch},
        "prompt": {"system": "brief", "issue_tokens": 60, "observation_tokens": 60, "action_tokens": 60},
        "engine": {"max_tokens": 60},
        "validation": {"steps": 2},
        "tasks": {"source": str(folder / "suite")},
        "sandbox": {"kind": "local"},
        "rollout": {"max_steps": 3, "format_errors": 1, "workers": 2},
        "evaluate": {"samples": 2},
        "attempts": {"tasks": {"source": str(folder / "suite"), "repositories": ["omega"]}},
        "train": {"token_budget": 2048, "validate_every": 100, "save_every": 2},
        "base": {"stage": [SFT]},
        "arm": ARMS,
    } | changes


def made(folder: Path, **changes: Any) -> LadderConfig:
    return check(LadderConfig, asked(folder, **changes), "made")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder that was killed within its second arm's last stage, and goes on."""
    folder = tmp_path_factory.mktemp("ladder")
    point = Point("the second arm's second stage learns", "learn", "loop.py", "train_stage", "rlvr")

    def run() -> None:
        sys.stderr = (folder / "log.txt").open("a", buffering=1)
        sys.setprofile(killer(point))
        ladder(made(folder))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (folder / "log.txt").read_text()
    before = stamps(folder)
    assert {path.parent.name for path in before if path.name == "row.json"} == {"base", "srl"}
    assert not (folder / "ladder" / "ladder.json").exists()
    ladder(made(folder))
    after = stamps(folder)
    assert all(after[path] == time for path, time in before.items() if "both" not in path.parts)
    return folder


def stamps(folder: Path) -> dict[Path, int]:
    """When the files of the arms were written, less those that a run opens to hold its folder."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("ladder/seed_*/*/**/*.json*") if path.is_file()}


def test_a_ladder(finished: Path) -> None:
    folder = finished / "ladder"
    found = orjson.loads((folder / "ladder.json").read_bytes())
    assert [arm["name"] for arm in found["arms"]] == ["base", "srl", "both"]
    assert [list(arm["against"]) for arm in found["arms"]] == [[], ["base"], ["base", "srl"]]
    for arm in found["arms"]:
        for mode in ("greedy", "t1"):
            value = arm["steps"][mode]["similarity"]
            assert value["interval"][0] <= value["value"] <= value["interval"][1]
            assert value["by_seed"] == pytest.approx([value["value"]])
        assert (arm["resolved"]["n"], arm["resolved"]["requested"]) == (1, 1)
        assert arm["trained_on"] == ["trained on 0 of 1"]
    base, srl, both = (arm["spent"][0] for arm in found["arms"])
    assert (base["updates"], base["dead_groups"], base["ended"]) == (
        80,
        None,
        ["warm: all steps done, best of step 80 of 80"],
    )
    assert srl["ended"][0].startswith("srl: its CPU seconds are spent, best of step ")
    assert srl["cpu_s"] >= BUDGET
    assert 0 <= srl["dead_groups"] <= 1
    assert len(both["ended"]) == len(both["best_steps"]) == 2
    assert both["tokens"]["sampled"] > 0
    assert (folder / "ladder.png").read_bytes()[:4] == b"\x89PNG"
    page = (folder / "report.md").read_text()
    assert "| both minus srl |" in page
    assert "Seed 0 alone" in page


def test_the_arms_start_from_the_base_and_share_what_they_do_not_set(finished: Path) -> None:
    base = read(finished / "ladder" / "seed_0" / "base" / "row.json")
    assert base is not None
    for arm in ("srl", "both"):
        text = (finished / "ladder" / "seed_0" / arm / "training" / "config.toml").read_text()
        assert f'path = "{base.checkpoint}"' in text
    assert "cpu_s = 0.6" in text
    assert "cpu_s = 0.4" in text


def test_the_cpu_seconds_of_a_stage_are_part_of_its_state(finished: Path) -> None:
    training = finished / "ladder" / "seed_0" / "srl" / "training"
    rows = [row for row in read_events(training) if row["kind"] == "step"]
    (path,) = training.glob("stages/1-srl/trainer_state/*/state.pt")
    progress = torch.load(path, weights_only=True)["progress"]
    spent = [row["time/cpu"] for row in rows]
    assert progress["cpu_s"] == pytest.approx(sum(spent))
    assert sum(spent[:-1]) < BUDGET <= sum(spent)  # it ends with the update that passes them
    assert [row["learning_rate"] for row in rows] == [1e-3] * len(rows)
    assert "srl (CPU seconds): 1/1, " in (finished / "log.txt").read_text()


def test_a_second_call_does_nothing_new(finished: Path) -> None:
    before, report = stamps(finished), (finished / "ladder" / "ladder.json").read_bytes()
    found = ladder(made(finished))
    assert stamps(finished) == before
    assert (
        (finished / "ladder" / "ladder.json").read_bytes()
        == report
        == orjson.dumps(found.found, option=orjson.OPT_INDENT_2)
    )


def test_another_arm_of_the_same_name_is_refused(finished: Path) -> None:
    arms = [{"name": "srl", "stage": [SRL | {"lr": 1e-4}]}]
    with pytest.raises(ConfigError, match=r"seed_0/srl was made by another configuration.*Give another run=FOLDER"):
        ladder(made(finished, arm=arms))


# ------------------------------------------------------------------------------ one reward a trajectory


def test_a_pass_over_a_trajectory_has_one_reward() -> None:
    """Pass 0 writes what the expert did, pass 1 something else, at every step."""
    renderer = Renderer(make_tokenizer(), PromptSettings(system="brief"))
    trajectories = [make_trajectory(number) for number in range(3)]
    steps = StepSet(trajectories, [(i, k) for i in range(3) for k in range(1, 5)])
    right = {renderer.prompt_ids(s.trajectory.issue, s.history): renderer.target_ids("", s.action) for s in steps}
    wrong, asked = renderer.target_ids("", bash("zzz")), Counter[tuple[int, ...]]()

    def answers(request: Request) -> tuple[int, ...]:
        asked[request.prompt_ids] += 1
        return right[request.prompt_ids] if asked[request.prompt_ids] == 1 else wrong

    settings = SrlStage(name="srl", steps=1, batch=2, group_size=2, reward_per="trajectory")
    policy = EnginePolicy(renderer, ScriptedEngine(answers), 300)
    drawn = take(WholeSource(steps, policy, Scorer(), settings, seed=0), settings, Progress())
    assert len(drawn.live) == 2
    for group in drawn.live:
        first, second = group.responses
        assert [len(first), len(second)] == [4, 4]
        assert {turn.score.value for turn in first} == {1.0}
        similarities = [turn.score.parts["similarity"] for turn in second]
        assert [turn.score.value for turn in second] == pytest.approx([sum(similarities) / 4] * 4)
    batch = reinforced(drawn.live)
    assert set(batch.advantage_N.tolist()) == {1.0, -1.0}
    assert float(batch.weight_N.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"data": {"test": []}}, "test"), ({"attempts": {"tasks": {"repositories": ["omgea"]}}}, "omgea")],
)
def test_what_is_not_there_is_told_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, dict[str, Any]], words: str
) -> None:
    ((table, keys),) = changes.items()
    config = made(tmp_path, **{table: asked(tmp_path)[table] | keys})
    with pytest.raises(DataError, match=words):
        ladder(config)
    assert not (tmp_path / "ladder").exists()


# --------------------------------------------------------------------------------------------- pooling


def row(arm: str, seed: int, similarity: list[float], tasks: dict[str, float]) -> Row:
    ids = tuple(f"s{i}" for i in range(len(similarity)))
    columns = {name: np.array(similarity) for name in KEPT}
    steps = {"greedy": StepValues(ids, tuple(f"c{i}" for i in range(len(ids))), columns)}
    return Row(arm, seed, "", "x", Spent(), ("a floor", 0.1), steps, tasks, 2, "trained on 0 of 2")


def test_seeds_are_means_and_clusters_are_tasks(tmp_path: Path) -> None:
    config = made(tmp_path, seeds=[0, 1], arm=ARMS[:1])
    (tmp_path / "ladder").mkdir()
    rows = [
        row("base", 0, [0.1, 0.3], {"a": 0.0, "b": 0.0}),
        row("base", 1, [0.3, 0.5], {"a": 0.0}),  # b was lost to infrastructure
        row("srl", 0, [0.2, 0.4], {"a": 1.0, "b": 1.0}),
        row("srl", 1, [0.6, 0.8], {"a": 0.0, "b": 1.0}),
    ]
    turned = rows[3].steps["greedy"]
    columns = {name: one[::-1] for name, one in turned.columns.items()}
    rows[3] = replace(rows[3], steps={"greedy": StepValues(turned.step_ids[::-1], turned.clusters[::-1], columns)})
    base, srl = written(config, rows, [0, 1]).arms
    assert base.steps["greedy"]["similarity"].interval.value == pytest.approx(0.3)
    assert srl.steps["greedy"]["similarity"].by_seed == pytest.approx((0.3, 0.7))
    difference = srl.against[0].similarity["greedy"]
    assert difference.by_seed == pytest.approx((0.1, 0.3))
    assert [difference.interval.low, difference.interval.high] == pytest.approx([0.2, 0.2])  # each step's mean is 0.2
    assert base.resolved is not None
    assert srl.resolved is not None
    assert (base.n, srl.n, srl.resolved.interval.value) == (1, 2, 0.75)
    assert srl.against[0].resolved is not None
    assert srl.against[0].resolved.n == 1


def test_an_arm_that_is_its_base_is_told(tmp_path: Path) -> None:
    """By the steps of its stages' best checkpoints: those of an older row nobody knows."""
    config = made(tmp_path, seeds=[0, 1], arm=ARMS)
    (tmp_path / "ladder").mkdir()
    report = tmp_path / "ladder" / "report.md"

    def page(seeds: list[int], **best: tuple[int, ...]) -> str:
        names = [(name, seed) for seed in seeds for name in ("base", "srl", "both")]
        rows = [row(name, seed, [0.1, 0.3], {}) for name, seed in names]
        known = [replace(one, spent=Spent(best_steps=best.get(f"{one.arm}_{one.seed}", ()))) for one in rows]
        written(config, known, seeds)
        return report.read_text()

    told = page([0, 1], base_0=(0,), srl_0=(0,), srl_1=(0,), both_0=(3, 0), both_1=(0, 0))
    assert "| srl = base |" in told
    assert "| both (seed 1 = base) |" in told
    assert "| base |" in told
    assert "each seed's own difference" in told
    told = page([0], both_0=(0, 2))
    assert "= base" not in told
    assert "each seed's own difference" not in told


def test_a_row_on_disk_is_the_row(tmp_path: Path) -> None:
    one = row("srl", 3, [0.25, float("nan")], {"a": 0.5})
    one = replace(one, spent=Spent(ended=("srl: done",), best_steps=(0,)))
    assert read(tmp_path / "row.json") is None
    write(tmp_path / "row.json", one)
    found = read(tmp_path / "row.json")
    assert found is not None
    np.testing.assert_array_equal(found.steps["greedy"].columns["exact"], [0.25, np.nan])
    assert replace(found, steps={}) == replace(one, steps={})


# --------------------------------------------------------------------------------------------- configs


@pytest.mark.parametrize("name", ["ladder.toml", "ladder_tiny.toml"])
def test_the_projects_own_ladders(name: str) -> None:
    config = load(LadderConfig, ROOT / "configs" / name)
    assert {"sft", "rlvr", "srl", "srl_then_rlvr", "no_dynamic_sampling", "trajectory_reward"} <= {
        arm.name for arm in config.arm
    }
    for arm in config.arm:
        assert sum(stage.cpu_s or 0 for stage in arm.stage) == pytest.approx(config.budget_cpu_s)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arm": [{"name": "srl", "stage": [SRL | {"cpu_s": 3}]}]}, "give share"),
        ({"arm": [{"name": "srl", "stage": [SRL | {"share": 0.5}]}]}, "are 0.5 together"),
        ({"arm": [{"name": "both", "stage": [SRL | {"share": 0.5}, RLVR]}]}, "or none has"),
        ({"arm": [{"name": "base", "stage": [SRL]}]}, "is the base's"),
        ({"arm": [{"name": "srl", "stage": [SRL], "against": "sft"}]}, "no arm before it; expected one of base$"),
        ({"arm": [*ARMS, {"name": "x", "stage": [SRL], "against": "slr"}]}, "one of base, srl, both .*mean 'srl'"),
        (
            {"arm": [{"name": "a", "stage": [SRL | {"btach": 3}]}]},
            "unknown key 'arm.a.stage.srl.btach' .did you mean 'batch'",
        ),
        ({"train": {"valdate_every": 3}}, "did you mean 'validate_every'"),
        ({"base": None}, r"give \[\[base.stage\]\], or model.path"),
        ({"budget_cpu_s": "much"}, "budget_cpu_s"),
        ({"arm": [{"name": "srl", "stage": [SRL | {"metric": "own_similarity"}]}]}, "srl: stage 'srl' chooses"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(tmp_path, **changes)


def test_an_arm_is_overridden_by_its_name_and_its_stages() -> None:
    path = ROOT / "configs" / "ladder_tiny.toml"
    config = load(LadderConfig, path, ["arm.srl.stage.srl.batch=4", "base.stage.warm.steps=7"])
    assert {arm.name: arm.stage[0].batch for arm in config.arm} == {
        **{arm.name: arm.stage[0].batch for arm in load(LadderConfig, path).arm},
        "srl": 4,
    }
    assert config.base is not None
    assert config.base.stage[0].steps == 7
    for override, words in [
        ("arm.srl.batch=4", "mean .*arm.NAME.stage.NAME.batch"),
        ("stage.srl.steps=3", "unknown key 'stage' .did you mean base.stage or arm.NAME.stage"),
        ("arm.slr.against=base", "arm.NAME.KEY, and NAME is one of sft, rlvr, srl"),
        ("arm.srl.stage.sft.batch=4", r"\[\[arm.srl.stage\]\] is arm.srl.stage.NAME.KEY, and NAME is one of srl$"),
    ]:
        with pytest.raises(ConfigError, match=words):
            load(LadderConfig, path, [override])
