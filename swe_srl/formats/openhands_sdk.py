"""OpenHands' SDK (its version 1): a conversation as typed events, one file an event or one event a line.

An evaluation's record holds the same events as its `history`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

from swe_srl.formats import openhands
from swe_srl.formats.document import Dropped, Malformed, mapping, text
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE, Turns
from swe_srl.types import Action, Provenance, Trajectory

name = "openhands-sdk"

_ANSWERS = ("ObservationEvent", "UserRejectObservation", "AgentErrorEvent")
# Where an observation has its text; older versions of the SDK had no `content`.
_TEXTS = ("content", "output", "message")

Event = dict[str, Any]


def is_part(row: object) -> TypeGuard[Event]:
    return isinstance(row, dict) and isinstance(row.get("kind"), str) and {"id", "timestamp", "source"} <= row.keys()


def detect(document: object) -> bool:
    return any(map(is_part, _rows(document)))


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    record = document if isinstance(document, dict) else {}
    events = [row for row in _rows(document) if is_part(row)]
    answers = _answers(events)
    turns, prompt, begun = Turns(), "", False
    for number, event in enumerate(events):
        if event["kind"] == "ActionEvent":
            begun = True
            _hear(turns, event, answers.get(number))
        elif event["kind"] == "ACPToolCallEvent":
            turns.drop(UNREADABLE)  # another vendor's agent called: what is logged is made for display
        elif event["kind"] == "MessageEvent":
            message = mapping(event.get("llm_message"), "llm_message")
            said = text(message.get("content"), "llm_message.content")
            if event["source"] == "agent":
                begun = True
                turns.talk(openhands.thought(said, message.get("reasoning_content")))
            elif not begun:
                prompt = prompt or said
            elif not turns.observe(said):  # only a `finish` of old versions waits here: it hands over to the user
                turns.remark(said)
    yield openhands.trajectory(turns, prompt, record, provenance)


def _rows(document: object) -> Sequence[object]:
    rows = document.get("history") if isinstance(document, dict) else document
    return rows if isinstance(rows, list) else []


def _answers(events: list[Event]) -> dict[int, Event]:
    """An action's number → its answer, which names the action or, if the agent refused it, the call's id."""
    answers: dict[int, Event] = {}
    by_id: dict[str, int] = {}
    by_call: dict[str, int] = {}
    for number, event in enumerate(events):
        id, call_id, action_id = event["id"], event.get("tool_call_id"), event.get("action_id")
        if event["kind"] == "ActionEvent":
            if isinstance(id, str):
                by_id[id] = number
            if isinstance(call_id, str):
                by_call[call_id] = number
        elif event["kind"] in _ANSWERS:
            asked = by_id.get(action_id) if isinstance(action_id, str) else None
            if action_id is None and isinstance(call_id, str):
                asked = by_call.get(call_id)
            if asked is not None:
                answers.setdefault(asked, event)
    return answers


def _hear(turns: Turns, event: Event, answer: Event | None) -> None:
    if event.get("action") is None or (answer and answer["kind"] != "ObservationEvent"):
        turns.drop(REJECTED)  # the call did not fit the tool, or the user or a hook said no
        return
    try:
        thought, action = _call(event)
        content = None if answer is None else _content(answer)
    except Malformed:
        turns.drop(UNREADABLE)
        return
    if content is None and action.tool != "submit":
        turns.drop(UNANSWERED)
    elif openhands.refused(content or ""):
        turns.drop(REJECTED)
    else:
        turns.act(thought, [(None, action)])
        if content is not None:
            turns.observe(content)


def _call(event: Event) -> tuple[str, Action]:
    """(thought, action): `tool_call` is what the model wrote; `action` has defaults filled in."""
    thought = openhands.thought(text(event.get("thought"), "thought"), event.get("reasoning_content"))
    call = mapping(event.get("tool_call"), "tool_call")
    if call:
        return openhands.heard(thought, call.get("name"), call.get("arguments"))
    given = mapping(event.get("action"), "action")
    filled = {key: value for key, value in given.items() if key != "kind" and value is not False}
    return openhands.heard(thought, event.get("tool_name"), filled)


def _content(answer: Event) -> str:
    observation = mapping(answer.get("observation"), "observation")
    for key in _TEXTS:
        if key in observation:
            return openhands.shown(text(observation[key], key), observation.get("metadata"))
    raise Malformed("observation", "one of " + ", ".join(_TEXTS), observation)
