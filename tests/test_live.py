"""Commands at a step of a demonstration, each in its own fork: by the functions, by the commands, and in training."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kill_resume import Point, differences, digest, killer
from made import make_trajectory, tiny_config, write_logs
from test_cli import refused, swe_srl

from swe_srl.actions import render_completion
from swe_srl.errors import ConfigError, DataError, SandboxError
from swe_srl.ingest import open_data
from swe_srl.live import Branch, Unopenable, at_step, branches, run_distinct
from swe_srl.live_view import Settings
from swe_srl.runs import read_rows
from swe_srl.sandboxes import ExecResult, Sandbox, changes, snapshot
from swe_srl.sandboxes.choice import chosen
from swe_srl.sandboxes.reaper import sweep
from swe_srl.train.chain import train
from swe_srl.train.execute import Executor
from swe_srl.train_config import TrainConfig
from swe_srl.types import Action, Group, Sample, Score, Step, Tokens, Trajectory

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "trajectories" / "openai-chat" / "spans.jsonl"
PYTEST = Action("bash", {"command": "python -m pytest"})


def bash(command: str) -> Action:
    return Action("bash", {"command": command})


@pytest.fixture(scope="module")
def demonstration() -> Trajectory:
    return open_data(LOGS)[0]


def edit_of(trajectory: Trajectory) -> int:
    """The step at which the expert mends the defect."""
    return next(k for k, turn in enumerate(trajectory.acted, 1) if turn.action and "old_str" in turn.action.arguments)


# ------------------------------------------------------------------------------------------------ branches


def test_a_step_s_sandbox_is_as_the_expert_found_it(demonstration: Trajectory) -> None:
    k = edit_of(demonstration)
    with at_step(Step(demonstration, k), "local") as before, at_step(Step(demonstration, k + 1), "local") as after:
        assert changes(before) == ""
        assert changes(after) == demonstration.outcome.patch
        assert before.exec("python -m pytest", 60).exit_code == 1
        assert after.exec("python -m pytest", 60).exit_code == 0


def test_branches_do_not_see_each_other(demonstration: Trajectory) -> None:
    step = Step(demonstration, edit_of(demonstration) + 1)
    wanted = [
        bash("echo a > a.txt; export A=1; cd tests"),
        bash("ls a.txt; echo ${A-none}; pwd; exit 3"),
        step.action,
        Action("str_replace_editor", {"command": "create", "path": "/testbed/b.txt", "file_text": "b\n"}),
        Action("submit"),
    ]
    with at_step(step, "local") as sandbox:
        one, two, test, create, submit = branches(sandbox, wanted, timeout_s=60, workers=3)
        assert changes(sandbox) == demonstration.outcome.patch  # and it goes on as it was
    assert one.exit_code == 0
    assert one.changes is not None
    assert "+a" in one.changes
    assert "a.txt" not in (two.changes or "")
    assert two.observation is not None
    assert two.observation.endswith("none\n/testbed")
    assert (two.exit_code, two.changes) == (3, "")  # the expert's own edit is from before the fork
    assert test.observation == step.expert.observation
    assert (create.exit_code, "b.txt" in (create.changes or "")) == (None, True)
    assert submit.observation == demonstration.outcome.patch
    assert [branch.error for branch in (one, two, test, create, submit)] == [None] * 5


def test_changes_since_a_snapshot_know_commits_deletions_and_binaries(demonstration: Trajectory) -> None:
    with at_step(Step(demonstration, 1), "local") as sandbox:
        sandbox.exec("set -C; echo kept > kept.txt; git add -A; git commit -qm before", 20)
        since = snapshot(sandbox)
        assert changes(sandbox, since=since) == ""
        sandbox.exec("git rm -q --cached README.md; rm README.md; printf '\\0\\1' > b; git add b; git commit -qm x", 20)
        patch = changes(sandbox, since=since)
        assert "deleted file" in patch
        assert "GIT binary patch" in patch
        assert "kept.txt" not in patch
        assert "kept.txt" in changes(sandbox)


def test_a_timeout_a_lost_tree_and_nonsense_are_branches_too(demonstration: Trajectory) -> None:
    wanted = [
        bash("echo begun; sleep 30"),
        bash("rm -rf .git; echo still"),
        Action("str_replace_editor", {"command": "view", "path": "/testbed/\0"}),
        Action("str_replace_editor", {"command": "create", "path": "/testbed/s", "file_text": "\ud800\udcff"}),
    ]
    with at_step(Step(demonstration, 1), "local") as sandbox:
        late, lost, nonsense, surrogate = branches(sandbox, wanted, timeout_s=1)
    assert late.timed_out
    assert (late.observation or "").startswith("begun\n")
    assert lost.observation == "still"
    assert lost.changes is None
    assert "git" in (lost.error or "")
    for branch in (nonsense, surrogate):
        json.dumps(branch.as_json(), ensure_ascii=False).encode()  # text, whatever was written


class Failing:
    """A sandbox whose forks die, and which counts those that are alive."""

    base = "0" * 40

    def __init__(self, bad: int) -> None:
        self.bad, self.forks, self.alive, self.most = bad, 0, 0, 0
        self.lock = threading.Lock()

    def exec(self, command: str, timeout_s: float) -> ExecResult:
        return ExecResult("0" * 40 + "\n", 0)

    def read(self, path: str) -> bytes:
        return b""

    def write(self, path: str, data: bytes) -> None: ...

    def fork(self) -> Sandbox:
        self.forks += 1
        if self.forks == self.bad:
            raise SandboxError("no space for a fork")
        with self.lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        return Fork(self, dies=self.forks == self.bad + 1)

    def close(self) -> None: ...


class Fork(Failing):
    def __init__(self, parent: Failing, dies: bool) -> None:
        super().__init__(-9)
        self.parent, self.dies = parent, dies

    def exec(self, command: str, timeout_s: float) -> ExecResult:
        if self.dies:
            raise SandboxError("the guest is gone")
        return super().exec(command, timeout_s)

    def close(self) -> None:
        with self.parent.lock:
            self.parent.alive -= 1


def test_a_fork_that_is_lost_is_its_branch_s_alone() -> None:
    parent = Failing(bad=2)
    found = branches(parent, [bash(f"echo {n}") for n in range(8)], workers=3)
    assert {branch.error for branch in found} == {None, "no space for a fork", "the guest is gone"}
    assert sum(branch.error is None for branch in found) == 6
    assert parent.alive == 0
    assert parent.most <= 3


def test_equal_actions_share_a_fork() -> None:
    parent = Failing(bad=-9)
    wanted = [bash("a"), bash("b"), bash("a"), Action("bash", {"command": "a"})]
    assert [branch.action for branch in run_distinct(parent, wanted)] == wanted
    assert parent.forks == 2
    assert branches(parent, []) == []


def test_what_cannot_be_opened_says_why(demonstration: Trajectory) -> None:
    strange = replace(demonstration, task=replace(demonstration.task, task_id="spans__99"))
    with pytest.raises(Unopenable, match="none of"), at_step(Step(strange, 1), "local"):
        pass
    turn = replace(demonstration.turns[0], action=Action("browser"))
    with (
        pytest.raises(Unopenable, match="browser"),
        at_step(Step(replace(demonstration, turns=(turn, turn)), 2), "local"),
    ):
        pass
    with pytest.raises(ConfigError, match="none of"):
        chosen("cloud")


def test_json_of_a_long_patch_is_cut() -> None:
    told = Branch(PYTEST, "x", 0, changes="y" * 1_000_000).as_json()
    assert len(told["changes"]) < 70_000
    assert f"[... {1_000_000 - 65_536:,} characters cut ...]" in told["changes"]
    assert (told["changes_truncated"], told["observation_truncated"]) == (True, False)


def test_a_cut_of_what_the_sandbox_had_cut_tells_all_that_is_missing(demonstration: Trajectory) -> None:
    with at_step(Step(demonstration, 1), "local") as sandbox:
        (done,) = branches(sandbox, [bash("yes é | head -c 30000000")])
    assert done.truncated
    kept = (done.observation or "").split(" bytes cut out ...]")
    assert len(kept) == 2
    for most in (8192, 65_500, 30_000_000):
        told = done.as_json(most)
        assert told["observation_truncated"]
        first, number, last = re.split(r"\n\[\.\.\. ([\d,]+) bytes cut (?:out )?\.\.\.\]\n", told["observation"])
        missing = 30_000_000 - len(f"{first}{last}\n".encode())
        assert abs(int(number.replace(",", "")) - missing) <= 8  # a character that is cut in two is a mark of 3 bytes


# ------------------------------------------------------------------------------------------------ inspect


def test_inspect_shows_a_step_live(demonstration: Trajectory) -> None:
    k = edit_of(demonstration)
    command = ["inspect", LOGS, "--trajectory", demonstration.id, "--step", str(k), "--live", "--sandbox", "local"]
    done = swe_srl(*command, "--command", "echo [b]mine[/b]; exit 3", "--command", "rm -r tests", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["who"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["expert"]["executed"]["changes"] == demonstration.outcome.patch
    assert rows["expert"]["similarity"] == 1.0
    assert rows["yours 1"]["executed"]["observation"] == "[b]mine[/b]"
    assert rows["yours 1"]["executed"]["exit_code"] == 3
    assert "deleted file" in rows["yours 2"]["executed"]["changes"]
    assert rows.keys() == {"expert", "yours 1", "yours 2"}
    assert all(row["executed"]["seconds"] >= 0 for row in rows.values())
    assert "inspect: 3/3" in done.stderr

    shown = swe_srl(*command, "--command", "echo [b]mine[/b]; seq 500; kill -9 $$", "--floors").stdout
    assert " [b]mine[/b] " in shown
    assert "[… 489 of 501 lines" in shown
    assert " 500 " in shown
    assert "exit code 137: SIGKILL" in shown
    assert "cat F" in shown
    assert max(map(len, shown.splitlines())) <= 120
    late = json.loads(swe_srl(*command, "--command", "sleep 60", "--timeout", "0.5", "--json").stdout)["rows"][1]
    assert late["executed"]["timed_out"]


def test_all_lines_of_an_output_and_as_wide_as_asked(
    demonstration: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    at = ("--trajectory", demonstration.id, "--step", "1", "--live", "--sandbox", "local")
    shown = swe_srl("inspect", LOGS, *at, "--command", "seq 500", "--full").stdout
    assert "not shown" not in shown
    assert " 250 " in shown
    assert max(map(len, shown.splitlines())) == 90


@pytest.mark.parametrize("kind", ["runc", "local"])
def test_ctrl_c_ends_the_commands_that_run(kind: str, demonstration: Trajectory) -> None:
    seconds = f"{os.getpid()}.{len(kind)}"  # a command that is told from all others
    at = ["--trajectory", demonstration.id, "--step", "2", "--live", "--sandbox", kind]
    command = [sys.executable, "-m", "swe_srl", "inspect", str(LOGS), *at, "--command", f"sleep {seconds}"]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a runner in the background has it ignored
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=heed) as process:
        while process.poll() is None and not running(f"sleep {seconds}"):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=40)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped"
    assert not running(f"sleep {seconds}")


def running(command: str) -> bool:
    return subprocess.run(["pgrep", "-x", "-f", command], capture_output=True, check=False).returncode == 0


def test_inspect_live_asked_wrongly(demonstration: Trajectory) -> None:
    assert "--live" in refused(swe_srl("inspect", LOGS, "--command", "ls"))
    assert "--step" in refused(swe_srl("inspect", LOGS, "--live", "--sandbox", "local"))
    assert "--timeout" in refused(swe_srl("inspect", LOGS, "--timeout", "3"))
    at = ("--trajectory", demonstration.id, "--step")
    assert "--command is empty" in refused(swe_srl("inspect", LOGS, *at, "1", "--live", "--command", " "))
    assert "none of" in refused(swe_srl("inspect", LOGS, *at, "1", "--live", "--sandbox", "cloud"))
    assert "steps 1 to" in swe_srl("inspect", LOGS, *at, "99", "--live", "--sandbox", "local").stderr


# ------------------------------------------------------------------------------------- training, rollout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Two runs on made logs that claim to be of tasks of the suite; they differ in `execute` alone."""
    folder = tmp_path_factory.mktemp("runs")
    made = [make_trajectory(number) for number in range(6)]
    tasks = [replace(one.task, task_id=f"spans__{number}") for number, one in enumerate(made, 1)]
    logs = [replace(one, task=task) for one, task in zip(made, tasks, strict=True)]
    write_logs(folder / "logs.jsonl", logs)
    for execute in (True, False):
        train(executing(folder, f"{execute}/run", "local" if execute else None))
    return {execute: folder / str(execute) / "run" for execute in (True, False)}


def executing(folder: Path, name: str, kind: str | None) -> TrainConfig:
    """Two updates on the folder's logs, the answers executed in a sandbox of this kind; None: not at all."""
    data = {"path": str(folder / "logs.jsonl"), "validation": ["delta/delta"], "test": ["omega/omega"]}
    config = tiny_config(folder, name, data=data)
    warm, srl = config.stage
    srl = srl.model_copy(update={"steps": 2, "execute": kind is not None})
    sandbox = kind and {"kind": kind, "workers": 2, "timeout_s": 20}
    changed = config.model_dump() | {"stage": [warm.model_dump(), srl.model_dump()], "sandbox": sandbox}
    return TrainConfig.model_validate(changed)


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [row for n in (1, 2) for row in read_rows(run / "stages" / "2-srl" / "rollouts" / f"step_{n}.jsonl.zst")]


def test_a_run_s_answers_are_executed_beside_the_expert_s(runs: dict[bool, Path]) -> None:
    rows = rows_of(runs[True])
    answered = [row for row in rows if row["action"] is not None]
    assert answered
    for row in rows:
        assert (row["executed"] is None) == (row["action"] is None)
        assert ("expert_executed" in row) == (row["sample"] == 0)
    experts = [row["expert_executed"] for row in rows if row["sample"] == 0]
    assert all(told["error"] is None and told["changes"] is not None for told in experts)
    done = [row["executed"] for row in answered]
    assert all(one["error"] is None and one["observation"] is not None for one in done)


def test_executing_changes_nothing_that_is_learnt(runs: dict[bool, Path]) -> None:
    extra = {"executed", "expert_executed"}
    plain = [{key: row[key] for key in row.keys() - extra} for row in rows_of(runs[True])]
    assert plain == rows_of(runs[False])
    left = [
        {name: hash for name, hash in digest(run).items() if "rollouts" not in name and name != "config.toml"}
        for run in (runs[True], runs[False])
    ]
    assert left[0] == left[1]


def test_killed_in_mid_update_while_runc_runs_commands(runs: dict[bool, Path], tmp_path: Path) -> None:
    """It learns what it would have, its rows have what each command did, and nothing of the killed one is left."""
    folder = runs[True].parent.parent
    config = executing(folder, "killed/run", "runc")
    point = Point("mid-update", "_logits", "head.py", "backward", n=2)
    process = multiprocessing.get_context("fork").Process(target=train_until, args=(config, point, tmp_path / "log"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
    rollouts = Path(config.run) / "stages" / "2-srl" / "rollouts"
    assert [path.name for path in rollouts.iterdir()] == ["step_1.jsonl.zst"]
    train(config)
    killed = [{**row, "executed": None, "expert_executed": None} for row in rows_of(Path(config.run))]
    assert killed == [{**row, "executed": None, "expert_executed": None} for row in rows_of(runs[True])]
    done = [row["executed"] for row in rows_of(Path(config.run)) if row["action"] is not None]
    assert all(one["error"] is None and one["changes"] is not None for one in done)
    names = {name for name in differences(digest(runs[True]), digest(Path(config.run))) if "rollouts" not in name}
    assert names == {"config.toml"}
    sweep(with_docker=False)  # as the first sandbox of a new process does
    assert not list(Path(tempfile.gettempdir()).glob(f"swe-srl-{process.pid}-*"))


def train_until(config: TrainConfig, point: Point, log: Path) -> None:
    sys.stderr = log.open("w", buffering=1)
    sys.setprofile(killer(point))
    train(config)


def test_inspect_shows_what_answers_did(runs: dict[bool, Path]) -> None:
    shown = swe_srl("inspect", runs[True], "--step", "1")
    assert shown.returncode == 0, shown.stderr
    assert "what it printed" in shown.stdout
    assert "what it printed" not in swe_srl("inspect", runs[False], "--step", "1").stdout
    live = swe_srl("inspect", runs[False], "--step", "1", "--live", "--sandbox", "local", "--json")
    assert live.returncode == 0, live.stderr
    groups = json.loads(live.stdout)["groups"]
    assert len(groups) >= 2
    assert all(group["rows"][0]["who"] == "expert" for group in groups)
    assert len(groups[0]["rows"]) == 5


def test_rollout_at_a_step(runs: dict[bool, Path], tmp_path: Path) -> None:
    model = runs[True] / "stages" / "2-srl" / "checkpoints" / "best"
    data = runs[True].parent.parent / "logs.jsonl"
    given = [f"model.path={model}", f"data.path={data}", 'data.validation=["delta/delta"]', 'data.test=["omega/omega"]']
    given += ["sandbox.kind=local", "rollout.samples=3", "engine.max_tokens=90"]
    done = swe_srl("rollout", "configs/rollout.toml", *given, "--step", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["episodes"], found["step"], len(found["steps"])) == (3, 2, 1)
    assert found["steps"][0]["rows"][0]["executed"]["error"] is None
    again = json.loads(swe_srl("rollout", "configs/rollout.toml", *given, "--step", "2", "--json").stdout)
    texts = [[row["action"] for row in one["steps"][0]["rows"]] for one in (found, again)]
    assert texts[0] == texts[1]
    assert "give --step K" in refused(swe_srl("rollout", "configs/rollout.toml", *given))
    assert "no test trajectory" in swe_srl("rollout", "configs/rollout.toml", *given, "--step", "77").stderr


def test_a_group_without_a_sandbox_is_rows_with_a_reason(
    demonstration: Trajectory, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = replace(demonstration, task=replace(demonstration.task, task_id="spans__99"))
    texts = [render_completion("", bash("seq 100000")), "no call", render_completion("", bash("seq 100000"))]
    scores = [Score(0.1), Score(-1.0, {}, "no call"), Score(0.1)]
    samples = tuple(Sample(Tokens((), (), ()), score, text) for score, text in zip(scores, texts, strict=True))
    with Executor(Settings("local", workers=2)) as executor:
        given = [(Step(log, 1), Group(log.id, draw, samples)) for draw, log in enumerate((strange, demonstration))]
        lost, done = executor.start(given)().values()
    assert "none of" in lost.expert["error"]
    assert [one and one["error"] for one in lost.samples] == [lost.expert["error"], None, lost.expert["error"]]
    first, none, last = done.samples
    assert none is None
    assert first == last
    assert first is not None
    assert first["observation"].startswith("1\n2\n")
    assert len(first["observation"]) < 9000
    assert "2 of 4 commands were not executed to the end: its task is none of" in capsys.readouterr().err


def test_execute_that_cannot_work_is_told_before_training(tmp_path: Path) -> None:
    config = tiny_config(tmp_path).model_dump()
    config["stage"][1]["execute"] = True
    made = type(tiny_config(tmp_path))
    with pytest.raises(DataError, match="execute = true"):  # the made logs' tasks are nobody's
        train(made.model_validate(config | {"sandbox": {"kind": "local"}}))
    assert not (tmp_path / "run").exists()
    given = ("train", "configs/quickstart.toml", f"run={tmp_path / 'other'}")
    assert "no srl stage has execute" in refused(swe_srl(*given, "sandbox.kind=local"))
    assert "no such sandbox" in refused(swe_srl(*given, "stage.srl.execute=true", "sandbox.kind=cloud"))
    assert "the keys of that stage are stage.srl.KEY" in refused(swe_srl(*given, "srl.execute=true"))
    assert "did you mean 'execute'" in refused(swe_srl(*given, "stage.srl.exectue=true"))
