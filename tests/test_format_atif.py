"""ATIF: converted logs are the logs that they were made from, and any trajectory can be written and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest
from broken import bears
from hypothesis import HealthCheck, given, settings
from test_formats import plain_calls, real, trajectories

from swe_srl.formats import atif, mini_swe_agent, swe_agent
from swe_srl.formats.document import Dropped
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.types import Action, Provenance, TaskLink, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")


def load(path: str) -> Any:
    return orjson.loads((LOGS / path).read_bytes())


def read(document: Any, format: ModuleType = atif, file: str = "run.json") -> list[Trajectory | Dropped]:
    assert format.detect(document)
    return list(format.read(document, Provenance(file, 1, format.name)))


def read_one(document: Any, format: ModuleType = atif, file: str = "run.json") -> Trajectory:
    (item,) = read(document, format, file)
    assert isinstance(item, Trajectory), item
    return item


def step(source: str, message: Any = "", **more: Any) -> dict[str, Any]:
    return {"source": source, "message": message, **more}


def call(id: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_call_id": id, "function_name": "bash", "arguments": arguments}


def seen(*results: tuple[str | None, Any]) -> dict[str, Any]:
    return {"results": [{"source_call_id": id, "content": content} for id, content in results]}


def document(*steps: dict[str, Any], agent: str = "x", **more: Any) -> dict[str, Any]:
    numbered = [{"step_id": number, **one} for number, one in enumerate(steps, 1)]
    return {"schema_version": "ATIF-v1.7", "session_id": "s", "agent": {"name": agent}, "steps": numbered, **more}


LS = step("agent", "look", tool_calls=[call("a", command="ls")], observation=seen(("a", "x.py")))
LOOKED = Turn("look", Action("bash", {"command": "ls"}), "x.py")


# ------------------------------------------------------------------------------------- converted logs


@needs_logs
@pytest.mark.parametrize(
    ("derived", "source", "steps"),
    [
        (
            "derived_mini_v1__pallets__flask-5014.json",
            "mini_swe_agent_v1/gemini3pro__pallets__flask-5014.traj.json",
            20,
        ),
        (
            "derived_mini_v2__django__django-11099.json",
            "mini_swe_agent_v2/bench1__django__django-11099.traj.json",
            42,
        ),
    ],
)
def test_a_converted_mini_run_is_the_run(derived: str, source: str, steps: int) -> None:
    found, expected = read_one(load(f"atif/{derived}")), read_one(load(source), mini_swe_agent)
    assert len(found.acted) == steps
    assert [turn.action for turn in found.turns] == [turn.action for turn in expected.turns]
    assert [turn.thought for turn in found.turns] == [turn.thought for turn in expected.turns]
    assert [turn.observation for turn in found.turns[:-1]] == [turn.observation for turn in expected.turns[:-1]]
    assert (found.issue, found.shell, found.dropped) == (expected.issue, "fresh", {})
    assert found.task == replace(expected.task, image=None)
    # Of version 2 the converter loses the exit message, and with it the patch.
    if found.turns[-1].observation is not None:
        assert found.turns[-1] == expected.turns[-1]
        assert found.outcome.patch == expected.outcome.patch != ""


@needs_logs
def test_a_converted_swe_agent_run_is_the_run_but_for_editor_calls() -> None:
    found = read_one(load("atif/derived_sweagent__pandas_pr_53856.json"))
    expected = read_one(load("sweagent_new/pandas-dev__pandas.95280573.pr_53856.traj"), swe_agent)
    assert len(found.acted) == len(expected.acted) == 17
    kept = 0
    for got, want in zip(found.turns, expected.turns, strict=True):
        assert got.action is not None
        assert want.action is not None
        assert (got.thought, got.observation) == (want.thought, want.observation)
        if want.action.tool == "str_replace_editor":
            assert got.action.tool == "swe_agent_action"
            assert got.action.arguments["raw_action"].startswith("str_replace_editor ")
        else:
            assert got.action == want.action
            kept += 1
    assert kept == 11
    assert found.issue == ""  # the file has none
    assert found.task == TaskLink("pandas-dev__pandas.95280573.pr_53856", "pandas-dev/pandas")
    assert found.outcome.patch == expected.outcome.patch


@needs_logs
def test_a_native_file() -> None:
    trajectory = read_one(load("atif/openagents_qa-runner_login-trace.json"))
    assert [turn.action.tool for turn in trajectory.acted if turn.action] == [
        *("navigate", "waitFor", "assert", "assert", "screenshot", "done")
    ]
    assert trajectory.id == "login-trace-trajectory"
    assert trajectory.issue.startswith("Verify the login page works")


# --------------------------------------------------------------------------------------------- quirks


def test_what_the_agent_reasoned_comes_before_what_it_said() -> None:
    parts = [{"type": "text", "text": "I look."}, {"type": "image", "source": {"path": "a.png"}}]
    both = {**LS, "message": parts, "reasoning_content": "Hm."}
    assert read_one(document(both)).turns == (replace(LOOKED, thought="Hm.\n\nI look."),)
    assert read_one(document({**LS, "reasoning_content": "look\n"})).turns == (LOOKED,)  # the same twice


def test_steps_that_are_not_the_agents_own_are_counted() -> None:
    trajectory = read_one(
        document(
            step("system", "s"),
            step("user", "Mend it.", is_copied_context=True),
            {**LS, "is_copied_context": True},
            {**LS, "llm_call_count": 0},
            {**LS, "llm_call_count": 2},
        )
    )
    assert trajectory.issue == "Mend it."
    assert trajectory.turns == (LOOKED,)
    assert trajectory.dropped == {atif.COPIED: 1, atif.DISPATCHED: 1}


def test_results_are_paired_by_id_or_in_order() -> None:
    calls = [call("a", command="1"), call("b", command="2")]

    def shown(*results: tuple[str | None, Any]) -> list[str | None]:
        items = read(document(LS, step("agent", tool_calls=calls, observation=seen(*results))))
        return [turn.observation for item in items if isinstance(item, Trajectory) for turn in item.turns[1:]]

    assert shown(("b", "two"), ("a", "one")) == ["one", "two"]
    assert shown((None, "one"), (None, "two")) == ["one", "two"]
    assert shown(("b", "two"), (None, "one")) == ["one", "two"]
    assert shown((None, "a screen of both")) == []
    assert shown(("b", "two")) == ["two"]


def test_an_observation_of_several_calls_is_none_of_them() -> None:
    several = step("agent", tool_calls=[call("a"), call("b")], observation=seen((None, "screen")))
    assert read_one(document(LS, several)).dropped == {atif.SHARED: 2}
    silent = step("agent", tool_calls=[call("a"), call("b")])
    assert read_one(document(LS, silent)).dropped == {UNANSWERED: 2}
    broken = step("agent", tool_calls=[{"tool_call_id": "a"}])
    assert read_one(document(LS, broken)).dropped == {UNREADABLE: 1}


def test_talk_and_what_the_user_says_to_it() -> None:
    trajectory = read_one(document(LS, step("agent", "Done?"), step("user", "No."), LS, step("user", "Go on.")))
    assert trajectory.turns == (
        LOOKED,
        Turn("Done?", None, "No."),
        replace(LOOKED, observation="x.py\n\nGo on."),
    )


def test_swe_agents_command_lines() -> None:
    def row(line: str, *shown: str) -> dict[str, Any]:
        calls = [{"tool_call_id": "c", "function_name": "swe_agent_action", "arguments": {"raw_action": line}}]
        observation = {"observation": seen(*(("c", text) for text in shown))} if shown else {}
        return step("agent", f"t\n```\n{line}\n```", reasoning_content="t", tool_calls=calls, **observation)

    exited = step("agent", "Exit due to cost limit")
    rows = (row("ls\n", "x.py"), row("touch a"), row("str_replace_editor view /a", "1"), row("submit\n"), exited)
    trajectory = read_one(document(*rows, agent="swe-agent", session_id="run1__django__django-7"))
    assert trajectory.turns == (
        Turn("t", Action("bash", {"command": "ls"}), "x.py"),
        Turn("t", Action("bash", {"command": "touch a"}), ""),  # an empty observation is not written
        Turn("t", Action("swe_agent_action", {"raw_action": "str_replace_editor view /a"}), "1"),
        Turn("t", Action("submit"), ""),
    )
    assert trajectory.dropped == {REJECTED: 1}
    assert trajectory.task == TaskLink("django__django-7", "django/django")


def test_subagents_are_trajectories_of_their_own() -> None:
    inner = document(step("user", "Find it."), LS, trajectory_id="inner")
    asked = {"results": [{"source_call_id": "a", "subagent_trajectory_ref": [{"trajectory_id": "inner"}]}]}
    outer = document(
        step("user", "Mend it."),
        {**LS, "observation": asked},
        subagent_trajectories=[inner, document(step("agent", "I only talk."))],
    )
    first, second, third = read(outer)
    assert isinstance(first, Trajectory)
    assert (first.id, first.turns) == ("s", (replace(LOOKED, observation=""),))
    assert isinstance(second, Trajectory)
    assert (second.id, second.issue, second.turns) == ("inner", "Find it.", (LOOKED,))
    assert isinstance(third, Dropped)
    assert third.reason == "no action"


@pytest.mark.parametrize("agent", ["x", "mini-swe-agent", "swe-agent"])
def test_only_malformed_is_raised(agent: str) -> None:
    fenced = step("agent", "THOUGHT: t\n```bash\nls\n```", observation=seen((None, "x")))
    line = {"tool_call_id": "c", "function_name": "swe_agent_action", "arguments": {"raw_action": "ls"}}
    rows = [step("user", "Mend it."), fenced, step("agent", "t", tool_calls=[line], observation=seen(("c", "y"))), LS]
    extra = {"extra": {"task_id": "a__b-7"}, "subagent_trajectories": [document(LS, trajectory_id="i")]}
    assert bears(atif, document(*rows, agent=agent, **extra))


@pytest.mark.parametrize("junk", [None, 7, [], {}, {"steps": []}, {"schema_version": 1, "steps": []}])
def test_what_is_none(junk: Any) -> None:
    assert not atif.detect(junk)


# ------------------------------------------------------------------------------------------- writing


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trajectory=trajectories(plain_calls, talk=True))
def test_any_trajectory_reads_back(trajectory: Trajectory) -> None:
    written = orjson.loads(orjson.dumps(atif.write(trajectory)))
    assert read_one(written, file=trajectory.provenance.file) == replace(
        trajectory, provenance=Provenance(trajectory.provenance.file, 1, "atif")
    )
    assert written["extra"]["task_id"] == trajectory.task.task_id


@given(trajectory=trajectories(plain_calls, talk=True))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_harbor_accepts_what_is_written(trajectory: Trajectory) -> None:
    models = pytest.importorskip("harbor.models.trajectories", reason="harbor is not installed")
    models.Trajectory.model_validate(atif.write(trajectory))


@needs_logs
def test_real_trajectories_read_back() -> None:
    for trajectory in real():
        again = read_one(orjson.loads(orjson.dumps(atif.write(trajectory))))
        assert replace(again, provenance=trajectory.provenance) == trajectory
