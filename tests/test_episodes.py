"""Episodes on disk: exact, appended, taken up after a kill, judged; and read as logs by all that reads logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_cli import refused, swe_srl

from swe_srl import episodes
from swe_srl.agent_config import AgentConfig, EpisodeLimits
from swe_srl.attempts import attempts, episodes_path
from swe_srl.config import DataConfig
from swe_srl.data import load_dataset
from swe_srl.episodes import Cost, Episode
from swe_srl.errors import DataError
from swe_srl.ingest import open_data
from swe_srl.policies.scripted import scripted
from swe_srl.replay import replay
from swe_srl.rollout import Job, rollout
from swe_srl.runs import Run, read_events
from swe_srl.sandboxes import Sandbox
from swe_srl.tasks.bugfix import load_tasks, task_sandbox
from swe_srl.types import Completion, Task

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "environments" / "bugfix"


@contextmanager
def local(task: Task) -> Iterator[Sandbox]:
    with task_sandbox(task, "local") as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def made() -> list[Episode]:
    """Four episodes of the random agent, refused answers and all."""
    jobs = [Job(task, sample) for task in load_tasks(SUITE)[:2] for sample in range(2)]
    found = list(rollout(scripted("random", 0), jobs, local, EpisodeLimits(max_steps=8), 5, seed=3))
    assert any(turn.action is None for episode in found for turn in episode.trajectory.turns)
    return found


def without_tokens(episode: Episode) -> Episode:
    return replace(episode, completions=tuple(Completion(one.text, one.truncated) for one in episode.completions))


# ------------------------------------------------------------------------------------------------ file


def test_what_is_read_is_what_was_written(made: list[Episode], tmp_path: Path) -> None:
    path = tmp_path / "rollouts" / episodes.FILE
    assert episodes.read(path) == []
    told = [replace(episode, flags=("tests edited",) * episode.sample) for episode in made]
    for episode in told:
        episodes.write(path, episode)
    assert episodes.read(path) == [without_tokens(episode) for episode in told]


def test_a_patch_of_bytes_that_are_no_text_is_kept_exactly(made: list[Episode], tmp_path: Path) -> None:
    path = tmp_path / episodes.FILE
    trajectory = made[0].trajectory
    odd = replace(made[0], trajectory=replace(trajectory, outcome=replace(trajectory.outcome, patch="+caf\udce9\n")))
    episodes.write(path, odd)
    assert episodes.read(path)[0].trajectory.outcome.patch == "+caf\udce9\n"
    assert open_data(tmp_path)[0].turns == trajectory.turns  # a log, for others: the half character is a "?"


def test_a_torn_line_is_left_out_and_cut_before_more_is_written(made: list[Episode], tmp_path: Path) -> None:
    path = tmp_path / episodes.FILE
    episodes.write(path, made[0])
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        assert len(episodes.read(path)) == 1
    assert [episode.key for episode in episodes.take_up(path)] == [made[0].key]
    assert path.read_bytes() == whole
    episodes.write(path, made[1])
    assert [episode.key for episode in episodes.read(path)] == [made[0].key, made[1].key]


def test_a_line_in_the_middle_that_is_no_episode_is_told_with_its_place(made: list[Episode], tmp_path: Path) -> None:
    path = tmp_path / episodes.FILE
    path.write_bytes(b'{"id": 1}\n')
    episodes.write(path, made[0])
    with pytest.raises(DataError, match=r"episodes\.jsonl:1: no episode"):
        episodes.read(path)


def test_the_last_of_a_key_counts_and_infrastructure_is_run_again(made: list[Episode], tmp_path: Path) -> None:
    path = tmp_path / episodes.FILE
    lost = replace(made[0], end="infrastructure", detail="gone")
    for episode in (lost, made[1], replace(made[2], end="infrastructure"), made[0]):
        episodes.write(path, episode)
    assert [(e.key, e.end) for e in episodes.read(path)] == [
        (made[0].key, made[0].end),
        (made[1].key, made[1].end),
        (made[2].key, "infrastructure"),
    ]
    assert {episode.key for episode in episodes.take_up(path)} == {made[0].key, made[1].key}
    assert len(path.read_bytes().splitlines()) == 2


def test_verdicts_go_into_the_same_file(made: list[Episode], tmp_path: Path) -> None:
    path = tmp_path / episodes.FILE
    for episode in reversed(made):
        episodes.write(path, episode)
    judged = episodes.judge(path, lambda episode: episode.sample == 0)
    assert judged == episodes.read(path)
    assert [episode.trajectory.outcome.resolved for episode in judged] == [True, False] * 2


# ---------------------------------------------------------------------------------------- read as logs


@pytest.fixture(scope="module")
def gold_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the gold agent, judged as resolved."""
    folder = tmp_path_factory.mktemp("gold")
    path = folder / "rollouts" / episodes.FILE
    jobs = [Job(task, 0) for task in load_tasks(SUITE)[:3]]
    for episode in rollout(scripted("gold", 0), jobs, local, EpisodeLimits(), 20, seed=0):
        episodes.write(path, episode)
    episodes.judge(path, lambda episode: not episode.task_id.endswith("1"))
    return folder


def test_episodes_are_a_log_of_ours(gold_run: Path, tmp_path: Path) -> None:
    found = open_data(gold_run / "rollouts")
    assert [trajectory.task.task_id for trajectory in found] == [task.task_id for task in load_tasks(SUITE)[:3]]
    assert all(trajectory.id == f"{trajectory.task.task_id}~~sample0" for trajectory in found)
    assert all(trajectory.outcome.exit_status == "submitted" for trajectory in found)
    rollouts = str(gold_run / "rollouts")
    report = json.loads(swe_srl("ingest", rollouts, "--out", str(tmp_path / "store"), "--json").stdout)
    assert (report["trajectories"], report["steps"]) == (3, 6)
    shown = json.loads(swe_srl("inspect", rollouts, "--trajectory", found[0].id, "--step", "1", "--json").stdout)
    assert "git apply" in shown["target"]


def test_they_replay(gold_run: Path) -> None:
    found = open_data(gold_run / "rollouts")
    report = replay(found, "local", limit=None, workers=2, timeout_s=20, suite=SUITE).as_json()
    assert report["trajectories"] == 3
    assert report["steps"] == report["observations_equal"] == 6
    assert report["patches_equal"] == 3


def test_they_can_be_trained_on_the_resolved_ones_alone(gold_run: Path) -> None:
    path = str(gold_run / "rollouts")
    every = load_dataset(DataConfig(path=path, validation=0.0, test=0.0))
    resolved = load_dataset(DataConfig(path=path, validation=0.0, test=0.0, resolved_only=True))
    assert (len(every.splits["train"]), len(resolved.splits["train"])) == (6, 4)


# ---------------------------------------------------------------------------------------------- a run


def config_of(folder: Path, **changes: Any) -> AgentConfig:
    values = {
        "run": str(folder),
        "agent": "random",
        "sandbox": {"kind": "local", "timeout_s": 5},
        "rollout": {"samples": 3, "max_steps": 6, "workers": 3},
    }
    return AgentConfig.model_validate(values | changes)


def make_all(folder: Path) -> list[Episode]:
    config = config_of(folder)
    run = Run(folder, config)
    with run.held():
        return list(attempts(config, load_tasks(SUITE)[:4], local, run))


def facts(found: list[Episode]) -> dict[tuple[str, int], Any]:
    """What the clock has no part in."""
    return {episode.key: (episode.trajectory, episode.end) for episode in found}


def test_a_run_killed_twice_has_each_episode_once_and_the_same_ones(tmp_path: Path) -> None:
    left_alone = facts(make_all(tmp_path / "alone"))
    folder = tmp_path / "killed"
    path = episodes_path(folder)
    for enough in (3, 7):
        child = subprocess.Popen([sys.executable, __file__, str(folder)], cwd=Path(__file__).parent)
        while child.poll() is None and len(episodes.read(path)) < enough:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        kept = len(episodes.read(path))
        assert enough <= kept < 12
        with path.open("ab") as file:  # as if it had died in the middle of a line
            file.write(b'{"id": "textkit')
    again = make_all(folder)
    lines = path.read_bytes().splitlines()
    assert len(lines) == len(again) == 12
    assert Counter(episode.key for episode in episodes.read(path)).most_common(1)[0][1] == 1
    assert facts(again) == facts(episodes.read(path)) == left_alone
    assert len(make_all(folder)) == 12  # nothing is left to do
    first, event = read_events(folder)
    assert first["event"] == "began"
    assert sum(event["ends"].values()) == 12 - kept
    assert {"time/cpu/harness", "time/cpu/engine", "time/cpu/sandboxes", "time/wall"} <= event.keys()


def test_what_infrastructure_ended_is_run_again_by_the_next_start(tmp_path: Path) -> None:
    done = make_all(tmp_path)
    path = episodes_path(tmp_path)
    episodes.rewrite(path, [replace(done[0], end="infrastructure"), *done[1:]])
    assert facts(make_all(tmp_path)) == facts(done)


@pytest.mark.parametrize("kind", ["runc"])
def test_the_command_stops_at_ctrl_c_and_goes_on(kind: str, tmp_path: Path) -> None:
    words = ["rollout", "configs/rollout_bugfix.toml", "agent=random", f"run={tmp_path}", f"sandbox.kind={kind}"]
    words += ["limit=2", "rollout.samples=4", "rollout.max_steps=6", "rollout.workers=2", "--json"]
    first = subprocess.Popen([sys.executable, "-m", "swe_srl", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not episodes.read(episodes_path(tmp_path)):
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "the same command makes what is missing" in said
    assert "Traceback" not in said
    assert not list(Path(tempfile.gettempdir()).glob(f"swe-srl-{first.pid}-*"))
    kept = facts(episodes.read(episodes_path(tmp_path)))
    assert 0 < len(kept) < 8
    again = swe_srl(*words)
    found = json.loads(again.stdout)
    assert again.returncode == 0, again.stderr
    assert (found["run_dir"], found["episodes"], found["resolved"]) == (str(tmp_path), 8, 0)
    assert sum(found["failures"].values()) == sum(found["ends"].values()) == 8
    after = facts(episodes.read(episodes_path(tmp_path)))
    assert {key: after[key][1] for key in kept} == {key: end for key, (_, end) in kept.items()}
    shown = json.loads(swe_srl("inspect", str(tmp_path), "--json").stdout)
    assert shown["trajectories"] == 8


def test_the_command_refuses_what_it_would_not_use(tmp_path: Path) -> None:
    words = ["rollout", "configs/rollout_bugfix.toml", f"run={tmp_path}"]
    assert "model.path is not set" in refused(swe_srl(*words, "sandbox.kind=runc"))
    assert "belongs to --step" in refused(swe_srl(*words, "--trajectory", "x"))
    assert "baseline is of swe-srl evaluate" in refused(swe_srl(*words, "baseline=x", "agent=gold"))
    assert "there is no" in refused(swe_srl(*words, "tasks.source=none.jsonl", "agent=gold"))


def test_costs_say_what_a_turn_took(made: list[Episode]) -> None:
    for episode in made:
        assert len(episode.costs) == len(episode.trajectory.turns) == len(episode.completions)
        for cost, turn in zip(episode.costs, episode.trajectory.turns, strict=True):
            assert (cost.format_error is None) == (turn.action is not None)
            assert isinstance(cost, Cost)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    make_all(Path(sys.argv[1]))
