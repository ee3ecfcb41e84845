"""OpenAI Responses items: the rollouts of NVIDIA NeMo Gym, whatever agent made them.

`response.output` (or `trajectory.output`) is a flat list of `reasoning`, `message`, `function_call` and
`function_call_output`; a call and its output have the same `call_id`. What the model wrote between two outputs is
one answer: its thought, then its calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from swe_srl.actions import is_target
from swe_srl.formats.calls import action, texts
from swe_srl.formats.document import (
    Dropped,
    Malformed,
    mapping,
    mappings,
    optional_bool,
    optional_text,
    own_id,
    text,
)
from swe_srl.formats.mini_swe_agent import SUBMIT_COMMANDS, not_run
from swe_srl.formats.task import issue_in, link, patch_in
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE, Turns, answers_by_id
from swe_srl.tools import BASH, SUBMIT
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory

name = "responses"

_ITEMS = ("reasoning", "message", "function_call", "function_call_output")

# Claude Code's name of our tool. OpenCode and mini-swe-agent call it as we do.
_BASH = "Bash"

# Agents whose every command has a shell of its own; Terminus types into one terminal.
_FRESH = ("mini-swe-agent", "mini_swe_agent", "opencode")

# Terminus types all of an answer's keys, and then looks at the terminal once.
_TYPED = ("bash_command", "mark_task_complete")

_TOOL_USE_ERROR = "<tool_use_error>"  # Claude Code's word that a call did not run

_Calls = list[tuple[dict[str, Any], str | None]]  # each with its output


def detect(document: object) -> bool:
    """A rollout. One with an `expected_action` is another format: its answer is a policy's, not an expert's."""
    if not isinstance(document, dict) or "expected_action" in document:
        return False
    output = _run(document).get("output")
    if not isinstance(output, list):
        return False
    if not output:
        return "responses_create_params" in document
    return isinstance(output[0], dict) and output[0].get("type") in _ITEMS


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    row, run = mapping(document, "row"), _run(document)
    asked = mapping(row.get("responses_create_params"), "responses_create_params")
    items = mappings(run.get("output"), "output")
    turns = Turns()
    if unfinished := follow(turns, items):
        turns.talk(unfinished)
    kept, dropped = turns.close()
    if not any(turn.action for turn in kept):
        yield Dropped(provenance.line, "no action", f"{len(items)} items, no call with an output")
        return
    metadata = _part(asked, "metadata")
    task = _task(row, metadata)
    yield Trajectory(
        id=own_id(task.task_id, provenance.file, provenance.line),
        issue=issue_in(asked_for(asked) or text(metadata.get("problem_statement"), "metadata.problem_statement")),
        turns=kept,
        provenance=provenance,
        task=task,
        outcome=Outcome(_resolved(row), optional_text(run.get("status")), patch_in(row.get("model_patch"))),
        shell="fresh" if any(word in _agent(row) for word in _FRESH) else "persistent",
        dropped=dropped,
    )


def _run(document: dict[str, Any]) -> dict[str, Any]:
    """Where the run is: under `response`, in results published by hand under `trajectory`."""
    return _part(document, "response") or _part(document, "trajectory")


def _part(row: dict[str, Any], key: str) -> dict[str, Any]:
    """An object that is nice to have: {} where there is none."""
    part = row.get(key)
    return part if isinstance(part, dict) else {}


# ------------------------------------------------------------------------------------------- turns


def follow(turns: Turns, items: list[dict[str, Any]]) -> str:
    """Feed a conversation's items to `turns`; returns what the model said after its last call. Raises Malformed."""
    outputs = _outputs(items)
    said: list[str] = []
    calls: list[int] = []
    for position, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "function_call":
            calls.append(position)
            continue
        if calls:  # anything else ends an answer's calls
            _act(turns, said, [(items[call], outputs.get(call)) for call in calls])
            said, calls = [], []
        if kind == "reasoning":
            said += [_words(item.get("summary"), "summary"), _words(item.get("content"), "content")]
        elif kind == "message" and item.get("role") == "assistant":
            said.append(_words(item.get("content"), "content"))
        elif kind == "message" and item.get("role") == "user":
            if any(said):
                turns.talk(_joined(said))
            said = []
            turns.remark(_words(item.get("content"), "content"))
    if calls:
        _act(turns, said, [(items[call], outputs.get(call)) for call in calls])
        said = []
    return _joined(said)


def _outputs(items: list[dict[str, Any]]) -> dict[int, str]:
    """A call's position → its output."""
    events = [(item.get("type") == "function_call_output", optional_text(item.get("call_id"))) for item in items]
    return {call: _words(items[output].get("output"), "output") for call, output in answers_by_id(events).items()}


def _act(turns: Turns, said: list[str], calls: _Calls) -> None:
    """One answer's calls, each with its output."""
    thought = _joined(said)
    for call, output in _typed_together(calls) or calls:
        try:
            called = action_in(call)
        except Malformed:
            turns.drop(UNREADABLE)
            continue
        shown = None if output is None or _refused(output) else output
        if shown is None and called.tool != SUBMIT.name:
            turns.drop(UNANSWERED if output is None else REJECTED)
            continue
        turns.act(thought, [(None, called)])
        thought = ""
        if shown is not None:  # of its submit mini-swe-agent says, too, that it was not executed
            turns.observe(shown)


def _typed_together(calls: _Calls) -> _Calls | None:
    """The calls of one answer of Terminus, where one output is of them all; None if they are none.

    It has the first call's id, and shows the terminal after the last.
    """
    (_, shown), *others = calls
    joint = shown is not None and others and all(output is None for _, output in others)
    if not joint or not all(call.get("name") in _TYPED for call, _ in calls):
        return None
    return [*((call, "") for call, _ in calls[:-1]), (calls[-1][0], shown)]


def action_in(call: dict[str, Any]) -> Action:
    """The action of a `function_call`, by our name where it is exactly one of our tools. Raises Malformed."""
    name, arguments = call.get("name"), texts(call.get("arguments"))
    called = action(BASH.name if name == _BASH else name, arguments)
    command = called.arguments.get("command", "")
    if called.tool == BASH.name and "FINAL_OUTPUT" in command and command.strip() in SUBMIT_COMMANDS:
        return Action(SUBMIT.name)
    return called if is_target(called) or name != _BASH else Action(_BASH, arguments)


def _refused(output: str) -> bool:
    return output.startswith(_TOOL_USE_ERROR) or not_run(output)


def _words(content: object, where: str) -> str:
    """Text, or the texts of parts: `input_text`, `output_text`, `summary_text`, `reasoning_text`."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text(part.get("text"), where) for part in mappings(content, where) if "text" in part)
    return text(content, where)


def _joined(said: list[str]) -> str:
    return "\n\n".join(words.strip() for words in said if words.strip())


# -------------------------------------------------------------------------------------------- task


def asked_for(asked: dict[str, Any]) -> str:
    """What the user wanted: the first user message of the request, "" where it has none."""
    messages = asked.get("input")
    if isinstance(messages, str):
        return messages
    for message in mappings(messages, "input"):
        if message.get("role") == "user":
            return _words(message.get("content"), "input[].content")
    return ""


def _task(row: dict[str, Any], metadata: dict[str, Any]) -> TaskLink:
    """`instance_dict` is the benchmark's row as JSON text."""
    try:
        instance = orjson.loads(optional_text(metadata.get("instance_dict")) or "{}")
    except orjson.JSONDecodeError:
        instance = {}
    base_commit = instance.get("base_commit") if isinstance(instance, dict) else None
    container = optional_text(_part(row, "instance_config").get("container"))
    return link(
        row.get("instance_id") or metadata.get("instance_id") or row.get("task_id"),
        base_commit,
        row.get("image") or (container and container.removeprefix("docker://")),
    )


def _agent(row: dict[str, Any]) -> str:
    agent = _part(row, "agent_ref") or _part(row, "agent")
    return optional_text(agent.get("name")) or ""


def _resolved(row: dict[str, Any]) -> bool | None:
    """The row's own word, else a reward of 1 or 0 that stands beside the hidden tests' counts (`f2p`)."""
    if row.get("evaluation_completed") is False:
        return None
    verdict = _part(_part(row, "verifier_result"), "rewards")
    reward = row.get("reward")
    if "resolved" not in row and ("f2p" in row or "f2p" in verdict) and reward in (0, 1):
        return bool(reward)
    return optional_bool(row.get("resolved"))
