"""The rows of a Claude Code session → its conversations: which rows are chained, and which of them stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swe_srl.formats.document import optional_text

Row = Mapping[str, Any]

_MAIN = "main"


@dataclass(frozen=True, slots=True)
class Conversation:
    """`start`: the first row's index. `messages`: all its users' and assistants' rows; `stands`: is it in the chain?"""

    start: int
    messages: Sequence[Row]
    stands: Sequence[bool]


def conversations(rows: Sequence[object]) -> list[Conversation]:
    """The log's conversations in the order of their beginnings."""
    nodes: dict[int, Row] = {}
    parents = _parents(rows, nodes)
    starts: dict[int, int] = {}
    messages: dict[int, list[int]] = {}
    for index, parent in parents.items():  # a parent comes before its children
        starts[index] = index if parent is None else starts[parent]
        if nodes[index].get("type") in ("user", "assistant"):
            messages.setdefault(starts[index], []).append(index)
    return [_conversation(start, members, parents, nodes) for start, members in messages.items()]


def _parents(rows: Sequence[object], nodes: dict[int, Row]) -> dict[int, int | None]:
    """The index of each row's parent, for the rows that are chained; these rows are put into `nodes`.

    A second row with one `uuid` is a copy, made when a session was resumed, and left out. After a compaction
    `parentUuid` is null, and a parent may be missing: such a row goes on from the one before it. Only a prompt
    without a parent begins a conversation, if the log chains its rows at all.
    """
    parents: dict[int, int | None] = {}
    known: dict[str, int] = {}
    latest: dict[str, int] = {}  # a side's latest row
    chained = any(isinstance(row, dict) and row.get("parentUuid") for row in rows)
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            continue
        uuid = row.get("uuid")
        if uuid in known if isinstance(uuid, str) else row.get("type") not in ("user", "assistant"):
            continue
        side = _side(row)
        named = row.get("parentUuid") or row.get("logicalParentUuid")
        parent = known.get(named) if isinstance(named, str) else None
        elsewhere = parent is not None and _side(nodes[parent]) != side
        if parent is None or elsewhere:
            task = elsewhere and side != _MAIN  # a sub-agent's, which may follow the main agent's call
            anew = chained and (task or not named) and _is_prompt(row)
            parent = None if anew else latest.get(side)
        if isinstance(uuid, str):
            known[uuid] = index
        latest[side] = index
        parents[index] = parent
        nodes[index] = row
    return parents


def _side(row: Row) -> str:
    """Whose row it is: the main agent's, or which sub-agent's. Old logs do not name sub-agents."""
    return f"sub-agent {row.get('agentId')}" if row.get("isSidechain") is True else _MAIN


def _is_prompt(row: Row) -> bool:
    typed = row.get("type") == "user" and not row.get("isMeta") and not row.get("isCompactSummary")
    return typed and not any(isinstance(part, dict) and part.get("type") == "tool_result" for part in parts_of(row))


def _conversation(
    start: int, members: Sequence[int], parents: Mapping[int, int | None], nodes: Mapping[int, Row]
) -> Conversation:
    """What stands is the last message's chain; and all of an answer whose one row is in it.

    Calls that ran side by side are such: each result follows its own call's row, so only one of them is in the chain.
    """
    chain: set[int] = set()
    at: int | None = members[-1]
    while at is not None:
        chain.add(at)
        at = parents[at]
    answers = {id for index in members if index in chain and (id := answer_id(nodes[index]))}
    stands = [index in chain or answer_id(nodes[index]) in answers for index in members]
    return Conversation(start, [nodes[index] for index in members], stands)


def answer_id(row: Row) -> str | None:
    message = row.get("message")
    if row.get("type") != "assistant" or not isinstance(message, dict):
        return None
    return optional_text(message.get("id"))


def parts_of(row: Row) -> list[Any]:
    message = row.get("message")
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return content
    return [] if content is None else [content]
