"""OpenAI Responses items: NeMo Gym's rollouts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from broken import bears

from swe_srl.formats import Dropped, responses
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.types import Action, Outcome, Provenance, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories" / "nemo_gym_rollouts"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")

LS = Action("bash", {"command": "ls"})


def read(document: Any, line: int = 1) -> Trajectory | Dropped:
    assert responses.detect(document)
    (item,) = responses.read(document, Provenance("rollouts.jsonl", line, responses.name))
    return item


def run(*items: dict[str, Any], **row: Any) -> Trajectory:
    trajectory = read({"response": {"output": list(items)}, **row})
    assert isinstance(trajectory, Trajectory), trajectory
    return trajectory


def call(id: str, name: str = "bash", arguments: str = '{"command": "ls"}') -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": name, "arguments": arguments}


def output(id: str, text: Any = "a b") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": text}


def message(text: str, role: str = "assistant") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "output_text", "text": text}]}


# ------------------------------------------------------------------------------------------ real files

STEPS = {  # trajectories' steps; what is missing gave none
    "anyswe_agent__example_rollouts_claude_code": [6, 2, 2, 2, 3],
    "anyswe_agent__example_rollouts_openclaw": [],
    "anyswe_agent__example_rollouts_opencode": [3, 7, 10, 3, 3],
    "anyterminal_agent__example_rollouts_terminus_2": [6, 20, 3, 8, 14],
    "deep_swe__gpt55_xhigh_example_rollouts": [37, 31, 41, 44, 121],
    "deepswe__example_rollouts": [1, 1, 1, 1, 1],
    "swebench__example_rollouts": [],
}
RESOLVED = {
    "anyswe_agent__example_rollouts_claude_code": [True, False, False, False, False],
    "anyswe_agent__example_rollouts_opencode": [False, True, True, True, True],
    "anyterminal_agent__example_rollouts_terminus_2": [True, True, False, True, True],
    "deep_swe__gpt55_xhigh_example_rollouts": [True, True, False, False, True],
    "deepswe__example_rollouts": [True, False, True, True, False],
}


def real(name: str) -> tuple[list[dict[str, Any]], list[Trajectory | Dropped]]:
    rows = [orjson.loads(line) for line in (LOGS / f"{name}.jsonl").read_bytes().splitlines()]
    return rows, [read(row, line) for line, row in enumerate(rows, 1)]


@needs_logs
@pytest.mark.parametrize("name", STEPS)
def test_every_real_rollout(name: str) -> None:
    _, items = real(name)
    assert len(items) == 5
    runs = [item for item in items if isinstance(item, Trajectory)]
    assert [len(run.acted) for run in runs] == STEPS[name]
    assert [run.outcome.resolved for run in runs] == RESOLVED.get(name, [])
    assert {item.reason for item in items if isinstance(item, Dropped)} <= {"no action"}
    dropped = sum((Counter(run.dropped) for run in runs), Counter[str]())
    assert dropped == {
        "anyswe_agent__example_rollouts_claude_code": {REJECTED: 1},  # an edit whose text is not in the file
        "anyswe_agent__example_rollouts_opencode": {UNANSWERED: 1},  # a call without OpenCode's description
    }.get(name, {})


@needs_logs
@pytest.mark.parametrize("name", [name for name in STEPS if "terminus" not in name])
def test_real_outputs_have_their_calls_id(name: str) -> None:
    for row, item in zip(*real(name), strict=True):
        items = (row.get("response") or row["trajectory"])["output"]
        shown = {i["call_id"]: i["output"] for i in items if i["type"] == "function_call_output"}
        told = [shown.get(i["call_id"]) for i in items if i["type"] == "function_call"]
        seen = [turn.observation for turn in item.acted] if isinstance(item, Trajectory) else []
        ours = iter(told)
        assert all(observation is None or observation in ours for observation in seen)


@needs_logs
def test_terminus_shows_the_terminal_after_the_last_of_an_answers_commands() -> None:
    rows, items = real("anyterminal_agent__example_rollouts_terminus_2")
    first = items[0]
    assert isinstance(first, Trajectory)
    shown = [turn.observation for turn in first.turns]
    outputs = [item["output"] for item in rows[0]["response"]["output"] if item["type"] == "function_call_output"]
    assert shown == ["", "", *outputs]
    assert "sed -n" in outputs[0]  # the second command, in the output that has the first one's id
    assert first.shell == "persistent"


@needs_logs
def test_mini_swe_agents_end_is_a_submit() -> None:
    _, items = real("deep_swe__gpt55_xhigh_example_rollouts")
    for item in items:
        assert isinstance(item, Trajectory)
        assert item.turns[-1].action == Action("submit")
        assert item.turns[-1].observation is None
        assert item.shell == "fresh"
        assert item.issue == ""  # the rows do not hold it


@needs_logs
def test_the_issue_and_the_task_of_real_rollouts() -> None:
    _, items = real("anyswe_agent__example_rollouts_opencode")
    for item in items:
        assert isinstance(item, Trajectory)
        assert item.issue.startswith("Modeling's `separability_matrix` does not")
        assert item.task.repository == "astropy/astropy"
        assert item.task.base_commit == "d16bfe05a744909de4b27f5875fe0d4ed41ce607"
        assert item.task.image == "swebench/sweb.eval.x86_64.astropy_1776_astropy-12907:latest"
        assert (item.outcome.patch or "").startswith("diff --git ")


# --------------------------------------------------------------------------------------------- quirks


def test_an_answer_is_what_stands_between_outputs() -> None:
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Look first.\n"}]}
    trajectory = run(
        *(reasoning, message("I look."), call("1"), call("2", "read", '{"filePath": "x"}')),
        *(output("2", "x"), output("1", "y"), call("3"), output("3", [{"type": "input_text", "text": "z"}])),
        message("Done."),
    )
    assert trajectory.turns == (
        Turn("Look first.\n\nI look.", LS, "y"),
        Turn("", Action("read", {"filePath": "x"}), "x"),
        Turn("", LS, "z"),
        Turn("Done.", None, None),
    )


def test_a_call_takes_the_next_output_with_its_id() -> None:
    trajectory = run(call("1"), output("1", "a"), call("1"), output("1", "b"), output("2", "of no call"), call("3"))
    assert [turn.observation for turn in trajectory.turns] == ["a", "b"]
    assert trajectory.dropped == {UNANSWERED: 1}
    late = run(call("1"), message("And:"), call("2"), output("2", "b"), output("1", "a"))
    assert [turn.observation for turn in late.turns] == ["a", "b"]


def test_what_a_user_says_between() -> None:
    trajectory = run(call("1"), output("1"), message("Well?"), message("Go on.", "user"), call("2"), output("2"))
    assert trajectory.turns[1] == Turn("Well?", None, "Go on.")
    assert len(trajectory.acted) == 2


def test_commands_that_were_not_executed() -> None:
    answer = '{\n  "returncode": -1,\n  "output": "", "exception_info": "action was not executed"\n}'
    submit = '{"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}'
    trajectory = run(
        *(call("0"), output("0"), call("1", arguments=submit), call("2"), output("1", answer), output("2", answer))
    )
    assert trajectory.turns == (Turn("", LS, "a b"), Turn("", Action("submit"), None))
    assert trajectory.dropped == {REJECTED: 1}
    quoted = '{"returncode": 0, "output": "\\"exception_info\\": \\"action was not executed\\""}'
    assert len(run(call("1"), output("1", quoted)).turns) == 1
    late = '{"returncode": -1, "output": "", "exception_info": "Command timed out"}'
    assert run(call("1"), output("1", late)).turns[0].observation == late


def test_only_one_output_of_typed_commands_is_of_them_all() -> None:
    def keys(id: str) -> dict[str, Any]:
        return call(id, "bash_command", '{"keystrokes": "ls\\n"}')

    shown = [turn.observation for turn in run(keys("1"), keys("2"), output("1", "a"), output("2", "b")).turns]
    assert shown == ["a", "b"]
    joint = run(keys("1"), keys("2"), output("1", "a b"))
    assert [turn.observation for turn in joint.turns] == ["", "a b"]
    late = run(keys("1"), keys("2"), output("2", "b"))
    assert [turn.observation for turn in late.turns] == ["b"]
    assert late.dropped == {UNANSWERED: 1}


def test_the_thought_goes_with_the_first_call_that_ran() -> None:
    trajectory = run(message("I list."), call("1"), call("2"), output("2"))
    assert trajectory.turns == (Turn("I list.", LS, "a b"),)
    assert trajectory.dropped == {UNANSWERED: 1}


def test_a_call_that_cannot_be_read() -> None:
    trajectory = run(call("1", arguments="{"), output("1"), call("2"), output("2"))
    assert trajectory.dropped == {UNREADABLE: 1}
    assert len(trajectory.turns) == 1


def test_tools_of_other_names() -> None:
    shown = '{"command": "ls", "description": "List files"}'
    for name in ("bash", "Bash", "execute_bash"):
        assert run(call("1", name, shown), output("1")).turns[0].action == LS
    quiet = '{"command": "ls", "timeout": 5, "security_risk": "LOW", "is_input": "false"}'
    assert run(call("1", "execute_bash", quiet), output("1")).turns[0].action == LS
    keys = '{"command": "y", "is_input": "true", "security_risk": "LOW"}'
    given = {"command": "y", "is_input": "true", "security_risk": "LOW"}
    assert run(call("1", "execute_bash", keys), output("1")).turns[0].action == Action("execute_bash", given)
    elsewhere = run(call("1", arguments='{"command": "ls", "workdir": "/x"}'), output("1")).turns[0].action
    assert elsewhere == Action("bash", {"command": "ls", "workdir": "/x"})  # no target: our bash has no such parameter
    edit = '{"command": "view", "path": "/x", "security_risk": "LOW"}'
    ours = Action("str_replace_editor", {"command": "view", "path": "/x"})
    assert run(call("1", "str_replace_editor", edit), output("1")).turns[0].action == ours
    done = '{"message": "Done.", "task_completed": "true"}'
    assert run(call("1"), output("1"), call("2", "finish", done)).turns[-1].action == Action("submit")


def test_the_outcome_is_the_logs_own_word() -> None:
    items = (call("1"), output("1"))
    assert run(*items, resolved=False, reward=1.0).outcome == Outcome(False)
    assert run(*items, reward=1.0).outcome.resolved is None  # a reward of what?
    assert run(*items, reward=1.0, f2p=1.0).outcome.resolved is True
    assert run(*items, reward=0.5, f2p=0.5).outcome.resolved is None
    assert run(*items, reward=0.0, f2p=0.0, evaluation_completed=False).outcome.resolved is None


def test_a_rollout_without_a_call() -> None:
    document = {"responses_create_params": {"input": []}, "response": {"output": []}, "model_patch": "diff"}
    assert read(document) == Dropped(1, "no action", "0 items, no call with an output")
    assert not responses.detect({"response": {"output": []}})
    assert not responses.detect({"response": {"output": [{"type": "text"}]}})
    assert not responses.detect({"response": {"output": [call("1")]}, "expected_action": {}})


def test_broken_rollouts() -> None:
    document = {
        "responses_create_params": {
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Fix it."}]}],
            "metadata": {"instance_id": "a__b-1", "problem_statement": "x", "instance_dict": '{"base_commit": "c"}'},
        },
        "response": {
            "output": [
                {"type": "reasoning", "summary": [{"text": "hm"}], "content": None},
                message("I look."),
                *(call("1"), call("2", "bash_command", '{"keystrokes": "ls\\n"}'), output("1"), output("2")),
            ],
            "status": "completed",
        },
        "agent_ref": {"name": "x"},
        "instance_config": {"container": "docker://x"},
        "verifier_result": {"rewards": {"f2p": 1.0}},
        "reward": 1.0,
        "model_patch": "diff --git a/x b/x",
    }
    assert bears(responses, document) > 500
    typed = [call("1", "bash_command", "{}"), call("2", "mark_task_complete", "{}"), output("1")]
    assert bears(responses, {"trajectory": {"output": typed}, "agent": {"name": "x"}}) > 100
