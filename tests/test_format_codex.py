"""Codex' rollouts: answers of several items, refused calls, turns that were taken back, older shapes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from broken import bears, broken

from swe_srl.containers import documents
from swe_srl.formats import codex
from swe_srl.formats.claude_code import ABANDONED, INTERRUPTED
from swe_srl.formats.document import Dropped
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.types import Action, Provenance, TaskLink, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories" / "codex_sessions"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")


def read(document: Any) -> Trajectory | Dropped:
    assert codex.detect(document)
    (item,) = codex.read(document, Provenance("rollout.jsonl", 1, codex.name))
    return item


def read_one(document: Any) -> Trajectory:
    item = read(document)
    assert isinstance(item, Trajectory), item
    return item


def load(name: str) -> list[Any]:
    return [document for _, document in documents(LOGS / name)]


# -------------------------------------------------------------------------------------------- real files


@needs_logs
def test_real_rollouts() -> None:
    assert read(load("codemie_turn-2.jsonl")) == Dropped(1, "no action", "25 rows, no call that was executed")
    sample = read_one(load("codex-rollout.sample.jsonl"))
    assert [turn.action for turn in sample.acted] == [bash("pwd && ls"), bash("cat README.md")]
    assert sample.turns[0].thought.endswith("summarize the repo.\n\nInspecting the directory.")
    trajectory = read_one(load("rollout-2026-05-11T13-28-45.jsonl"))
    assert trajectory.id == "019e1695-0522-7c83-8b39-0dd379793f80"
    assert trajectory.issue.startswith("# Files mentioned by the user:")
    assert Counter(turn.action.tool for turn in trajectory.acted if turn.action) == {
        "bash": 35,
        "mcp__node_repl__js": 3,
    }
    assert (len(trajectory.turns), trajectory.dropped) == (41, {})


@needs_logs
def test_each_call_gets_the_output_with_its_id() -> None:
    rows = load("rollout-2026-05-11T13-28-45.jsonl")
    items = [row["payload"] for row in rows if row["type"] == "response_item"]
    outputs = {item["call_id"]: item["output"] for item in items if item["type"] == "function_call_output"}
    expected = [outputs[item["call_id"]] for item in items if item["type"] == "function_call"]
    assert [turn.observation for turn in read_one(rows).acted] == expected


# ------------------------------------------------------------------------------------------ made by hand


def bash(command: str) -> Action:
    return Action("bash", {"command": command})


def item(type: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": "t", "type": "response_item", "payload": {"type": type, **payload}}


def event(type: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": "t", "type": "event_msg", "payload": {"type": type, **payload}}


def message(role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return item("message", role=role, content=[{"type": kind, "text": text}])


def call(id: str, name: str = "exec_command", **given: Any) -> dict[str, Any]:
    return item("function_call", name=name, call_id=id, arguments=orjson.dumps(given or {"cmd": id}).decode())


def output(id: str, text: Any = "ok") -> dict[str, Any]:
    return item("function_call_output", call_id=id, output=text)


META = {
    "type": "session_meta",
    "payload": {
        "id": "s",
        "cwd": "/work",
        "git": {"commit_hash": "c0ffee", "repository_url": "git@github.com:psf/requests.git"},
    },
}
CONTEXT = message("user", "<environment_context>\n  <cwd>/work</cwd>\n</environment_context>")


def test_items_become_turns() -> None:
    rows = [
        *(META, message("developer", "Be good."), CONTEXT, message("user", "Mend it.")),
        item("reasoning", summary=[{"type": "summary_text", "text": "**Look**"}], encrypted_content="gAAA"),
        *(event("agent_message", message="I look."), message("assistant", "I look.")),
        *(call("a"), call("b"), output("b", "2"), output("a", "1")),
        *(call("c"), output("c", [{"type": "input_text", "text": "3"}, {"type": "input_image"}])),
        {"type": "compacted", "payload": {"message": "Summary.", "replacement_history": [message("user", "x")]}},
        *(message("assistant", "Done."), message("user", "Thanks.")),
    ]
    trajectory = read_one(rows)
    assert (trajectory.id, trajectory.issue, trajectory.shell) == ("s", "Mend it.", "fresh")
    assert trajectory.task == TaskLink(None, "psf/requests", "c0ffee")
    assert trajectory.turns == (
        Turn("**Look**\n\nI look.", bash("a"), "1"),
        Turn("", bash("b"), "2"),
        Turn("", bash("c"), "3"),
        Turn("Done.", None, "Thanks."),
    )


def test_ids_that_begin_anew_in_each_answer() -> None:
    """A call's output is the next one with its id, not the session's first."""
    rows = [META, message("user", "Mend it."), call("call_0", cmd="ls"), output("call_0", "first")]
    rows += [call("call_0", cmd="id"), call("call_0", cmd="pwd"), output("call_0", "second")]
    trajectory = read_one(rows)
    assert trajectory.turns == (Turn("", bash("ls"), "first"), Turn("", bash("pwd"), "second"))
    assert trajectory.dropped == {UNANSWERED: 1}


def test_older_rows_are_bare_items() -> None:
    rows = [
        {"id": "s", "timestamp": "t", "instructions": None, "git": {}},
        *({"record_type": "state"}, "text", 7, None, {"no": "type"}),
        *(row["payload"] for row in (CONTEXT, message("user", "Mend it."))),
        {"type": "local_shell_call", "call_id": "a", "action": {"type": "exec", "command": ["git", "log", "-1 a"]}},
        output("a", '{"output":"x","metadata":{"exit_code":1}}')["payload"],
        *(row["payload"] for row in (call("b", "shell", command=["bash", "-lc", "ls | wc"]), output("b"))),
    ]
    trajectory = read_one(rows)
    assert (trajectory.id, trajectory.issue) == ("s", "Mend it.")
    assert trajectory.turns == (
        Turn("", bash("git log '-1 a'"), '{"output":"x","metadata":{"exit_code":1}}'),
        Turn("", bash("ls | wc"), "ok"),
    )


def test_turns_that_were_taken_back_are_counted_and_no_steps() -> None:
    def turn(prompt: str, id: str) -> list[dict[str, Any]]:
        return [message("user", prompt), event("user_message", message=prompt), call(id), output(id)]

    rows = [META, CONTEXT, *turn("One.", "a"), *turn("Two.", "b"), *turn("Three.", "c")]
    trajectory = read_one([*rows, event("thread_rolled_back", num_turns=2), *turn("Other.", "d")])
    assert trajectory.turns == (Turn("", bash("a"), "ok\n\nOther."), Turn("", bash("d"), "ok"))
    assert trajectory.dropped == {ABANDONED: 2}
    assert len(read_one([*rows, event("thread_rolled_back", num_turns="x")]).turns) == 3


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ("exec command rejected by user", REJECTED),
        ('exec_command failed for `ls`: CreateProcess { message: "Rejected(\\"rejected by user\\")" }', REJECTED),
        ("approval policy is Never; reject command — you cannot ask for escalated permissions …", REJECTED),
        ("unsupported call: look", REJECTED),
        ("failed to parse function arguments: missing field `cmd`", REJECTED),
        ("aborted by user after 3.2s", INTERRUPTED),
        ("aborted", INTERRUPTED),
        (None, UNANSWERED),
        ("Process exited with code 1\nOutput:\nrejected by user", None),
        ("command timed out after 10 milliseconds", None),
    ],
)
def test_a_refused_call_is_no_step_and_a_failing_one_is(shown: str | None, reason: str | None) -> None:
    rows = [META, message("user", "Mend it."), call("a"), output("a"), call("b")]
    trajectory = read_one(rows + ([output("b", shown)] if shown else []))
    assert trajectory.dropped == ({reason: 1} if reason else {})
    assert len(trajectory.acted) == (1 if reason else 2)


def test_calls_that_cannot_be_read() -> None:
    broken_call = item("function_call", name="exec_command", call_id="a", arguments="{")
    search = item("web_search_call", action={"query": "x"})
    rows = [META, message("user", "Mend it."), broken_call, output("a"), search, call("b"), output("b")]
    assert read_one(rows).dropped == {UNREADABLE: 1, UNANSWERED: 1}


@pytest.mark.parametrize(
    ("name", "given", "shown", "command"),
    [
        ("exec_command", {"cmd": "ls", "workdir": "/work", "yield_time_ms": 9, "login": True}, "", "ls"),
        ("exec_command", {"cmd": "ls", "sandbox_permissions": "require_escalated", "justification": "j"}, "", "ls"),
        ("exec_command", {"cmd": "a & b", "workdir": "/a b"}, "", "cd '/a b'\na & b"),
        ("exec_command", {"cmd": "ls"}, "Chunk ID: 1\nProcess running with session ID 7\nOutput:\n", None),
        ("exec_command", {"cmd": "ls", "tty": True}, "", None),
        ("exec_command", {"cmd": "ls", "tty": False, "shell": "/bin/bash"}, "", "ls"),
        ("exec_command", {"cmd": "ls", "shell": "/bin/zsh"}, "", None),
        ("shell_command", {"command": "ls", "timeout_ms": 9}, "", "ls"),
        ("shell", {"command": ["zsh", "-lc", "ls -l"]}, "", "zsh -lc 'ls -l'"),
        ("shell", {"command": ["apply_patch", "*** Begin Patch"]}, "", None),
        ("shell_command", {"command": "apply_patch <<'EOF'\nEOF"}, "", None),
        ("shell", {"command": ["ls", 7]}, "", None),
        ("write_stdin", {"session_id": 7, "chars": ""}, "", None),
        ("update_plan", {"plan": []}, "", None),
    ],
)
def test_commands_become_bash_where_it_does_exactly_the_same(
    name: str, given: dict[str, Any], shown: str, command: str | None
) -> None:
    rows = [META, message("user", "Mend it."), call("a", name, **given), output("a", shown)]
    seen = read_one(rows).acted[0].action
    assert seen is not None
    if command is None:
        assert (seen.tool, set(seen.arguments)) == (name, set(given))
    else:
        assert seen == bash(command)


def test_a_turn_may_be_in_another_directory() -> None:
    context = {"type": "turn_context", "payload": {"cwd": "/other"}}
    rows = [META, message("user", "Mend it."), call("a"), output("a"), context, call("b"), output("b")]
    assert [turn.action for turn in read_one(rows).acted] == [bash("a"), bash("cd /other\nb")]


def test_patches_and_other_servers_tools_keep_their_names() -> None:
    patch = item("custom_tool_call", name="apply_patch", call_id="a", input="*** Begin Patch")
    done = item("custom_tool_call_output", call_id="a", output="Done!")
    other = item("function_call", name="js", namespace="mcp__repl__", call_id="b", arguments='{"code": "1"}')
    trajectory = read_one([META, message("user", "Mend it."), patch, done, other, output("b")])
    assert [turn.action for turn in trajectory.acted] == [
        Action("apply_patch", {"input": "*** Begin Patch"}),
        Action("mcp__repl__js", {"code": "1"}),
    ]


def test_other_documents_are_no_rollouts() -> None:
    answer = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}]}
    for document in (None, [], {}, META, [{"type": "event"}], [answer], [{"type": "response_item"}]):
        assert not codex.detect(document)


def test_broken_rollouts() -> None:
    rows = [
        *(META, message("user", "Mend it."), event("user_message", message="Mend it.")),
        item("reasoning", summary=[{"type": "summary_text", "text": "Look."}]),
        *(call("a", "shell", command=["bash", "-lc", "ls"]), output("a", [{"type": "input_text", "text": "x"}])),
        *(event("thread_rolled_back", num_turns=1), message("user", "Other."), call("b"), output("b")),
    ]
    assert bears(codex, rows) > 100
    assert bears(codex, [row["payload"] for row in rows]) > 100
    shell = item("local_shell_call", call_id="a", action={"type": "exec", "command": ["ls"], "working_directory": "/x"})
    assert bears(codex, [META, shell, output("a")]) > 50
    for row in (META, rows[1]["payload"], rows[4]["payload"]):
        for mutant in broken(row):
            codex.is_part(mutant)
