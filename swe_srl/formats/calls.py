"""Calls as logs hold them, a name and arguments, ⇄ actions."""

from __future__ import annotations

import json
from typing import Any

import orjson

from swe_srl.errors import UnrenderableError
from swe_srl.formats.document import Malformed, mapping
from swe_srl.tools import ALIASES, TOOLS
from swe_srl.types import Action

# Arguments that do not change what runs: words for people, how long to wait.
_LEFT_OUT = frozenset({"description", "summary", "security_risk", "timeout", "message", "task_completed"})


def action(name: object, arguments: object) -> Action:
    """A call by its name and its arguments, under our name where it is exactly a call of ours. Raises Malformed."""
    if not isinstance(name, str) or not name:
        raise Malformed("a call's name", "a name", name)
    return ours(Action(name, texts(arguments)))


def texts(arguments: object) -> dict[str, str]:
    """A call's arguments: an object or, as OpenAI's API has it, JSON text of one. Raises Malformed.

    A value that is no string becomes its JSON text, because text is what a policy writes; one that is null is an
    argument that was not given.
    """
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments) if arguments.strip() else {}
        except orjson.JSONDecodeError:
            raise Malformed("a call's arguments", "JSON", arguments) from None
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in mapping(arguments, "a call's arguments").items()
        if value is not None
    }


def ours(action: Action) -> Action:
    """The call as one of our tool's, if it is exactly that; else as it is.

    A flag that is off says nothing. Any other argument that our tool does not know may change what runs.
    """
    tool = TOOLS.get(ALIASES.get(action.tool, action.tool))
    if tool is None:
        return action
    names = set(tool.names)
    if action.arguments.keys() <= names:
        return action if action.tool == tool.name else Action(tool.name, action.arguments)
    given = {key: value for key, value in action.arguments.items() if key in names or not _says_nothing(key, value)}
    return Action(tool.name, given) if given.keys() <= names else action


def _says_nothing(key: str, value: str) -> bool:
    return key in _LEFT_OUT or value.lower() == "false"


def action_of(tool_call: dict[str, Any]) -> tuple[str | None, Action]:
    """(id, action) of one of OpenAI's `tool_calls`. Raises Malformed."""
    function = mapping(tool_call.get("function"), "tool_calls[].function")
    id = tool_call.get("id")
    return (id if isinstance(id, str) else None), action(function.get("name"), function.get("arguments"))


def tool_call_of(action: Action, id: str) -> dict[str, Any]:
    """An action as a tool call. Every value is a JSON string, so that reading gives the same text again.

    Raises UnrenderableError for a call that would be read as another one.
    """
    if ours(action) != action:
        raise UnrenderableError(f"{action.tool}({', '.join(action.arguments)}) would be read as {ours(action).tool}")
    arguments = json.dumps(dict(action.arguments), ensure_ascii=False)
    return {"id": id, "type": "function", "function": {"name": action.tool, "arguments": arguments}}
