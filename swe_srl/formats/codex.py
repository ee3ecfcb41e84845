"""Codex' session logs, ~/.codex/sessions/YYYY/MM/DD/rollout-*.jsonl: one row an event, {timestamp, type, payload}.

The model's answer is a run of `response_item` rows: reasoning, a message, calls. Rows of `event_msg` are copies for
the display, but for two things that only they tell well: what the user typed, and that turns were taken back. In
older logs the rows are the bare items, after a first row with the session's id.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from swe_srl.formats.calls import action
from swe_srl.formats.claude_code import ABANDONED, INTERRUPTED
from swe_srl.formats.document import Dropped, Malformed, optional_text, own_id
from swe_srl.formats.task import issue_in
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE, Turns, answers_by_id
from swe_srl.types import Action, Provenance, TaskLink, Trajectory

name = "codex"

_KINDS = frozenset({"session_meta", "response_item", "event_msg", "turn_context", "compacted", "world_state"})
_CALLS = frozenset({"function_call", "custom_tool_call", "local_shell_call", "web_search_call"})
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
_BARE = _CALLS | _OUTPUTS | {"message", "reasoning"}

# How Codex answers a call that it did not run. Of a command that was refused it may also write
# exec_command failed for `…`: CreateProcess { message: "Rejected(\"rejected by user\")" }
_REFUSALS = (
    *("exec command rejected", "patch rejected", "rejected by user", "execution denied", "approval policy is "),
    *("unsupported call: ", "unsupported custom tool call: ", "failed to parse function arguments"),
)
_RUNNING = "Process running with session ID"

# User messages that no user wrote.
_NOT_SAID = (
    *("<environment_context>", "<user_instructions>", "# AGENTS.md instructions for ", "<INSTRUCTIONS>"),
    *("<permissions instructions>", "<turn_aborted>", "<user_shell_command>", "<skill>", "<collaboration_mode>"),
)

# Arguments that change nothing in what a command does: limits of time and text, and leave to run unconfined.
_LEFT_OUT = frozenset(
    {
        *("timeout", "timeout_ms", "yield_time_ms", "max_output_tokens", "login"),
        *("with_escalated_permissions", "sandbox_permissions", "justification", "prefix_rule"),
    }
)
_REPOSITORY = re.compile(r"(?:https?://|ssh://|git@)[^/:]+[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?")

_Payload = Mapping[str, Any]


def is_part(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    kind = row.get("type")
    if not isinstance(kind, str):
        return row.get("record_type") == "state" or {"id", "timestamp", "instructions"} <= row.keys()
    if kind in _KINDS:
        return isinstance(row.get("payload"), dict)
    if kind == "message":
        return any(isinstance(part, dict) and _type(part) in _SPOKEN for part in _list(row.get("content")))
    return kind in _BARE and ("call_id" in row or "summary" in row)


def detect(document: object) -> bool:
    return isinstance(document, list) and any(is_part(row) for row in document[:20])


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    rows = [row for line in document if (row := _row(line))]
    turns = Turns()
    issue = _replay(_standing(rows, turns), turns)
    kept, dropped = turns.close()
    if not any(turn.action for turn in kept):
        yield Dropped(provenance.line, "no action", f"{len(rows)} rows, no call that was executed")
        return
    meta = next((payload for kind, payload in rows if kind == "session_meta"), {})
    yield Trajectory(
        id=own_id(optional_text(meta.get("id")), provenance.file, provenance.line),
        issue=issue_in(issue),
        turns=kept,
        provenance=provenance,
        task=_task(meta.get("git")),
        shell="fresh",
        dropped=dropped,
    )


def _row(line: object) -> tuple[str, _Payload] | None:
    """(kind, payload) of a row, a bare item of an older log included."""
    if not isinstance(line, dict):
        return None
    kind, payload = line.get("type"), line.get("payload")
    if isinstance(kind, str):
        return (kind, payload) if isinstance(payload, dict) else ("response_item", line)
    return ("session_meta", line) if "instructions" in line else None


def _task(git: object) -> TaskLink:
    if not isinstance(git, dict):
        return TaskLink()
    url = optional_text(git.get("repository_url"))
    found = _REPOSITORY.fullmatch(url) if url else None
    return TaskLink(None, found and found[1], optional_text(git.get("commit_hash")))


# ------------------------------------------------------------------------------------------ what stands


def _standing(rows: Sequence[tuple[str, _Payload]], turns: Turns) -> list[str | _Payload]:
    """What users said (text) and all items, in order, without the turns that a user took back.

    The calls of such turns are counted in `turns`. What users typed stands twice in most logs: as an event, and
    as a message among others that Codex wrote itself. The events count if there are any.
    """
    typed = any(_typed(kind, payload) for kind, payload in rows)
    standing: list[str | _Payload] = []
    for kind, payload in rows:
        said = _typed(kind, payload) if typed else _messaged(kind, payload)
        if said:
            standing.append(said)
        elif kind in ("response_item", "turn_context", "session_meta"):
            standing.append(payload)
        elif kind == "event_msg" and payload.get("type") == "thread_rolled_back":
            _take_back(standing, payload.get("num_turns"), turns)
    return standing


def _take_back(standing: list[str | _Payload], count: object, turns: Turns) -> None:
    """Cut off the last `count` of the user's messages and all that came after them."""
    prompts = [index for index, item in enumerate(standing) if isinstance(item, str)]
    if not isinstance(count, int) or count < 1 or not prompts:
        return
    first = prompts[max(len(prompts) - count, 0)]
    for item in standing[first:]:
        if not isinstance(item, str) and _type(item) in _CALLS:
            turns.drop(ABANDONED)
    del standing[first:]


def _typed(kind: str, payload: _Payload) -> str:
    is_said = kind == "event_msg" and payload.get("type") == "user_message"
    return (optional_text(payload.get("message")) or "").strip() if is_said else ""


def _messaged(kind: str, payload: _Payload) -> str:
    if kind != "response_item" or payload.get("type") != "message" or payload.get("role") != "user":
        return ""
    parts = [part.strip() for part in _texts(payload.get("content"))]
    return "\n\n".join(part for part in parts if part and not part.startswith(_NOT_SAID))


# -------------------------------------------------------------------------------------- items → turns


def _replay(standing: Sequence[str | _Payload], turns: Turns) -> str:
    """Fill `turns`; return the issue, which is what a user said first."""
    outputs = _outputs(standing)
    issue = ""
    answer = _Answer(turns)
    for number, item in enumerate(standing):
        if isinstance(item, str):
            answer.end()
            if issue:
                turns.remark(item)
            issue = issue or item
        else:
            answer.take(item, outputs.get(number))
    answer.end()
    return issue


def _outputs(standing: Sequence[str | _Payload]) -> dict[int, str]:
    """A call's number → its output."""
    events: list[tuple[bool, str | None]] = []
    texts: dict[int, str] = {}
    for number, item in enumerate(standing):
        kind, id = ("", None) if isinstance(item, str) else (_type(item), optional_text(item.get("call_id")))
        if kind in _OUTPUTS and not isinstance(item, str) and isinstance(output := item.get("output"), str | list):
            texts[number] = "\n".join(_texts(output))
        events.append((number in texts, id if number in texts or kind in _CALLS else None))
    return {call: texts[output] for call, output in answers_by_id(events).items()}


class _Answer:
    """The model's answer that is being read: what it thought and said, and its calls."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._thoughts: list[str] = []
        self._calls: list[tuple[_Payload, str | None]] = []  # each with its output
        self._home: str | None = None  # the directory where the session began
        self._directory: str | None = None  # where a command runs that does not say

    def take(self, item: _Payload, output: str | None) -> None:
        """`output` is what answered it, if it is a call."""
        kind = _type(item)
        if kind in _CALLS:
            self._calls.append((item, output))
        elif kind in _OUTPUTS:
            self.end()
        elif kind == "reasoning" or (kind == "message" and item.get("role") == "assistant"):
            if self._calls:
                self.end()
            parts = _list(item.get("summary")) or item.get("content") if kind == "reasoning" else item.get("content")
            self._thoughts += [thought for part in _texts(parts) if (thought := part.strip())]
        elif not kind and (directory := optional_text(item.get("cwd"))):  # the session's head, or a turn's
            self._home, self._directory = self._home or directory, directory

    def end(self) -> None:
        """What is now complete becomes turns."""
        acted: list[tuple[Action, str]] = []
        for item, output in self._calls:
            call = _call(item, output, self._home, self._directory)
            if isinstance(call, str):
                self._turns.drop(call)
            else:
                acted.append(call)
        thought = "\n\n".join(self._thoughts)
        if acted:
            self._turns.act(thought, [(None, done) for done, _ in acted])
            for _, shown in acted:
                self._turns.observe(shown)
        elif thought and not self._calls:
            self._turns.talk(thought)
        self._thoughts, self._calls = [], []


def _call(item: _Payload, shown: str | None, home: str | None, directory: str | None) -> tuple[Action, str] | str:
    """A call and its observation, or the reason why it is no step."""
    if shown is None:
        return UNANSWERED
    if shown == "aborted" or shown.startswith("aborted by user"):
        return INTERRUPTED
    if shown.startswith(_REFUSALS) or (shown.startswith("exec_command failed") and "Rejected(" in shown):
        return REJECTED
    try:
        tool, given = _named(item)
        command = None if _RUNNING in shown[:400] else _command(tool, given, home, directory)
        return action(tool, given) if command is None else Action("bash", {"command": command}), shown
    except Malformed:
        return UNREADABLE


def _named(item: _Payload) -> tuple[str, dict[str, Any]]:
    """A call's tool and arguments. Raises Malformed."""
    kind = _type(item)
    tool: object = item.get("name")
    given: object = item.get("arguments")
    if kind == "local_shell_call":
        tool, given = "local_shell", item.get("action")
    elif kind == "custom_tool_call":  # its argument is free text: a patch
        given = {"input": item.get("input")}
    if isinstance(given, str):
        try:
            given = orjson.loads(given)
        except orjson.JSONDecodeError:
            raise Malformed("a call's arguments", "JSON", given) from None
    if not isinstance(tool, str) or not isinstance(given, dict):
        raise Malformed("a call", "a name and arguments", item)
    return f"{optional_text(item.get('namespace')) or ''}{tool}", given


# --------------------------------------------------------------------------------------------- tools


def _command(tool: str, given: dict[str, Any], home: str | None, directory: str | None) -> str | None:
    """The command of bash that does exactly what the call does; None if there is none.

    `apply_patch` is a command in Codex' shell only. A call in another directory than the session's own is a command
    that goes there first, on a line of its own: whatever the rest is, it means the same after it.
    """
    if tool not in ("shell", "container.exec", "local_shell", "shell_command", "exec_command"):
        return None
    asked = {key: value for key, value in given.items() if key not in _LEFT_OUT and value is not None}
    where = asked.pop("workdir", None) or asked.pop("working_directory", None) or directory
    if asked.pop("tty", False) is not False or asked.pop("shell", "bash") not in ("bash", "/bin/bash", "/usr/bin/bash"):
        return None
    if tool == "local_shell":
        asked.pop("type", None)
    if len(asked) != 1 or not asked.keys() <= {"command", "cmd"} or not isinstance(where, str | None):
        return None
    (said,) = asked.values()
    command = _joined(said) if isinstance(said, list) else said
    if not isinstance(command, str) or "apply_patch" in command:
        return None
    return command if where == home or where is None else f"cd {shlex.quote(where)}\n{command}"


def _joined(words: list[Any]) -> str | None:
    """A list of words as a command line; what bash is given to run is the command itself."""
    if not words or not all(isinstance(word, str) for word in words):
        return None
    if len(words) == 3 and words[0] in ("bash", "/bin/bash", "/usr/bin/bash") and words[1] in ("-lc", "-c"):
        return str(words[2])
    return shlex.join(words)


# --------------------------------------------------------------------------------------------- shapes

_SPOKEN = frozenset({"input_text", "output_text"})
_TEXTS = _SPOKEN | {"summary_text", "reasoning_text", "text"}


def _type(item: _Payload) -> str:
    kind = item.get("type")
    return kind if isinstance(kind, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(parts: object) -> list[str]:
    """The texts of a message's parts; encrypted reasoning and images have none."""
    if isinstance(parts, str):
        return [parts]
    texts = [part for part in _list(parts) if isinstance(part, dict) and _type(part) in _TEXTS]
    return [part["text"] for part in texts if isinstance(part.get("text"), str)]
