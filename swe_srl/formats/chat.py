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

    Text may quote another style's call: tool calls win over text, and the commoner of two texts wins, because
    one record of fenced commands ends with an XML submit.
    """
    if isinstance(document, dict) and "trajectory_format" in document:
        return None
    messages = messages_of(document) or []
    spoken = [message for message in messages if message["role"] == "assistant"]
    if any(message.get("tool_calls") for message in spoken):
        return "tool_calls"
    texts = [plain(message.get("content")) for message in spoken]
    xml = sum(1 for text in texts if XML_CALL.search(text))
    fence = sum(1 for text in texts if FENCE.search(text))
    if not xml and not fence:
        return None
    return "xml" if xml >= fence else "fence"


def plain(content: object) -> str:
    """A message's text without judgement: detection must not fail on a wrong shape."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""
