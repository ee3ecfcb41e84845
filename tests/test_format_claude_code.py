"""Claude Code's sessions: branches, answers over several rows, sub-agents, and calls that were never executed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from broken import bears, broken

from swe_srl.containers import documents
from swe_srl.formats import claude_code
from swe_srl.formats.claude_code import ABANDONED, INTERRUPTED
from swe_srl.formats.document import Dropped
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.types import Action, Provenance, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories" / "claude_code_sessions"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")


def read(document: Any, file: str = "session.jsonl") -> list[Trajectory | Dropped]:
    assert claude_code.detect(document)
    return list(claude_code.read(document, Provenance(file, 1, claude_code.name)))


def read_one(document: Any, file: str = "session.jsonl") -> Trajectory:
    (item,) = read(document, file)
    assert isinstance(item, Trajectory), item
    return item


def load(name: str) -> Trajectory:
    rows = [document for _, document in documents(LOGS / name)]
    return read_one(rows[0] if len(rows) == 1 else rows, name)


# -------------------------------------------------------------------------------------------- real files


@needs_logs
@pytest.mark.parametrize(
    ("name", "steps", "turns"),
    [
        ("codemie_incremental-subagents_turn-2.jsonl", 14, 15),
        ("representative_messages.jsonl", 2, 5),
        ("sample_session.json", 12, 15),
        ("todowrite_examples.jsonl", 3, 6),
        ("vscode_30530d66.jsonl", 25, 27),
        ("vscode_50a7220d.jsonl", 1, 2),
        ("vscode_50a7220d_subagent_a21e2f5.jsonl", 1, 2),
    ],
)
def test_real_sessions(name: str, steps: int, turns: int) -> None:
    trajectory = load(name)
    assert (len(trajectory.acted), len(trajectory.turns), trajectory.dropped) == (steps, turns, {})
    assert trajectory.issue == trajectory.issue.strip() != ""
    assert "<command-" not in trajectory.issue
    assert "<system-reminder>" not in trajectory.issue


@needs_logs
def test_calls_side_by_side_get_their_own_results() -> None:
    """Four calls of one answer, whose results are written in the order in which they ended."""
    trajectory = load("vscode_30530d66.jsonl")
    assert trajectory.issue.startswith("Please analyze this codebase and create a CLAUDE.md file")  # what /init means
    four = trajectory.turns[1:5]
    assert [turn.action.tool for turn in four if turn.action] == ["bash", *["str_replace_editor"] * 2, "Glob"]
    starts = ["total 30088", "     1→{\n", "     1→find-issues script", "No files found"]
    for turn, start in zip(four, starts, strict=True):
        assert (turn.observation or "").startswith(start)
    assert Counter(turn.action.tool for turn in trajectory.acted if turn.action) == {
        "Glob": 8,
        "str_replace_editor": 7,
        "TodoWrite": 5,
        "bash": 5,
    }


@needs_logs
def test_a_subagent_has_its_own_id() -> None:
    session, subagent = load("vscode_50a7220d.jsonl"), load("vscode_50a7220d_subagent_a21e2f5.jsonl")
    assert session.issue == "use a subagent to run 'sleep 10'. just a test"
    assert subagent.issue == "Run the command: sleep 10"
    assert subagent.id == f"{session.id}-a21e2f5"
    assert subagent.acted[0].action == Action("bash", {"command": "sleep 10"})


# ------------------------------------------------------------------------------------------ made by hand


def row(type: str, uuid: str, parent: str | None, content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": type, "content": content, **more.pop("message", {})}
    return {"type": type, "uuid": uuid, "parentUuid": parent, "sessionId": "s", "message": message, **more}


def ask(uuid: str, parent: str | None, text: str, **more: Any) -> dict[str, Any]:
    return row("user", uuid, parent, text, **more)


def say(uuid: str, parent: str, text: str, id: str = "", **more: Any) -> dict[str, Any]:
    return row("assistant", uuid, parent, [{"type": "text", "text": text}], message={"id": id or uuid}, **more)


def use(uuid: str, parent: str, name: str = "Bash", id: str = "", **given: Any) -> dict[str, Any]:
    part = {"type": "tool_use", "id": f"c{uuid}", "name": name, "input": given or {"command": uuid}}
    return row("assistant", uuid, parent, [part], message={"id": id or uuid})


def result(uuid: str, of: str, content: Any = "ok", error: bool = False, **more: Any) -> dict[str, Any]:
    part = {"type": "tool_result", "tool_use_id": f"c{of}", "content": content, "is_error": error}
    return row("user", uuid, of, [part], **more)


def bash(command: str) -> Action:
    return Action("bash", {"command": command})


def test_an_answer_is_several_rows() -> None:
    thinking = row("assistant", "b", "a", [{"type": "thinking", "thinking": " hm "}], message={"id": "m"})
    rows = [
        *(ask("a", None, "Mend it."), thinking, say("c", "b", "I look.", "m")),
        *(use("d", "c", id="m"), result("e", "d"), use("f", "e", id="m"), result("g", "f")),
        *(say("h", "g", "Done."), ask("i", "h", "Thanks.")),
    ]
    trajectory = read_one(rows)
    assert (trajectory.id, trajectory.issue, trajectory.shell) == ("s", "Mend it.", "persistent")
    assert trajectory.turns == (
        Turn("hm\n\nI look.", bash("d"), "ok"),
        Turn("", bash("f"), "ok"),
        Turn("Done.", None, "Thanks."),
    )


def test_an_abandoned_branch_is_counted_and_no_step() -> None:
    rows = [
        *(ask("a", None, "Mend it."), use("b", "a"), result("c", "b")),
        *(use("d", "c"), result("e", "d"), use("f", "e"), result("g", "f")),
        *(ask("h", "c", "No: the other one."), use("i", "h"), result("j", "i")),
    ]
    trajectory = read_one(rows)
    assert [turn.action for turn in trajectory.turns] == [bash("b"), bash("i")]
    assert trajectory.turns[0].observation == "ok\n\nNo: the other one."
    assert trajectory.dropped == {ABANDONED: 2}


def test_what_was_before_a_compaction_stays() -> None:
    boundary = {
        "type": "system",
        "subtype": "compact_boundary",
        "sessionId": "s",
        "uuid": "d",
        "parentUuid": None,
        "logicalParentUuid": "c",
    }
    told = "This session is being continued from a previous conversation that ran out of context. …"
    begun = [ask("a", None, "Mend it."), use("b", "a"), result("c", "b")]
    after = [ask("e", "d", told, isCompactSummary=True), use("f", "e"), result("g", "f")]
    for between in ([boundary], [], [{**boundary, "logicalParentUuid": "lost"}]):
        trajectory = read_one(begun + between + after)
        assert trajectory.issue == "Mend it."
        assert trajectory.turns == (Turn("", bash("b"), "ok"), Turn("", bash("f"), "ok"))
    assert read_one([boundary, *after]).issue == told  # nothing else tells what it is about


def test_a_prompt_without_a_parent_begins_another_conversation() -> None:
    rows = [ask("a", None, "One."), use("b", "a"), result("c", "b"), ask("d", None, "Two."), use("e", "d")]
    one, two = read([*rows, result("f", "e")])
    assert isinstance(one, Trajectory)
    assert isinstance(two, Trajectory)
    assert (one.issue, two.issue) == ("One.", "Two.")
    assert (one.provenance.line, two.provenance.line) == (1, 4)
    unchained = [{**row, "parentUuid": None} for row in rows]
    assert read_one(unchained).turns[0].observation == "ok\n\nTwo."


def test_a_subagent_is_never_mixed_in() -> None:
    side = {"isSidechain": True, "agentId": "z"}
    for known in (side, {"isSidechain": True}):  # old logs do not name the agent
        for parent in (None, "b"):
            rows = [
                *(ask("a", None, "Mend it."), use("b", "a", "Task", prompt="Look.")),
                *(ask("x", parent, "Look.", **known), {**use("y", "x"), **known}, {**result("z", "y"), **known}),
                *(result("c", "b", "It is there."), use("d", "c"), result("e", "d")),
            ]
            main, sub = read(rows)
            assert isinstance(main, Trajectory)
            assert isinstance(sub, Trajectory)
            assert (main.issue, sub.issue) == ("Mend it.", "Look.")
            assert [turn.action for turn in main.turns] == [Action("Task", {"prompt": "Look."}), bash("d")]
            assert sub.turns == (Turn("", bash("y"), "ok"),)
            assert sub.id == ("s-z" if "agentId" in known else "s")


def test_copies_and_rows_that_say_nothing() -> None:
    rows: list[Any] = [
        *({"type": "summary", "summary": "x", "leafUuid": "a"}, "text", 7, [], {"no": "type"}, None),
        *(ask("a", None, "Mend it."), {"type": "progress", "uuid": "p", "parentUuid": "a", "sessionId": "s"}),
        *(use("b", "p"), result("c", "b"), use("b", "p"), {**result("c", "b"), "parentUuid": None}),
        ask("d", "c", "Caveat: The messages below were generated by the user while …", isMeta=True),
        ask("e", "d", "<command-name>/model</command-name>"),
        ask("f", "e", "<local-command-stdout>Set.</local-command-stdout>"),
        say("g", "f", "API Error: 500", isApiErrorMessage=True),
        row("assistant", "h", "g", "No response requested.", message={"model": "<synthetic>"}),
        row("user", "i", "h", [{"type": "text", "text": "<system-reminder>x</system-reminder>"}]),
    ]
    assert read_one(rows).turns == (Turn("", bash("b"), "ok"),)
    assert read_one({"loglines": rows}).turns == (Turn("", bash("b"), "ok"),)
    assert read(rows[:1]) == [Dropped(1, "no action", "1 rows, no message")]


@pytest.mark.parametrize(
    ("shown", "more", "reason"),
    [
        ("<tool_use_error>String to replace not found in file.</tool_use_error>", {}, REJECTED),
        ("<tool_use_error>InputValidationError: Read failed …</tool_use_error>", {}, REJECTED),
        ("The user doesn't want to proceed with this tool use. The tool use was rejected …", {}, REJECTED),
        ("Permission to use Bash with command ls has been denied.", {}, REJECTED),
        ("Claude requested permissions to write to /x, but you haven't granted it yet.", {}, REJECTED),
        ("cd to '/x' was blocked. For security, Claude Code may only change …", {}, REJECTED),
        ("a hook's own words", {"toolDenialKind": "permission-rule"}, REJECTED),
        ("[Request interrupted by user for tool use]", {}, INTERRUPTED),
        ("[Tool result missing due to internal error]", {}, UNANSWERED),
        ("Exit code 1\nPermission to use Bash", {}, None),
        ("File does not exist.", {}, None),
    ],
)
def test_a_refused_call_is_no_step_and_a_failing_one_is(shown: str, more: Any, reason: str | None) -> None:
    rows = [ask("a", None, "Mend it."), use("b", "a"), result("c", "b"), use("d", "c")]
    trajectory = read_one([*rows, result("e", "d", shown, error=True, **more)])
    assert trajectory.dropped == ({reason: 1} if reason else {})
    assert len(trajectory.acted) == (1 if reason else 2)


def test_calls_that_cannot_be_read_or_have_no_result() -> None:
    bad = row("assistant", "b", "a", ["x", {"type": "tool_use", "id": "c1", "name": 7, "input": {}}])
    rows = [ask("a", None, "Mend it."), bad, result("c", "1"), use("d", "c"), result("e", "d"), use("f", "e")]
    trajectory = read_one([*rows, ask("g", "f", "And?")])
    assert trajectory.turns == (Turn("", bash("d"), "ok"),)  # the remark is no answer to the call that has none
    assert trajectory.dropped == {UNREADABLE: 2, UNANSWERED: 1}


def test_ids_that_begin_anew_in_each_answer() -> None:
    """Servers of other models do that: a call's result is the next one with its id, not the session's first."""
    rows = [ask("a", None, "Mend it."), use("b", "a", "Bash", command="ls"), result("c", "b", "first")]
    rows += [use("d", "c", "Bash", command="id"), use("e", "d", "Bash", command="pwd"), result("f", "e", "second")]
    for row in rows[1:]:
        (part,) = row["message"]["content"]
        part["tool_use_id" if "tool_use_id" in part else "id"] = "call_0"
    trajectory = read_one(rows)
    assert trajectory.turns == (Turn("", bash("ls"), "first"), Turn("", bash("pwd"), "second"))
    assert trajectory.dropped == {UNANSWERED: 1}


EDITOR = "str_replace_editor"


@pytest.mark.parametrize(
    ("name", "given", "shown", "action"),
    [
        ("Bash", {"command": "ls", "description": "d", "timeout": 9}, "", bash("ls")),
        ("Bash", {"command": "ls", "run_in_background": False}, "", bash("ls")),
        ("Bash", {"command": "ls", "run_in_background": True}, "", None),
        ("Read", {"file_path": "/x"}, "", Action(EDITOR, {"command": "view", "path": "/x"})),
        (
            *("Read", {"file_path": "/x", "offset": 10, "limit": 5}, ""),
            Action(EDITOR, {"command": "view", "path": "/x", "view_range": "[10, 14]"}),
        ),
        (
            *("Read", {"file_path": "/x", "offset": 0}, ""),
            Action(EDITOR, {"command": "view", "path": "/x", "view_range": "[1, -1]"}),
        ),
        (
            *("Read", {"file_path": "/x", "limit": 5}, ""),
            Action(EDITOR, {"command": "view", "path": "/x", "view_range": "[1, 5]"}),
        ),
        ("Read", {"file_path": "/x", "offset": "10"}, "", None),
        ("Read", {"file_path": "/x", "limit": -1}, "", None),
        ("Read", {"file_path": "/x"}, "1→\n" * 2000, None),  # ours would show the rest of the file
        ("Read", {"file_path": "/x"}, "File content (31000 tokens) exceeds maximum allowed tokens", None),
        (
            *("Read", {"file_path": "/x", "limit": 3000}, "1→\n" * 3000),
            Action(EDITOR, {"command": "view", "path": "/x", "view_range": "[1, 3000]"}),
        ),
        ("Read", {"file_path": "/x.PNG"}, "", None),
        ("Read", {"file_path": "C:\\x"}, "", None),
        (
            *("Edit", {"file_path": "/x", "old_string": "a", "new_string": "", "replace_all": False}, ""),
            Action(EDITOR, {"command": "str_replace", "path": "/x", "old_str": "a", "new_str": ""}),
        ),
        ("Edit", {"file_path": "/x", "old_string": "a", "new_string": "b", "replace_all": True}, "", None),
        ("Edit", {"file_path": "/x", "old_string": "", "new_string": "b"}, "", None),
        (
            *("Write", {"file_path": "/x", "content": "a"}, "File created successfully at: /x"),
            Action(EDITOR, {"command": "create", "path": "/x", "file_text": "a"}),
        ),
        ("Write", {"file_path": "/x", "content": "a"}, "The file /x has been updated.", None),
        ("Grep", {"pattern": "a"}, "", None),
    ],
)
def test_tools_become_ours_where_they_do_exactly_the_same(
    name: str, given: dict[str, Any], shown: str, action: Action | None
) -> None:
    rows = [ask("a", None, "Mend it."), use("b", "a", name, **given), result("c", "b", shown)]
    seen = read_one(rows).acted[0].action
    assert seen is not None
    if action is None:
        assert (seen.tool, set(seen.arguments)) == (name, set(given))
    else:
        assert seen == action


def test_other_documents_are_no_sessions() -> None:
    for document in (None, [], {}, {"loglines": None}, [{"type": "user"}], [{"role": "user", "content": "x"}]):
        assert not claude_code.detect(document)
    assert not claude_code.is_part({"sessionId": "s"})


def test_broken_sessions() -> None:
    rows = [
        *(ask("a", None, "Mend it."), say("b", "a", "I look.", "m"), use("c", "b", "Read", "m", file_path="/x")),
        *(result("d", "c", [{"type": "text", "text": "x"}], error=True), use("e", "d"), result("f", "e")),
    ]
    assert bears(claude_code, rows) > 100
    assert bears(claude_code, {"loglines": rows}) > 100
    for mutant in broken(rows[2]):
        claude_code.is_part(mutant)
