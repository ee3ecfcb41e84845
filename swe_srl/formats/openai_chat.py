"""OpenAI chat messages with `tool_calls`: SWE-Gym's OpenHands runs, and any record of that shape.

Many are of OpenHands: its calls are read as `openhands.py` says. An answer may have several calls; each is answered by
a message of role `tool` with its id. An answer without one is talk, and what the user says to it is its observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swe_srl.formats.calls import tool_call_of
from swe_srl.formats.canonical import ANNEX, annex, with_annex
from swe_srl.formats.chat import messages_of, style_of
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
from swe_srl.formats.openhands import heard, refused
from swe_srl.formats.task import issue_in, link, patch_in, wrap_issue
from swe_srl.formats.turns import UNREADABLE, Turns
from swe_srl.formats.xml_messages import unwrap_observation
from swe_srl.types import Action, Outcome, Provenance, Trajectory

name = "openai-chat"


def detect(document: object) -> bool:
    return style_of(document) == "tool_calls"


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    """`patch` is never used: a benchmark's row calls its own solution so, and SWE-smith's rows have another run's."""
    messages = messages_of(document)
    if messages is None:
        raise Malformed("messages", "a list of messages", document)
    record = document if isinstance(document, dict) else {}
    turns, begun, prompt = Turns(), False, ""
    for message in messages:
        role, content = message["role"], text(message.get("content"), "messages[].content")
        if role == "assistant":
            begun = True
            _hear(turns, message, content)
        elif role == "tool":
            answer = turns.refuse if refused(content) else turns.observe
            answer(unwrap_observation(content), optional_text(message.get("tool_call_id")))
        elif role == "user" and begun:
            turns.remark(content)
        elif role == "user":
            prompt = prompt or content
    kept, dropped = turns.close()
    if not any(turn.action for turn in kept):
        yield Dropped(provenance.line, "no action", f"{len(messages)} messages, no call with an answer")
        return
    task = link(record.get("instance_id"))
    result = mapping(record.get("test_result"), "test_result")
    trajectory = Trajectory(
        id=own_id(task.task_id or optional_text(record.get("id")), provenance.file, provenance.line),
        issue=issue_in(prompt),
        turns=kept,
        provenance=provenance,
        task=task,
        outcome=Outcome(
            optional_bool(record.get("resolved")),
            optional_text(record.get("exit_status")),
            patch_in(result.get("git_patch")),
        ),
        dropped=dropped,
    )
    yield with_annex(trajectory, document)


def _hear(turns: Turns, message: dict[str, Any], said: str) -> None:
    calls: list[tuple[str | None, Action]] = []
    try:
        for call in mappings(message.get("tool_calls"), "tool_calls"):
            function = mapping(call.get("function"), "tool_calls[].function")
            said, action = heard(said, function.get("name"), function.get("arguments"))
            calls.append((optional_text(call.get("id")), action))
    except Malformed:
        turns.drop(UNREADABLE)
        return
    if calls:
        turns.act(said, calls)
    else:
        turns.talk(said)


# ------------------------------------------------------------------------------------------- writing


def write(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as chat messages, one call an answer. Every value of a call is a JSON string."""
    prompt = wrap_issue(trajectory.issue)
    messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    for number, turn in enumerate(trajectory.turns):
        message: dict[str, Any] = {"role": "assistant", "content": turn.thought}
        answer: dict[str, Any] = {"role": "user", "content": turn.observation}
        if turn.action is not None:
            message["tool_calls"] = [tool_call_of(turn.action, f"call_{number}")]
            answer |= {"role": "tool", "tool_call_id": f"call_{number}"}
        messages.append(message)
        if turn.observation is not None:
            messages.append(answer)
    return {
        "messages": messages,
        "instance_id": trajectory.task.task_id,
        ANNEX: annex(trajectory, issue_in(prompt)),
    }
