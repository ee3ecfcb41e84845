"""OpenHands up to version 1: a stream of events, each an action or the observation that it causes.

The stream is the `history` of an evaluation's record (`output.jsonl`), the `trajectory` of a feedback export, a
bare list (a saved or replayed session), or one file an event (an event store).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeGuard

from swe_srl.formats import openhands
from swe_srl.formats.document import Dropped, Malformed, mapping, mappings, text
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE, Turns
from swe_srl.types import Action, Provenance, Trajectory

name = "openhands"

UNSIGNED = "events without their sender"
SUB_AGENT = "turn of a sub-agent"

_SENDERS = ("agent", "user", "environment")
# Actions in the agent's name that are no call of the model.
_NO_CALLS = frozenset({"message", "system", "recall", "change_agent_state", "condensation", "null"})
# What the agent's own code adds to an action; the rest is the model's.
_ADDED = frozenset(
    {
        *("thought", "is_confirmed", "confirmation_state", "security_risk", "action_risk", "kernel_init_code"),
        *("include_extra", "blocking", "keep_prompt", "hidden", "hard_timeout", "cwd", "impl_source"),
    }
)

Event = dict[str, Any]


def is_part(row: object) -> TypeGuard[Event]:
    """An event has a sender and the name of its action or observation; that of newer logs holds an object there."""
    return (
        isinstance(row, dict)
        and row.get("source") in _SENDERS
        and "timestamp" in row
        and isinstance(row.get("action") or row.get("observation"), str)
    )


def detect(document: object) -> bool:
    return any(map(is_part, _rows(document))) or _is_unsigned(document)


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    record = document if isinstance(document, dict) else {}
    events = [row for row in _rows(document) if is_part(row)]
    if not events:
        yield Dropped(provenance.line, UNSIGNED, "an old issue resolver's output: no event has a source or an id")
        return
    answered_by = _answers(events)
    answers = frozenset(answered_by.values())
    turns, prompt, begun, resumes = Turns(), "", False, 0
    for number, event in enumerate(events):
        if number < resumes:
            if _is_call(event) or _is_message(event, "agent"):
                turns.drop(SUB_AGENT)
        elif _is_message(event, "user"):
            said = text(_arguments(event).get("content"), "message")
            if not begun:
                prompt = prompt or said
            elif not turns.observe(said):  # only a `finish` waits here: it hands over to the user
                turns.remark(said)
        elif _is_message(event, "agent"):
            begun = True
            turns.talk(text(_arguments(event).get("content"), "message"))
        elif _is_call(event):
            begun = True
            answer = answered_by.get(number)
            _hear(turns, event, None if answer is None else events[answer])
            if event["action"] == "delegate":  # the sub-agent's events lie between it and its answer
                resumes = len(events) if answer is None else answer
        elif event.get("observation") == "error" and number not in answers:
            turns.drop(REJECTED)  # what the model wrote made no event: only what is wrong with it did
    yield openhands.trajectory(turns, prompt, record, provenance)


# ------------------------------------------------------------------------------------------- shapes


def _rows(document: object) -> Sequence[object]:
    """The events of a document. Old evaluations wrote them as pairs of an action and its observation."""
    rows = document
    if isinstance(document, dict):
        rows = document.get("history") or document.get("trajectory")
    if not isinstance(rows, list):
        return []
    if rows and isinstance(rows[0], list):
        return list(chain.from_iterable(row for row in rows if isinstance(row, list)))
    return rows


def _is_unsigned(document: object) -> bool:
    """The issue resolver's old output: events laid flat, without sender, id and cause."""
    if not (isinstance(document, dict) and {"instruction", "git_patch", "history"} <= document.keys()):
        return False
    first = next(iter(_rows(document)), None)
    return isinstance(first, dict) and "action" in first and "role" not in first


def _is_call(event: Event) -> bool:
    return event["source"] == "agent" and bool(event.get("action")) and event["action"] not in _NO_CALLS


def _is_message(event: Event, sender: str) -> bool:
    return event["source"] == sender and event.get("action") == "message"


def _arguments(event: Event) -> Event:
    """Of an action: `args`; `extras` where a data set's table has one column for both kinds of event."""
    key = "args" if event.get("args") is not None else "extras"
    return mapping(event.get(key), key)


# ------------------------------------------------------------------------------------------ pairing


def _answers(events: list[Event]) -> dict[int, int]:
    """Which event answers which, by their numbers.

    An observation names the id of the action that caused it. In the oldest logs it does not: there it answers
    the latest call, because the agent waits for each, if it is of the same name and repeats the same command.
    """
    answers: dict[int, int] = {}
    by_id: dict[int, int] = {}
    latest = delegate = -1
    for number, event in enumerate(events):
        id, cause = event.get("id"), event.get("cause")
        if event.get("action"):
            if type(id) is int:
                by_id[id] = number
            if event["action"] in ("message", "finish") or _is_call(event):
                latest = number
            if event["action"] == "delegate":
                delegate = number
        elif event["observation"] == "null":
            continue  # "there is no observation"
        elif type(cause) is int:
            if cause in by_id:
                answers.setdefault(by_id[cause], number)
        elif event["observation"] == "delegate":
            answers.setdefault(delegate, number)
        elif latest >= 0 and latest not in answers and _repeats(event, events[latest]):
            answers[latest] = number
    return answers


def _repeats(observation: Event, action: Event) -> bool:
    if observation["observation"] == "error":
        return action["action"] not in ("message", "finish")
    shown, given = mapping(observation.get("extras"), "extras"), _arguments(action)
    return observation["observation"] == action["action"] and all(
        shown[key] == given.get(key) for key in ("command", "code") if key in shown
    )


# -------------------------------------------------------------------------------------------- calls


def _hear(turns: Turns, event: Event, answer: Event | None) -> None:
    try:
        thought, action = _call(event)
        content = None if answer is None else _content(answer)
    except Malformed:
        turns.drop(UNREADABLE)
        return
    if answer is None and action.tool != "submit":
        turns.drop(UNANSWERED)
    elif answer and (answer["observation"] == "user_rejected" or openhands.refused(content or "")):
        turns.drop(REJECTED)
    else:
        turns.act(thought, [(None, action)])
        if content is not None:
            turns.observe(content)


def _call(event: Event) -> tuple[str, Action]:
    """(thought, action): as the model wrote them where the log has its answer, else as the agent's code read it.

    Each event of an answer with several calls holds the whole answer: the thought goes with the first call.
    """
    metadata = mapping(event.get("tool_call_metadata"), "tool_call_metadata")
    response = mapping(metadata.get("model_response"), "model_response")
    for choice in mappings(response.get("choices"), "choices"):
        message = mapping(choice.get("message"), "message")
        for place, call in enumerate(mappings(message.get("tool_calls"), "tool_calls")):
            if call.get("id") == metadata.get("tool_call_id"):
                function = mapping(call.get("function"), "function")
                said = text(message.get("content"), "content")
                thought = openhands.thought(said, message.get("reasoning_content"))
                return openhands.heard("" if place else thought, function.get("name"), function.get("arguments"))
    arguments = _arguments(event)
    given = {key: value for key, value in arguments.items() if key not in _ADDED and value is not False}
    function_name = "execute_bash" if event["action"] == "run" else event["action"]
    return openhands.heard(text(arguments.get("thought"), "thought"), function_name, given)


def _content(observation: Event) -> str:
    extras = mapping(observation.get("extras"), "extras")
    return openhands.shown(text(observation.get("content"), "content"), extras.get("metadata"))
