"""SWE-smith's training messages: `{messages, instance_id}`, the call as XML text at the end of an answer.

    I will look at the file.

    <function=bash>
    <parameter=command>cat x.py</parameter>
    </function>

The next user message answers it, after "OBSERVATION:". A record ends with the model's submit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swe_srl.actions import read_call, render_call
from swe_srl.errors import FormatError, UnrenderableError
from swe_srl.formats.calls import ours
from swe_srl.formats.canonical import ANNEX, annex, with_annex
from swe_srl.formats.chat import XML_CALL, first_call, messages_of, plain, style_of
from swe_srl.formats.document import Dropped, Malformed, optional_bool, optional_text, own_id, text
from swe_srl.formats.task import issue_in, link, wrap_issue
from swe_srl.formats.turns import UNREADABLE, Turns
from swe_srl.types import Action, Outcome, Provenance, Trajectory

name = "xml-messages"

_SYSTEM = "You are a helpful assistant that can interact with a computer to solve tasks."
# What SWE-agent says in place of an empty observation, and how it marks one that it has cut.
_EMPTY = "Your command ran successfully and did not produce any output."
_MARKS = ("OBSERVATION:\n", "Observation: ")
# How OpenHands begins a tool's answer, with the tool's name.
OPENHANDS_RESULT = "EXECUTION RESULT of ["


def detect(document: object) -> bool:
    """OpenHands' text messages have the same calls, but another environment: they are not this format."""
    return style_of(document) == "xml" and not any(
        plain(m.get("content")).startswith(OPENHANDS_RESULT) for m in messages_of(document) or []
    )


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    """`patch` is never used: in the collected records it belongs to another instance."""
    messages = messages_of(document)
    if messages is None:
        raise Malformed("messages", "a list of messages", document)
    record = document if isinstance(document, dict) else {}
    turns, begun, prompt = Turns(), False, ""
    for message in messages:
        content = text(message.get("content"), "messages[].content")
        if message["role"] == "assistant":
            begun = True
            _hear(turns, content)
        elif begun and message["role"] in ("user", "tool"):
            observation = unwrap_observation(content)
            if not turns.observe(observation):
                turns.remark(observation)
        elif message["role"] == "user":
            prompt = prompt or content
    kept, dropped = turns.close()
    if not any(turn.action for turn in kept):
        yield Dropped(provenance.line, "no action", f"{len(messages)} messages, no call with an answer")
        return
    task = link(record.get("instance_id"))
    named = optional_text(record.get("traj_id")) or task.task_id or optional_text(record.get("id"))
    trajectory = Trajectory(
        id=own_id(named, provenance.file, provenance.line),
        issue=issue_in(prompt),
        turns=kept,
        provenance=provenance,
        task=task,
        outcome=Outcome(optional_bool(record.get("resolved"))),
        dropped=dropped,
    )
    yield with_annex(trajectory, document)


def unwrap_observation(content: str) -> str:
    """What the environment printed, without the words that SWE-agent puts around it.

    The same run is logged with them (messages) and without (rows): one form, so that it is one run.
    """
    if content == _EMPTY:
        return ""
    mark = next((mark for mark in _MARKS if content.startswith(mark)), "")
    return content[len(mark) :]


def _hear(turns: Turns, said: str) -> None:
    """One answer of the model: all its calls, one after another."""
    try:
        thought, calls = calls_in(said)
    except FormatError:
        turns.drop(UNREADABLE)
        return
    if calls:
        turns.act(thought, [(None, ours(call)) for call in calls])
    else:
        turns.talk(thought)


def calls_in(said: str) -> tuple[str, list[Action]]:
    """(what stands before the calls, the calls under the log's own names) of an answer. Raises FormatError."""
    start = place = first_call(said)
    calls: list[Action] = []
    while place is not None:
        call, end = read_call(said, place)
        calls.append(call)
        place = first_call(said, end)
    return said[:start], calls


# ------------------------------------------------------------------------------------------- writing


def write(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as messages with XML calls. Raises UnrenderableError for text that holds a call's markup."""
    prompt = wrap_issue(trajectory.issue)
    messages = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": prompt},
    ]
    for turn in trajectory.turns:
        if XML_CALL.search(turn.thought):
            raise UnrenderableError(f"{trajectory.id}: a thought holds a call: {turn.thought[:60]!r}")
        said = turn.thought if turn.action is None else f"{turn.thought}\n\n{render_call(turn.action)}"
        messages.append({"role": "assistant", "content": said})
        if turn.observation is not None:
            messages.append({"role": "user", "content": _MARKS[0] + turn.observation})
    return {
        "messages": messages,
        "instance_id": trajectory.task.task_id,
        ANNEX: annex(trajectory, issue_in(prompt)),
    }
