"""OpenHands' event streams: paired by cause, and what was refused is no step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from broken import bears, broken

from swe_srl.formats import openhands_events as openhands
from swe_srl.formats.document import Dropped
from swe_srl.formats.openhands_events import SUB_AGENT, UNSIGNED
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories" / "openhands"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")


def load(name: str) -> Any:
    content = (LOGS / name).read_bytes()
    return list(map(orjson.loads, content.splitlines())) if name.endswith("jsonl") else orjson.loads(content)


def read(document: Any, file: str = "run.json") -> Trajectory | Dropped:
    assert openhands.detect(document)
    (item,) = openhands.read(document, Provenance(file, 1, openhands.name))
    return item


def read_one(document: Any, file: str = "run.json") -> Trajectory:
    item = read(document, file)
    assert isinstance(item, Trajectory), item
    return item


def act(id: int, action: str, source: str = "agent", **args: Any) -> dict[str, Any]:
    return {"id": id, "timestamp": "t", "source": source, "message": "", "action": action, "args": args}


def see(cause: int | None, observation: str, content: Any = "", **more: Any) -> dict[str, Any]:
    event = {"id": 90, "timestamp": "t", "source": "agent", "observation": observation, "content": content, **more}
    return event if cause is None else {**event, "cause": cause}


def called(event: dict[str, Any], name: str, arguments: str, said: str = "", id: str = "c0") -> dict[str, Any]:
    """The event with the model's answer, which has two calls: c0, and another."""
    calls = [{"id": i, "function": {"name": name, "arguments": arguments}} for i in ("c0", "c1")]
    message = {"role": "assistant", "content": said, "tool_calls": calls}
    response = {"id": "r", "choices": [{"message": message}]}
    return {**event, "tool_call_metadata": {"tool_call_id": id, "function_name": name, "model_response": response}}


ASK = act(0, "message", "user", content="Mend it.")
LS = act(2, "run", command="ls", thought=" look ", is_input=False, blocking=False, confirmation_state="confirmed")
LOOKED = Turn("look", Action("bash", {"command": "ls"}), "x.py")


# --------------------------------------------------------------------------------------------- real files


@needs_logs
def test_an_evaluations_output() -> None:
    runs = [read_one(record, "output.jsonl") for record in load("multi_swe_bench_examples_output.jsonl")]
    assert [len(run.acted) for run in runs] == [len(run.turns) for run in runs] == [23, 33, 49]
    assert [run.dropped for run in runs] == [{}, {REJECTED: 1}, {REJECTED: 1}]  # a command that the editor has not
    assert runs[0].task == TaskLink(
        "ponylang__ponyc-4595", "ponylang/ponyc", "f8a2feebba3aea298bde89d445ad35ca48602ca7"
    )
    assert runs[0].issue.startswith("ponyc segfaults when trying to match using a single element tuple form\n")
    assert runs[0].turns[-1].action == Action("submit")
    assert runs[2].outcome.exit_status is not None
    assert runs[2].outcome.exit_status.startswith("RuntimeError: Agent reached maximum iteration")
    assert all(run.outcome.patch for run in runs)
    tools = {turn.action.tool for run in runs for turn in run.turns if turn.action}
    assert tools == {"bash", "str_replace_editor", "submit", "think"}


@needs_logs
def test_each_observation_is_its_actions() -> None:
    """Told independently: the terminal repeats the command, the editor the path."""
    for record in load("multi_swe_bench_examples_output.jsonl"):
        caused = {event["cause"]: event for event in record["history"] if "cause" in event}
        calls = [event for event in record["history"] if "tool_call_metadata" in event and "action" in event]
        for turn, event in zip(read_one(record).turns, calls, strict=True):
            assert turn.action is not None
            if turn.action.tool == "submit":
                continue
            answer = caused[event["id"]]
            for key in {"command", "path"} & answer["extras"].keys() & turn.action.arguments.keys():
                assert answer["extras"][key] == turn.action.arguments[key]
            assert (turn.observation or "").startswith(answer["content"])


@needs_logs
def test_feedback_exports_are_paired_in_order() -> None:
    runs = [read_one(record) for record in load("adp_openhands_sample_raw_80a1efba.json")]
    assert [(len(run.turns), len(run.acted)) for run in runs] == [(17, 17), (11, 11), (3, 1), (25, 23), (19, 13)]
    assert not any(run.dropped for run in runs)
    assert runs[0].id == "244"
    finish = next(turn for turn in runs[0].turns if turn.action == Action("submit"))
    assert finish.observation is not None
    assert finish.observation.startswith("Can you check `opendevin/runtime/client/runtime.py`")  # the user's next wish


@needs_logs
@pytest.mark.parametrize(("name", "turns", "steps"), [("basic", 2, 2), ("basic_interactions", 3, 1)])
def test_replays(name: str, turns: int, steps: int) -> None:
    run = read_one(load(f"runtime_trajs_{name}.json"), f"{name}.json")
    assert (run.id, len(run.turns), len(run.acted), run.dropped) == (name, turns, steps, {})


@needs_logs
def test_the_old_resolvers_output_is_not_guessed_at() -> None:
    for record in load("resolver_mock_output.jsonl"):
        item = read(record)
        assert isinstance(item, Dropped)
        assert item.reason == UNSIGNED


# ------------------------------------------------------------------------------------------------ pairing


def test_a_cause_pairs_whatever_lies_between() -> None:
    run = read_one(
        [
            *(act(-1, "system", content="s"), ASK, act(1, "recall", "user", query="q"), see(1, "recall", "r")),
            *(LS, see(None, "agent_state_changed"), act(3, "message", "user", content="Wait."), see(2, "run", "x.py")),
            act(4, "finish", outputs={}, thought="Done."),
        ]
    )
    assert run.issue == "Mend it."
    assert run.turns == (
        Turn("look", Action("bash", {"command": "ls"}), "x.py\n\nWait."),
        Turn("Done.", Action("submit"), None),
    )
    assert run.dropped == {}
    assert run.shell == "persistent"


def test_without_causes_the_agent_waits_for_each_answer() -> None:
    def old(event: dict[str, Any]) -> dict[str, Any]:
        extras = event.get("args") or event.get("extras")
        return {**event, "extras": extras, "args": None, "id": None, "cause": None}

    other = see(None, "run", "y", extras={"command": "pwd"})
    mine = see(None, "run", "x.py", extras={"command": "ls"})
    assert read_one([*map(old, (ASK, LS, mine, other))]).turns == (LOOKED,)
    item = read([*map(old, (ASK, LS, other))])
    assert item == Dropped(1, "no action", f"1 × {UNANSWERED}")
    failed = see(None, "error", "no such file")
    assert read_one([*map(old, (ASK, LS, failed))]).turns[0].observation == "no such file"


def test_old_evaluations_have_pairs() -> None:
    history = [[ASK, see(None, "null")], [LS, see(2, "run", "x.py")]]
    run = read_one({"instance_id": "a__b-1", "history": history, "test_result": {"report": {"resolved": True}}})
    assert run.turns == (LOOKED,)
    assert (run.id, run.outcome) == ("a__b-1", Outcome(resolved=True))


def test_what_executed_nothing_is_counted() -> None:
    cat = act(4, "run", command="cat x.py")
    run = read_one(
        [
            *(ASK, LS, see(2, "run", "x.py"), see(None, "error", "Missing required parameters for function 'think'")),
            *(act(3, "run", command="a\nb"), see(3, "error", "ERROR: Cannot execute multiple commands at once.\n…")),
            *(cat, see(4, "user_rejected", "No.")),
            *(act(5, "run", command="c"), see(5, "run", "…", extras={"metadata": _BUSY})),
            *(act(6, "browse", url="u"), see(6, "error", "timed out")),  # it was tried: an observation
            *(called(act(7, "run"), "execute_bash", "no json"), see(7, "run", "x")),
            act(8, "run", command="tail"),
        ]
    )
    assert [turn.observation for turn in run.turns] == ["x.py", "timed out"]
    assert run.dropped == {REJECTED: 4, UNREADABLE: 1, UNANSWERED: 1}


_BUSY = {
    "prefix": "[Below is the output of the previous command.]\n",
    "suffix": '\n[Your command "c" is NOT executed. The previous command is still running - …]',
}


def test_a_sub_agents_turns_are_not_the_agents() -> None:
    run = read_one(
        [
            *(ASK, act(2, "delegate", agent="BrowsingAgent", inputs={"task": "t"}, thought="ask")),
            *(act(3, "message", "user", content="t"), act(4, "browse", url="u"), see(4, "browse", "page")),
            *(act(5, "finish"), see(None, "delegate", "182"), act(6, "message", content="So it is.")),
        ]
    )
    delegate = Action("delegate", {"agent": "BrowsingAgent", "inputs": '{"task": "t"}'})
    assert run.turns == (Turn("ask", delegate, "182"), Turn("So it is.", None, None))
    assert run.dropped == {SUB_AGENT: 2}


# -------------------------------------------------------------------------------------------------- calls


def test_the_models_own_call_comes_first() -> None:
    events = [
        *(ASK, called(LS, "execute_bash", '{"command": "ls -l", "security_risk": "LOW", "is_input": "false"}', "both")),
        *(see(2, "run", "x.py", extras={"metadata": {"prefix": "", "suffix": "\n[exit code 0]"}}),),
        called(act(3, "read", path="x.py"), "str_replace_editor", '{"command": "view", "view_range": [1, 2]}', id="c1"),
        see(3, "read", "1 x"),
    ]
    assert read_one(events).turns == (
        Turn("both", Action("bash", {"command": "ls -l"}), "x.py\n[exit code 0]"),
        Turn("", Action("str_replace_editor", {"command": "view", "view_range": "[1, 2]"}), "1 x"),
    )


@pytest.mark.parametrize(
    ("name", "arguments", "action"),
    [
        ("execute_bash", {"command": "ls", "timeout": 60}, Action("bash", {"command": "ls"})),
        (
            "execute_bash",
            {"command": "y", "is_input": True},
            Action("execute_bash", {"command": "y", "is_input": "true"}),
        ),
        ("execute_bash", {"command": "C-c"}, Action("execute_bash", {"command": "C-c"})),
        ("think", {"thought": "t"}, Action("think", {"thought": "t"})),
        ("finish", {"message": "Done.", "task_completed": "true"}, Action("submit")),
    ],
)
def test_only_exact_equivalents_are_ours(name: str, arguments: dict[str, Any], action: Action) -> None:
    event = called(act(2, "x"), name, orjson.dumps(arguments).decode())
    (turn,) = read_one([ASK, event, see(2, "x", "o")]).turns
    assert turn.action == action
    assert turn.thought == ("Done." if name == "finish" else "")


def test_reasoning_is_thought_once() -> None:
    event = called(LS, "execute_bash", '{"command": "ls"}', "<think>why</think>\nI look.")
    event["tool_call_metadata"]["model_response"]["choices"][0]["message"]["reasoning_content"] = "why\n"
    assert read_one([ASK, event, see(2, "run", "x.py")]).turns[0].thought == "why\n\nI look."


# ------------------------------------------------------------------------------------------------- spoilt


def test_only_malformed_is_raised() -> None:
    events = [
        *(ASK, called(LS, "execute_bash", '{"command": "ls"}', "s"), see(2, "run", "x", extras={"metadata": _BUSY})),
        *(act(3, "run_ipython", code="1"), see(None, "run_ipython", "1", extras={"code": "1"})),
        *(act(4, "delegate"), see(None, "delegate", "d"), see(None, "error", "e"), act(5, "message", content="m")),
    ]
    result = {"git_patch": "diff", "report": {"resolved": True}}
    record = {"instance_id": "a__b-1", "instance": {"base_commit": "c"}, "history": events, "test_result": result}
    old = {"instruction": "i", "git_patch": "p", "history": [{"action": "run"}]}
    for document in (events, record, old, [[ASK, see(0, "null")]]):
        assert bears(openhands, document) > 10
    for row in broken(LS):
        openhands.is_part(row)


@pytest.mark.parametrize(
    "junk",
    [
        *(None, 1, "x", [], {}, [1], {"history": []}, {"history": [{"role": "user", "content": "", "action": "x"}]}),
        *({"trajectory": [{"action": "ls", "observation": ""}]}, {"source": "agent", "timestamp": "t", "action": {}}),
    ],
)
def test_what_is_none(junk: Any) -> None:
    assert not openhands.detect(junk)
    assert not openhands.is_part(junk)
