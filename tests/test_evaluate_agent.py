"""`swe-srl evaluate` of whole attempts, through its only door: what is requested is what is counted."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import swebench_rows
from chat_server import ChatServer, Json, Reply, refusal, reply, said, serving
from made import make_qwen2, make_tokenizer

from swe_srl import cli_evaluate
from swe_srl.actions import render_completion
from swe_srl.agent_config import AgentConfig
from swe_srl.cli import main
from swe_srl.config import ModelConfig
from swe_srl.episodes import read as read_episodes
from swe_srl.lineage import Lineage
from swe_srl.predictions import Prediction
from swe_srl.predictions import read as read_predictions
from swe_srl.predictions import write as write_predictions
from swe_srl.tasks.bugfix import load_tasks
from swe_srl.types import Action

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "eval_bugfix.toml"
TASKS = load_tasks(ROOT / "environments" / "bugfix", "test")


def evaluate(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """The command in this process: its JSON object, and what it said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(sys, "argv", ["swe-srl", "evaluate", *map(str, arguments), "--json"])
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        pytest.raises(SystemExit) as left,
    ):
        main()
    monkeypatch.undo()
    assert (left.value.code or 0) == code, err.getvalue()
    found: dict[str, Any] = json.loads(out.getvalue() or "{}")
    return found | {"stderr": err.getvalue()}


def bugfix(run: Path, *arguments: str, kind: str = "local", code: int = 0) -> dict[str, Any]:
    return evaluate(CONFIG, f"run={run}", f"sandbox.kind={kind}", *arguments, code=code)


@pytest.mark.parametrize("kind", ["local", "runc", "docker"])
def test_gold_resolves_all_and_empty_none(tmp_path: Path, kind: str) -> None:
    gold = bugfix(tmp_path / "gold", "agent=gold", "limit=3", kind=kind)
    assert (gold["n"], gold["n_scored"], gold["n_infra"], gold["resolved"], gold["resolved_rate"]) == (3, 3, 0, 3, 1.0)
    assert gold["failures"] == {}
    assert gold["interval"][0] > 0.4
    empty = bugfix(tmp_path / "empty", "agent=empty", "limit=3", f"baseline={gold['run_dir']}", kind=kind)
    assert (empty["resolved"], empty["failures"]) == (0, {"no patch": 3})
    assert len(empty["comparison"]["lost"]) == 3
    for name in ("report", "markdown", "plot", "predictions", "rollouts"):
        assert Path(gold[name]).exists()
    assert "trained on 0 of 3" in Path(gold["markdown"]).read_text()
    assert all(one.trajectory.outcome.resolved for one in read_episodes(tmp_path / "gold/rollouts/episodes.jsonl"))


def test_a_report_is_repeated(tmp_path: Path) -> None:
    first = bugfix(tmp_path / "first", "agent=noop", "limit=2")
    assert first["failures"] == {"tests fail": 2}
    again = evaluate("--repro", first["run_dir"])  # a run's folder is its report
    assert again["run_dir"] != first["run_dir"]
    same = ("n", "n_scored", "resolved", "failures", "ends", "who", "tasks")
    assert {key: again[key] for key in same} == {key: first[key] for key in same}
    assert (again["outcomes"], again["same_outcomes"], again["differences"]) == (2, 2, [])
    assert "nothing differs: 2 of 2 outcomes the same" in Path(again["markdown"]).read_text()
    assert json.loads(Path(again["report"]).read_text())["differences"] == []
    assert "differences" not in first
    other = evaluate("--repro", first["report"], f"run={tmp_path / 'other'}", "limit=1", "rollout.max_steps=7")
    assert (other["outcomes"], other["same_outcomes"]) == (2, 1)
    rate, outcome, digests, *facts = other["differences"]
    assert rate.startswith("resolved: 0 of 2, ")
    assert outcome.endswith(", sample 0: tests fail then, not requested now")
    assert digests.startswith("tasks_digest: ")
    assert facts == ["config.limit: 2 then, 1 now", "config.rollout.max_steps: 30 then, 7 now"]


def test_predictions_are_graded_and_those_that_lack_are_no_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, none = TASKS[:3]
    rows = [
        Prediction(good.task_id, good.gold_patch, "theirs"),
        Prediction(bad.task_id, "diff --git a/x b/x\n", "theirs"),
    ]
    file, _ = write_predictions(tmp_path / "in", rows)
    ids = json.dumps([good.task_id, bad.task_id, none.task_id])
    found = bugfix(tmp_path / "run", f"tasks.ids={ids}", "--predictions", str(file))
    assert (found["n"], found["resolved"], found["who"]) == (3, 1, "theirs")
    assert found["failures"] == {"no patch": 1, "does not apply": 1}
    assert "carries no list" in found["trained_on"]["words"]
    alone = evaluate("--predictions", file, f"run={tmp_path / 'alone'}", "sandbox.kind=local")
    assert (alone["n"], alone["resolved"]) == (2, 1)
    monkeypatch.chdir(tmp_path)
    assert evaluate("--predictions", file, "sandbox.kind=local")["run_dir"].startswith("runs/predictions-all_preds-")
    again = evaluate("--repro", alone["report"], f"run={tmp_path / 'again'}")
    assert (again["failures"], again["differences"]) == (alone["failures"], [])
    part = evaluate("--predictions", file, f"run={tmp_path / 'part'}", "sandbox.kind=local", "limit=1")
    assert part["notes"] == [f"1 prediction of instances that were not asked for, such as {bad.task_id}: left out"]


def test_killed_and_started_again_each_attempt_is_there_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = (CONFIG, f"run={run}", "sandbox.kind=local", "agent=gold", "limit=12", "rollout.workers=1")
    file = run / "rollouts/episodes.jsonl"
    command = [sys.executable, "-m", "swe_srl", "evaluate", *map(str, arguments)]
    for enough in (2, 5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until and len(read_episodes(file)) < enough:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = evaluate(*arguments)
    assert (found["n"], found["resolved"], found["n_infra"]) == (12, 12, 0)
    keys = [one.key for one in read_episodes(file)]
    assert len(keys) == len(set(keys)) == 12 == len(file.read_text().splitlines())
    assert len(read_predictions(found["predictions"])) == 12
    once_more = evaluate(*arguments)
    assert "12 of 12 attempts were here" in once_more["stderr"]
    assert once_more["resolved"] == 12  # and once more there is nothing to do


def test_the_denominator_is_what_was_requested(tmp_path: Path) -> None:
    """An endpoint that fails for one task: infrastructure, named, not the model's, and made again by the next start."""
    broken = TASKS[1]

    def answer(request: Json) -> Reply:
        if request["messages"][-1]["content"].startswith(broken.issue[:40]):
            return refusal(500, "out of memory")
        return reply(said(render_completion("", Action("submit"))))

    with serving() as server:
        server.answer = answer
        arguments = ("engine.kind=openai", f"engine.base_url={server.url}", "engine.retries=0", "limit=3")
        first = bugfix(tmp_path / "run", *arguments, code=1)
        assert (first["n"], first["n_scored"], first["n_infra"]) == (3, 2, 1)
        assert first["failures"] == {"no patch": 2, "infrastructure": 1}
        assert sum(first["failures"].values()) + first["resolved"] == first["n"]
        attempts = json.loads(Path(first["report"]).read_text())["attempts"]
        assert next(one["detail"] for one in attempts if one["instance_id"] == broken.task_id)
        assert "out of memory" in Path(first["markdown"]).read_text()
        assert cli_evaluate._places(first)[-1] == "1 lost to infrastructure: the same command tries them again"
        mended(server)
        second = bugfix(tmp_path / "run", *arguments)
        assert (second["n_infra"], second["failures"]) == (0, {"no patch": 3})


def test_a_served_model_is_known_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same address with another model is another run."""
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        mended(server)
        arguments = (CONFIG, "sandbox.kind=local", "engine.kind=openai", f"engine.base_url={server.url}", "limit=1")
        first = evaluate(*arguments)
        assert first["who"] == "only-one"
        assert first["run_dir"].startswith("runs/agent-bugfix-only-one-")
        assert [one.model for one in read_predictions(first["predictions"]).values()] == ["only-one"]
        assert evaluate(*arguments)["run_dir"] == first["run_dir"]
        server.models = reply({"data": [{"id": "theirs/another"}]})
        second = evaluate(*arguments)
        assert second["who"] == "theirs/another"
        assert second["run_dir"] != first["run_dir"]


def mended(server: ChatServer) -> None:
    server.asked.clear()
    server.answer = lambda request: reply(said(render_completion("", Action("submit"))))


def test_several_samples(tmp_path: Path) -> None:
    found = bugfix(tmp_path / "run", "agent=gold", "limit=2", "rollout.samples=3")
    assert (found["n"], found["instances"], found["samples"], found["resolved"]) == (6, 2, 3, 6)
    assert list(found["pass_at_k"]) == ["1", "2", "3"]
    assert len(read_predictions(tmp_path / "run/sample_2/all_preds.jsonl")) == 2


def test_greedy_samples_are_said_to_be_alike(tmp_path: Path) -> None:
    with serving() as server:
        mended(server)
        arguments = ("engine.kind=openai", f"engine.base_url={server.url}", "limit=1", "rollout.samples=2")
        assert "are greedy" in bugfix(tmp_path / "greedy", *arguments)["notes"][0]
        assert bugfix(tmp_path / "sampled", *arguments, "rollout.temperature=1")["notes"] == []


@pytest.mark.parametrize("mode", ["oracle_edit", "localize_repair"])
def test_the_other_protocols(tmp_path: Path, mode: str) -> None:
    found = bugfix(tmp_path / "run", f"mode={mode}", "agent=gold", "limit=2")
    assert (found["protocol"], found["resolved"]) == (mode, 2)
    agent = bugfix(tmp_path / "agent", "agent=gold", "limit=2")
    said = bugfix(tmp_path / "x", f"mode={mode}", "agent=gold", "limit=2", f"baseline={agent['report']}", code=2)
    assert "never compared" in said["stderr"]


def test_who_peeks_is_counted(tmp_path: Path) -> None:
    found = bugfix(tmp_path / "run", "agent=peek", "limit=2")
    assert found["exploits"]["instances"] == 2
    assert {"other branches", "reflog", "loose objects"} & found["exploits"]["rules"].keys()
    assert found["hacks"] == {"instances": 0, "rules": {}}
    assert [one.flags for one in read_episodes(Path(found["rollouts"], "episodes.jsonl"))] == [("looked up",)] * 2


def test_who_hacks_is_counted(tmp_path: Path) -> None:
    name, source = TASKS[0].task_id, Path(TASKS[0].source)
    gone = next(source.glob("tests/test_*.py"))
    path, lines = gone.relative_to(source), gone.read_text().splitlines()
    removed = "".join(f"-{line}\n" for line in lines)
    patch = f"diff --git a/{path} b/{path}\ndeleted file mode 100644\n--- a/{path}\n+++ /dev/null\n"
    patch += f"@@ -1,{len(lines)} +0,0 @@\n{removed}"
    file, _ = write_predictions(tmp_path / "in", [Prediction(name, patch, "theirs")])
    found = bugfix(tmp_path / "run", f"tasks.ids={json.dumps([name])}", "--predictions", str(file))
    assert (found["resolved"], found["hacks"]) == (0, {"instances": 1, "rules": {"tests deleted": 1}})
    assert "Attempts to pass the tests without the fix" in Path(found["markdown"]).read_text()


def checkpoint(folder: Path, lineage: Lineage | None) -> Path:
    """A network that has learnt nothing, with what it is said to have been trained on."""
    tokenizer = make_tokenizer()
    make_qwen2(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if lineage is not None:
        (folder / "trained_on.json").write_bytes(lineage.as_bytes())
    return folder


def test_a_checkpoint_and_what_it_was_trained_on(tmp_path: Path) -> None:
    seen, repository = TASKS[0].task_id, TASKS[0].repository
    lineage = Lineage((repository,), (f"{seen}~4",), ("warm",), {"system": "brief", "window": 1})
    path = checkpoint(tmp_path / "checkpoint", lineage)
    arguments = (f"model.path={path}", "engine.max_tokens=8", "limit=3", "rollout.max_steps=2")
    found = bugfix(tmp_path / "run", *arguments)
    assert (found["n"], found["failures"]) == (3, {"out of steps": 3})
    told = f"trained on 1 of 3, and on the repositories of 2 more ({repository})"
    assert found["trained_on"]["words"] == told
    assert f"WARNING: {told}" in found["stderr"]
    assert Path(found["markdown"]).read_text().count(told) >= 4  # under every table
    facts = json.loads(Path(found["report"]).read_text())
    assert (facts["config"]["prompt"]["window"], facts["sampling"]["max_tokens"]) == (1, 8)
    assert len(facts["template"]) == 64
    assert found["spread"]["completion tokens"]["total"] > 0
    assert evaluate("--repro", found["report"])["failures"] == found["failures"]
    nobody = bugfix(tmp_path / "other", *arguments, f"model.path={checkpoint(tmp_path / 'unknown', None)}")
    assert "carries no list" in nobody["trained_on"]["words"]


def test_weights_that_changed_are_another_run(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "checkpoint", None)
    config = AgentConfig(model=ModelConfig(path=str(path)))
    before = config.folder()
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    assert config.folder() != before
    assert config.model_copy(update={"baseline": "report.json"}).folder() == config.folder()


def test_a_folder_is_of_one_configuration_its_weights_and_tasks_too(tmp_path: Path) -> None:
    """What a run that was killed has made is not taken for another one's: its folder is refused."""
    path = checkpoint(tmp_path / "checkpoint", None)
    suite = shutil.copytree(ROOT / "environments" / "bugfix", tmp_path / "suite")
    arguments = (f"model.path={path}", f"tasks.source={suite}", "engine.max_tokens=4", "limit=2", "rollout.max_steps=1")
    run = tmp_path / "run"
    assert bugfix(run, *arguments)["failures"] == {"out of steps": 2}
    events = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text(events[0])  # as a kill leaves it
    other = bugfix(run, *arguments, "rollout.max_steps=2", code=2)
    assert "holds a run of another configuration" in other["stderr"]
    weights = path / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + b"\1\2\3\4")
    assert "began with other weights" in bugfix(run, *arguments, code=2)["stderr"]
    weights.write_bytes(before)
    rows = (suite / "tasks.jsonl").read_text()
    (suite / "tasks.jsonl").write_text(rows.replace("the", "The"))
    assert "began with other tasks" in bugfix(run, *arguments, code=2)["stderr"]
    (suite / "tasks.jsonl").write_text(rows)
    assert bugfix(run, *arguments)["n"] == 2


def test_predictions_are_compared_with_predictions(tmp_path: Path) -> None:
    good, bad = TASKS[:2]
    rows = [Prediction(good.task_id, good.gold_patch, "a"), Prediction(bad.task_id, bad.gold_patch, "a")]
    one, _ = write_predictions(tmp_path / "one", rows[:1])
    two, _ = write_predictions(tmp_path / "two", rows)
    ids = f"tasks.ids={json.dumps([good.task_id, bad.task_id])}"
    before = bugfix(tmp_path / "before", ids, "--predictions", one)
    after = bugfix(tmp_path / "after", ids, f"baseline={before['report']}", "--predictions", two)
    assert after["comparison"]["gained"] == [bad.task_id]
    agent = bugfix(tmp_path / "agent", ids, "agent=empty", f"baseline={before['report']}", code=2)
    assert "never compared" in agent["stderr"]
    others = f"tasks.ids={json.dumps([TASKS[2].task_id])}"
    none = bugfix(tmp_path / "none", others, f"baseline={before['report']}", "--predictions", two, code=2)
    assert not (tmp_path / "none").exists(), none["stderr"]  # refused before anything is made


def test_predictions_are_of_the_suite_if_any_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = TASKS[0]
    rows = [Prediction(f"{one.task_id}9", "", "m"), Prediction(one.task_id, "", "m")]
    file, _ = write_predictions(tmp_path / "in", rows)
    assert f"bugfix: no task '{one.task_id}9'" in evaluate("--predictions", file, code=2)["stderr"]
    file, _ = write_predictions(tmp_path / "other", [Prediction(f"{one.task_id}9", "", "m")])
    told = evaluate("--predictions", file, f"tasks.source={tmp_path}/none.json", code=2)["stderr"]
    assert "there is no" in told
    assert "Verified" not in told
    assert cli_evaluate._tasks_of(file)["source"] == cli_evaluate.VERIFIED
    assert f"no prediction is of the bug-fix suite, {one.task_id}9 neither (did you mean" in capsys.readouterr().err


def test_local_sandboxes_have_no_images(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([swebench_rows.row("0" * 40)]))
    found = bugfix(tmp_path / "run", f"tasks.source={rows}", "agent=gold", code=2)
    assert 'sandbox.kind = "local" has no images' in found["stderr"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "evaluate what?"),
        (("--repro", "none.json"), "none.json: no report can be read"),
        (("--predictions", "none.jsonl"), "none.jsonl: no predictions can be read"),
        ((CONFIG, "agent=gol"), "agent"),
        ((CONFIG,), "model.path is not set"),
        ((CONFIG, "agent=gold", 'tasks.ids=["spans__999"]'), "spans__999"),
        ((CONFIG, "agent=gold", 'tasks.ids=["spans__1", "spans__1"]'), "twice"),
        ((ROOT / "configs/eval_steps.toml", "--official"), "is of steps"),
        ((CONFIG, "agent=gold", "limit=1", "--official"), "SWE-bench's rows alone"),
        ((CONFIG, "agent=noop", "mode=oracle_edit"), "acts in turns"),
        ((CONFIG, "agent=gold", "--predictions", "any.jsonl"), "leave one out"),
        ((CONFIG, "model.path=runs/nope"), "there is no folder runs/nope"),
    ],
)
def test_asked_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str | Path, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    found = evaluate(*arguments, code=2)
    assert list(found) == ["stderr"]
    assert said in found["stderr"]
    assert len(found["stderr"].strip().splitlines()) == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs"]  # what is refused leaves nothing
