"""Calls as logs hold them, a name and arguments, ⇄ actions."""

from __future__ import annotations

import json
from typing import Any

import orjson

from swe_srl.formats.document import Malformed, mapping
from swe_srl.tools import ALIASES
from swe_srl.types import Action


def action(name: object, arguments: object) -> Action:
    """A call by its name and its arguments. Raises Malformed.

    `arguments` is an object or, as OpenAI's API has it, JSON text of one. A value that is no string becomes its
    JSON text, because text is what a policy writes; one that is null is an argument that was not given. A name
    that means exactly one of our tools becomes ours.
    """
    if not isinstance(name, str) or not name:
        raise Malformed("a call's name", "a name", name)
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments) if arguments.strip() else {}
        except orjson.JSONDecodeError:
            raise Malformed("a call's arguments", "JSON", arguments) from None
    values = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in mapping(arguments, "a call's arguments").items()
        if value is not None
    }
    return Action(ALIASES.get(name, name), values)


def action_of(tool_call: dict[str, Any]) -> tuple[str | None, Action]:
    """(id, action) of one of OpenAI's `tool_calls`. Raises Malformed."""
    function = mapping(tool_call.get("function"), "tool_calls[].function")
    id = tool_call.get("id")
    return (id if isinstance(id, str) else None), action(function.get("name"), function.get("arguments"))


def tool_call_of(action: Action, id: str) -> dict[str, Any]:
    """An action as a tool call. Every value is a JSON string, so that reading gives the same text again."""
    arguments = json.dumps(dict(action.arguments), ensure_ascii=False)
    return {"id": id, "type": "function", "function": {"name": action.tool, "arguments": arguments}}
