"""Events of OpenHands' SDK: an answer names its action; a refused call executed nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from broken import bears, broken

from swe_srl.formats import openhands_sdk as sdk
from swe_srl.formats.document import Dropped
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.types import Action, Outcome, Provenance, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories" / "openhands_sdk_events"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")


def read(document: Any) -> Trajectory | Dropped:
    assert sdk.detect(document)
    (item,) = sdk.read(document, Provenance("conversation", 1, sdk.name))
    return item


def read_one(document: Any) -> Trajectory:
    item = read(document)
    assert isinstance(item, Trajectory), item
    return item


def event(kind: str, id: str = "e", source: str = "environment", **more: Any) -> dict[str, Any]:
    return {"id": id, "timestamp": "t", "source": source, "kind": kind, **more}


def say(source: str, said: str, **more: Any) -> dict[str, Any]:
    return event("MessageEvent", source=source, llm_message={"content": [{"type": "text", "text": said}], **more})


def act(id: str, name: str = "terminal", arguments: str = '{"command": "ls"}', **more: Any) -> dict[str, Any]:
    call = {"id": f"call-{id}", "name": name, "arguments": arguments}
    thought = [{"type": "text", "text": "look"}]
    filled = {"action": {"kind": "TerminalAction"}, "tool_call": call, "tool_call_id": f"call-{id}", "tool_name": name}
    return event("ActionEvent", id, "agent", **{**filled, "thought": thought, **more})


def see(action_id: str, said: str, **more: Any) -> dict[str, Any]:
    observation = {"content": [{"type": "text", "text": said}], **more}
    return event("ObservationEvent", action_id=action_id, tool_call_id=f"call-{action_id}", observation=observation)


ASK = say("user", "Mend it.")


@needs_logs
def test_a_conversation_of_files() -> None:
    files = sorted((LOGS / "cd945624" / "events").glob("*.json"))
    events = [orjson.loads(file.read_bytes()) for file in files]
    assert all(map(sdk.is_part, events))
    run = read_one(events)
    assert run.issue.startswith("Use the terminal tool to run `pwd`")
    assert [turn.action for turn in run.turns] == [
        Action("bash", {"command": "pwd > tool_output.txt"}),
        Action("submit"),
        None,
    ]
    assert run.turns[0].observation == "\n[The command completed with exit code 0.]"
    assert run.dropped == {}
    assert not sdk.detect(orjson.loads((LOGS / "cd945624" / "base_state.json").read_bytes()))


@needs_logs
def test_a_stretch_of_a_conversation() -> None:
    """No user speaks in it. Two commands in one call were refused; one more such answer has no call in the file."""
    lines = (LOGS / "goal_fixture_events.jsonl").read_bytes().splitlines()
    run = read_one(list(map(orjson.loads, lines)))
    assert (run.issue, len(run.acted), run.dropped) == ("", 1, {REJECTED: 1})
    assert run.turns[0].thought == "Let me chain these properly with && and ;"  # the text repeats the reasoning


def test_what_executed_nothing_is_counted() -> None:
    run = read_one(
        [
            *(event("SystemPromptEvent"), ASK, act("a"), event("PauseEvent"), see("a", "x.py")),
            *(act("b", action=None), event("AgentErrorEvent", tool_call_id="call-b", error="no such tool")),
            *(act("c"), event("UserRejectObservation", action_id="c", tool_call_id="call-c")),
            *(act("d"), event("AgentErrorEvent", tool_call_id="call-d", error="a restart occurred")),
            *(act("e"), see("e", "Cannot execute multiple commands at once.\n…", is_error=True)),
            *(act("f", arguments="no json"), see("f", "x"), event("ACPToolCallEvent"), event("Condensation")),
            *(act("g"), see("g", "ls: no such file", is_error=True, exit_code=2), act("h")),
        ]
    )
    ls = Action("bash", {"command": "ls"})
    assert run.turns == (Turn("look", ls, "x.py"), Turn("look", ls, "ls: no such file"))
    assert run.dropped == {REJECTED: 4, UNREADABLE: 2, UNANSWERED: 1}


def test_calls_talk_and_remarks() -> None:
    edit = '{"command": "view", "path": "/x", "security_risk": "LOW", "summary": "see"}'
    run = read_one(
        [
            *(ASK, act("a", "file_editor", edit, thought=[]), see("a", "1 x")),
            *(say("agent", "So?", reasoning_content="hm"), say("user", "Go on."), say("user", "Please.")),
            *(act("b", "terminal", '{"command": "y", "is_input": true}'), see("b", "")),
            *(act("c", "finish", '{"message": "Done."}', thought=[]), see("c", "Done.")),
        ]
    )
    assert run.turns == (
        Turn("", Action("str_replace_editor", {"command": "view", "path": "/x"}), "1 x"),
        Turn("hm\n\nSo?", None, "Go on.\n\nPlease."),
        Turn("look", Action("terminal", {"command": "y", "is_input": "true"}), ""),
        Turn("Done.", Action("submit"), "Done."),
    )


def test_an_evaluations_record_and_an_older_observation() -> None:
    old = act("a", tool_call=None, action={"kind": "ExecuteBashAction", "command": "ls", "is_input": False})
    answer = event("ObservationEvent", action_id="a", observation={"output": "x.py", "metadata": {"suffix": "\n[0]"}})
    record = {"instance_id": "a__b-1", "history": [ASK, old, answer], "report": {"resolved": False}}
    run = read_one(record)
    assert run.turns == (Turn("look", Action("bash", {"command": "ls"}), "x.py\n[0]"),)
    assert (run.id, run.issue, run.outcome) == ("a__b-1", "Mend it.", Outcome(resolved=False))


def test_a_log_without_a_call() -> None:
    assert read([ASK, say("agent", "No.")]) == Dropped(1, "no action", "1 answers, none with a call")


def test_only_malformed_is_raised() -> None:
    events = [ASK, act("a"), see("a", "x", metadata={"suffix": "s"}), act("b"), say("agent", "m"), say("user", "n")]
    answers = [
        act("c", reasoning_content="r"),
        event("AgentErrorEvent", tool_call_id="call-c"),
        event("UserRejectObservation", action_id="b"),
    ]
    assert bears(sdk, events + answers) > 100
    assert bears(sdk, {"history": events, "test_result": {"git_patch": ""}}) > 100
    for row in broken(ASK):
        sdk.is_part(row)


@pytest.mark.parametrize("junk", [None, 1, "x", [], {}, [1], {"history": [1]}, {"kind": "x", "id": 1}])
def test_what_is_none(junk: Any) -> None:
    assert not sdk.detect(junk)
    assert not sdk.is_part(junk)
