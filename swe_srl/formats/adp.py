"""Agent Data Protocol, its standard form: many agents' logs as one list of actions and observations.

    {id, content: [{class_: "text_observation", content, source}, {class_: "code_action", language, content,
    description}, {class_: "api_action", function, kwargs, description}, {class_: "message_action", …}], details}

An action is answered by the observation after it, in newer versions by the one with its `tool_call_id`. ADP ends
a run whose agent did not say that it is finished with words of its own: a verdict, drawn from five, that no test
stands behind, and a message that thanks for it. These are no part of the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from swe_srl.formats import openhands
from swe_srl.formats.calls import action
from swe_srl.formats.document import Dropped, Malformed, mapping, mappings, optional_text, own_id, text
from swe_srl.formats.mini_swe_agent import SUBMIT_COMMANDS
from swe_srl.formats.task import issue_in, link, patch_in
from swe_srl.formats.turns import UNREADABLE, Turns
from swe_srl.formats.xml_messages import unwrap_observation
from swe_srl.types import Action, Outcome, Provenance, Trajectory, Turn

name = "adp"

MADE_UP = "ending that ADP made up"
UNPAIRED = "several calls in a row without ids"

_CODE, _API, _MESSAGE = _ACTIONS = "code_action", "api_action", "message_action"
_FINISH = re.compile(r"<finish>(.*?)(?:</finish>)?", re.DOTALL)
VERDICTS = (
    "Congratulations! You have successfully solved the task.",
    "Your solution has been verified as correct.",
    "Well done on successfully completing the task!",
    "Your implementation satisfies the task requirements.",
    "Task completed successfully.",
)
# SWE-smith's id of a run, owner__name.commit.bug.run, and the number that ADP gives each of several.
RUN = re.compile(r"(.+__.+\.[0-9a-f]{8}\..+)\.[a-z0-9]{8}_\d+")

Items = list[dict[str, Any]]


def detect(document: object) -> bool:
    content = document.get("content") if isinstance(document, dict) else None
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "class_" in content[0]


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    content = mappings(document.get("content"), "content")
    turns, dropped = _turns(content)
    if not any(turn.action for turn in turns):
        yield Dropped(provenance.line, "no action", f"{len(content)} actions and observations, no call with an answer")
        return
    id = optional_text(document.get("id"))
    numbered = RUN.fullmatch(id or "")
    details = mapping(document.get("details"), "details")
    yield Trajectory(
        id=own_id(id, provenance.file, provenance.line),
        issue=issue_in(_prompt(content)),
        turns=turns,
        provenance=provenance,
        task=link(numbered[1] if numbered else id),
        outcome=Outcome(
            _truth(details.get("resolved")),
            optional_text(details.get("exit_status")),
            patch_in(details.get("generated_patch")),
        ),
        dropped=dropped,
    )


def _prompt(content: Items) -> str:
    """What the user said first; a system prompt before it has another source."""
    first = next((item for item in content if item.get("source") == "user"), {})
    return text(first.get("content"), "content[].content")


def _truth(value: object) -> bool | None:
    """A converter writes Python's word for it."""
    return True if value is True or value == "True" else False if value is False or value == "False" else None


# ------------------------------------------------------------------------------------------- turns


def _turns(content: Items) -> tuple[tuple[Turn, ...], dict[str, int]]:
    made_up = _is_made_up(content[-2:])
    linked = any("tool_call_id" in item for item in content)
    turns, begun = Turns(unique_ids=linked), False
    for acts, group in groupby(content[:-2] if made_up else content, _is_action):
        items = list(group)
        if acts:
            begun = True
            _hear(turns, items)
        elif begun:
            for item in items:
                _see(turns, item, linked)
    kept, dropped = turns.close()
    return kept, dropped | ({MADE_UP: 1} if made_up else {})


def _is_action(item: dict[str, Any]) -> bool:
    return item.get("class_") in _ACTIONS


def _is_made_up(end: Items) -> bool:
    said = [item.get("content") for item in end]
    if [item.get("class_") for item in end] != ["text_observation", _MESSAGE]:
        return False
    verdict, message = said
    return isinstance(verdict, str) and verdict.strip() in VERDICTS and str(message).startswith("<finish>")


def _hear(turns: Turns, items: Items) -> None:
    """Actions with no observation between them. Without ids nothing says which call of several is answered."""
    unnamed = [item for item in items if item["class_"] != _MESSAGE and not item.get("tool_call_id")]
    for item in items:
        thought = text(item.get("description"), "content[].description")
        if item["class_"] == _MESSAGE:
            _hear_message(turns, thought, text(item.get("content"), "content[].content"))
        elif len(unnamed) > 1 and not item.get("tool_call_id"):
            turns.drop(UNPAIRED)
        else:
            try:
                turns.act(thought, [(optional_text(item.get("tool_call_id")), _call(item))])
            except Malformed:
                turns.drop(UNREADABLE)


def _hear_message(turns: Turns, thought: str, said: str) -> None:
    """Talk; or OpenHands' call `finish`, which ADP writes as a message."""
    if finish := _FINISH.fullmatch(said.strip()):
        turns.act(f"{thought}\n\n{finish[1].strip()}", [(None, Action("submit"))])
    else:
        turns.talk(f"{thought}\n\n{said}")


def _call(item: dict[str, Any]) -> Action:
    """Code in another language than bash is a call by that language's name. Raises Malformed."""
    if item["class_"] == _API:
        return action(item.get("function"), item.get("kwargs"))
    code = item.get("content")
    if not isinstance(code, str):
        raise Malformed("code_action.content", "code", code)
    if item.get("language") != "bash":
        return action(item.get("language"), {"code": code})
    return Action("submit") if code in SUBMIT_COMMANDS else Action("bash", {"command": code})


def _see(turns: Turns, item: dict[str, Any], linked: bool) -> None:
    """A web page is seen as its accessibility tree; an image has no text."""
    id = optional_text(item.get("tool_call_id"))
    if item.get("class_") == "web_observation":
        shown = text(item.get("axtree") or item.get("html") or item.get("url"), "web_observation")
    elif item.get("class_") == "image_observation":
        shown = ""
    else:
        shown = unwrap_observation(text(item.get("content"), "content[].content"))
    if openhands.refused(shown):
        turns.refuse(shown, id)
    elif (linked and id is None) or not turns.observe(shown, id):
        turns.remark(shown)
