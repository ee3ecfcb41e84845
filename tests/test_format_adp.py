"""ADP's standard form: the same runs as in the logs that it was made from, and no word that ADP added."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest
from broken import bears

from swe_srl.formats import adp, mini_swe_agent, nebius, xml_messages
from swe_srl.formats.document import Dropped
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")


def load(path: str) -> list[Any]:
    found = orjson.loads((LOGS / path).read_bytes())
    return found if isinstance(found, list) else [found]


def read_one(document: Any, format: ModuleType = adp) -> Trajectory:
    assert format.detect(document)
    (item,) = format.read(document, Provenance("run.json", 1, format.name))
    assert isinstance(item, Trajectory), item
    return item


def record(*content: dict[str, Any], id: str = "i", details: Any = None) -> dict[str, Any]:
    return {"id": id, "content": [see("Mend it.", "user"), *content], "details": details or {}}


def see(content: Any, source: str = "environment", **more: Any) -> dict[str, Any]:
    return {"class_": "text_observation", "content": content, "name": None, "source": source, **more}


def run(code: str, thought: str | None = None, language: str = "bash", **more: Any) -> dict[str, Any]:
    return {"class_": "code_action", "language": language, "content": code, "description": thought, **more}


def use(function: str, thought: str | None = None, **kwargs: Any) -> dict[str, Any]:
    return {"class_": "api_action", "function": function, "kwargs": kwargs, "description": thought}


def say(content: str, thought: str = "") -> dict[str, Any]:
    return {"class_": "message_action", "content": content, "description": thought}


def bash(command: str, observation: str | None, thought: str = "") -> Turn:
    return Turn(thought, Action("bash", {"command": command}), observation)


ENDING = (see("Your solution has been verified as correct. ", "user"), say("<finish> I did it! </finish>"))


# -------------------------------------------------------------------------- the logs that it was made from


@needs_logs
def test_swe_smith_runs_are_the_runs_but_for_white_space_in_values() -> None:
    stripped = []
    pairs = zip(load("adp/swe-smith_sample_std.json"), load("swe_smith_xml/adp_swe-smith_sample_raw.json"), strict=True)
    for standard, raw in pairs:
        found, expected = read_one(standard), read_one(raw, xml_messages)
        assert (found.id, found.issue, found.task) == (raw["id"], expected.issue, expected.task)
        assert [turn.thought for turn in found.turns] == [turn.thought for turn in expected.turns]
        assert [turn.observation for turn in found.turns] == [turn.observation for turn in expected.turns]
        stripped.append(sum(got.action != want.action for got, want in zip(found.turns, expected.turns, strict=True)))
        for got, want in zip(found.turns, expected.turns, strict=True):
            assert got.action is not None
            assert want.action is not None
            assert got.action.tool == want.action.tool
            values = {key: value.strip() for key, value in want.action.arguments.items()}
            assert got.action.arguments in (want.action.arguments, values)
        assert found.dropped == {adp.MADE_UP: 1}
        assert found.outcome == Outcome()
    assert stripped == [1, 4, 3, 3, 3]


@needs_logs
def test_nebius_runs_are_the_runs_but_for_the_agents_own_commands() -> None:
    steps = []
    pairs = zip(load("adp/nebius_sample_std.json"), load("nebius_swe_agent/sample_raw.json"), strict=True)
    for standard, raw in pairs:
        found, expected = read_one(standard), read_one(raw, nebius)
        assert (found.id, found.issue, found.task) == (raw["instance_id"], expected.issue, expected.task)
        assert found.outcome == Outcome(None, "submitted", expected.outcome.patch)  # and not the verdict
        for got, want in zip(found.turns, expected.turns, strict=True):
            assert got.action is not None
            assert want.action is not None
            assert (got.thought, got.observation) == (want.thought, want.observation)
            assert got.action.tool == want.action.tool
            if got.action.tool in ("bash", "submit"):
                assert got.action == want.action
        steps.append(len(found.acted))
    assert steps == [6, 14, 5, 8, 16]


@needs_logs
def test_a_mini_coder_run_loses_what_the_agent_put_around_its_output() -> None:
    (standard,) = load("adp/mini-coder_sample_std.json")
    found = read_one(standard)
    expected = read_one(load("openai_chat/mini-coder_sample_raw.json")[0], mini_swe_agent)
    assert [turn.action for turn in found.turns] == [turn.action for turn in expected.turns]
    assert len(found.acted) == 8
    for got, want in zip(found.turns[:-1], expected.turns[:-1], strict=True):
        assert got.thought == want.thought
        assert want.observation is not None
        before, after = "<returncode>0</returncode>\n<output>\n", "\n</output>"
        assert got.observation == want.observation.removeprefix(before).removesuffix(after).removesuffix("</output>")


# --------------------------------------------------------------------------------------------- quirks


def test_an_ending_that_adp_made_up_is_no_part_of_the_run() -> None:
    submitted = read_one(record(run("ls"), see("x"), use("submit", "Done."), *ENDING))
    assert submitted.turns == (bash("ls", "x"), Turn("Done.", Action("submit"), None))
    assert submitted.dropped == {adp.MADE_UP: 1}
    cut_off = read_one(record(run("ls"), see("x"), run("pwd"), *ENDING))  # the verdict does not answer `pwd`
    assert cut_off.turns == (bash("ls", "x"),)
    assert cut_off.dropped == {adp.MADE_UP: 1, UNANSWERED: 1}


def test_a_finish_of_the_agents_own_is_its_submit() -> None:
    finished = read_one(record(run("ls"), see("x"), say("<finish> All is well. </finish>", "So.")))
    assert finished.turns[-1] == Turn("So.\n\nAll is well.", Action("submit"), None)
    mini = read_one(record(run("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && git add -A && git diff --cached")))
    assert mini.turns == (Turn("", Action("submit"), None),)


def test_code_tools_and_talk() -> None:
    trajectory = read_one(
        record(
            *(run("1 + 1", "count", "python"), see("2")),
            *(use("execute_bash", command="ls"), see("x"), see("Go on.", "user")),
            *(use("str_replace_editor", command="view", path="/a", view_range=[1, 50]), see("1")),
            *(say("Is it right?"), see("Yes.", "user")),
            *(run("ls"), {"class_": "web_observation", "axtree": None, "html": "<p>", "url": "u"}),
            *(run("ls"), {"class_": "image_observation", "content": "a.png"}),
            *(use(""), see("no such tool")),
        )
    )
    view = {"command": "view", "path": "/a", "view_range": "[1, 50]"}
    assert trajectory.turns == (
        Turn("count", Action("python", {"code": "1 + 1"}), "2"),
        bash("ls", "x\n\nGo on."),
        Turn("", Action("str_replace_editor", view), "1"),
        Turn("Is it right?", None, "Yes."),
        bash("ls", "<p>"),
        bash("ls", ""),
    )
    assert trajectory.dropped == {UNREADABLE: 1}


def test_ids_pair_calls_with_observations() -> None:
    trajectory = read_one(
        record(
            *(run("1", tool_call_id="a"), run("2", tool_call_id="b")),
            *(see("two", tool_call_id="b"), see("one", tool_call_id="a"), see("Go on.", "user")),
            *(run("3", tool_call_id="c"), see("unasked", "user")),
        )
    )
    assert trajectory.turns == (bash("1", "one"), bash("2", "two\n\nGo on."))
    assert trajectory.dropped == {UNANSWERED: 1}


def test_what_openhands_did_not_execute_is_no_step() -> None:
    refusal = see("The action has not been executed due to a runtime error.")
    trajectory = read_one(record(see("Mend it.", "user"), run("ls"), see("a.py"), run("pwd"), refusal))
    assert (trajectory.turns, trajectory.dropped) == ((bash("ls", "a.py"),), {REJECTED: 1})


def test_calls_in_a_row_without_ids_cannot_be_paired() -> None:
    trajectory = read_one(record(run("1"), see("one"), run("2"), run("3"), see("two"), see("three")))
    assert trajectory.turns == (bash("1", "one"),)
    assert trajectory.dropped == {adp.UNPAIRED: 2}


def test_the_task_and_the_outcome() -> None:
    patch = "diff --git a/x b/x\n+1\n"
    details = {"resolved": "True", "exit_status": "submitted", "generated_patch": f"\n{patch}"}
    trajectory = read_one(record(run("ls"), see("x"), id="getmoto__moto.694ce1f4.pr_6055.vtqmgmtg_1", details=details))
    assert trajectory.task == TaskLink("getmoto__moto.694ce1f4.pr_6055", "getmoto/moto")
    assert trajectory.outcome == Outcome(True, "submitted", patch)
    assert read_one(record(run("ls"), see("x"), id="a__b-7_3")).task == TaskLink("a__b-7", "a/b")
    prompted = record(run("ls"), see("x"))
    prompted["content"].insert(0, see("You are an agent."))
    assert read_one(prompted).issue == "Mend it."


def test_only_malformed_is_raised() -> None:
    details = {"resolved": "True", "generated_patch": "diff --git a/x b/x\n"}
    unlinked = record(run("ls", "t"), see("x"), use("edit", path="a"), see("y"), say("Hm."), *ENDING, details=details)
    linked = record(run("ls", tool_call_id="a"), run("pwd", tool_call_id="b"), see("x", tool_call_id="b"))
    assert bears(adp, unlinked)
    assert bears(adp, linked)


@pytest.mark.parametrize("junk", [None, 7, [], {}, {"content": []}, {"content": ["class_"]}, {"content": "x"}])
def test_what_is_none(junk: Any) -> None:
    assert not adp.detect(junk)


def test_a_run_without_an_action() -> None:
    (item,) = adp.read(record(say("I cannot.")), Provenance("f", 3, "adp"))
    assert isinstance(item, Dropped)
    assert (item.line, item.reason) == (3, "no action")
