"""Chat messages without a format's name on them: which style of call do they hold?

Three formats are such records. One function decides for all of them, so that no two can claim the same record.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import orjson

Style = Literal["tool_calls", "xml", "fence"]
XML_CALL = re.compile(r"<function=[\w.-]+>")
FENCE = re.compile(r"```(?:bash|mswea_bash_command)\s*\n")


def messages_of(document: object) -> list[dict[str, Any]] | None:
    """The messages of a record `{messages, …}` or of a bare list of messages; None for anything else.

    A data set's table may hold the messages as JSON text. A logged request to a model has messages too, but
    it is one turn of a run, not a run.
    """
    messages = document
    if isinstance(document, dict):
        if document.get("type") in ("request", "response"):
            return None
        messages = document.get("messages")
        if isinstance(messages, str):
            try:
                messages = orjson.loads(messages)
            except orjson.JSONDecodeError:
                return None
    if not isinstance(messages, list) or not messages:
        return None
    if all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages):
        return messages
    return None


def style_of(document: object) -> Style | None:
    """How the model's messages call tools; None if they never do, or if the record says itself what it is.

    Tool calls win over text. Of texts the first that holds one style's call and not the other's decides: an answer
    may quote the other one, and one record of fenced commands ends with an XML submit.
    """
    if isinstance(document, dict) and "trajectory_format" in document:
        return None
    messages = messages_of(document) or []
    spoken = [message for message in messages if message["role"] == "assistant"]
    if any(message.get("tool_calls") for message in spoken):
        return "tool_calls"
    both = False
    for message in spoken:
        text = plain(message.get("content"))
        xml, fence = first_call(text) is not None, "```" in text and FENCE.search(text) is not None
        if xml != fence:
            return "xml" if xml else "fence"
        both = both or xml
    return "xml" if both else None


def first_call(text: str, start: int = 0) -> int | None:
    """Where the first XML call begins at or after `start`; None if there is none."""
    place = text.find("<function=", start)
    found = XML_CALL.search(text, place) if place >= 0 else None
    return found.start() if found else None


def plain(content: object) -> str:
    """A message's text without judgement: detection must not fail on a wrong shape."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""
