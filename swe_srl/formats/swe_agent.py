"""SWE-agent `.traj`: old (thought and command as text), new (tool calls), and demonstrations without rows.

`trajectory` is a list of rows, each with an action and the observation that answers it. `history` is the
conversation: only there are the new format's calls, because a row's `action` is the call flattened to a command
line, which cannot be undone. A file may have only `history`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from swe_srl.formats.calls import action_of
from swe_srl.formats.canonical import with_annex
from swe_srl.formats.command_lines import say
from swe_srl.formats.document import Dropped, Malformed, mapping, mappings, optional_text, own_id, stem, text
from swe_srl.formats.task import issue_in, link, patch_in, repository_of
from swe_srl.formats.turns import REJECTED, UNREADABLE, Turns
from swe_srl.formats.xml_messages import unwrap_observation
from swe_srl.types import Outcome, Provenance, TaskLink, Trajectory, Turn

name = "swe-agent"


def detect(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    history, rows = document.get("history"), document.get("trajectory")
    if not isinstance(history, list) or not history:
        return False
    first = history[0]
    if not (isinstance(first, dict) and "role" in first and "content" in first):
        return False  # a list of events, for one: OpenHands has `history` too
    if rows is None:
        return any(isinstance(m, dict) and ("action" in m or "tool_calls" in m) for m in history)
    return isinstance(rows, list) and all(isinstance(r, dict) and "action" in r for r in rows[:1])


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    history = [m for m in mappings(document["history"], "history") if not m.get("is_demo")]
    info = mapping(document.get("info"), "info")
    turns, dropped = _turns(mappings(document.get("trajectory"), "trajectory"), history)
    if not any(turn.action for turn in turns):
        yield Dropped(provenance.line, "no action", f"exit status {info.get('exit_status')!r}")
        return
    prompt = next((m for m in history if m.get("role") == "user"), {})
    task = _task(document, provenance.file)
    trajectory = Trajectory(
        id=own_id(task.task_id, provenance.file, provenance.line),
        issue=issue_in(text(prompt.get("content"), "history[].content")),
        turns=turns,
        provenance=provenance,
        task=task,
        outcome=Outcome(None, optional_text(info.get("exit_status")), patch_in(info.get("submission"))),
        dropped=dropped,
    )
    yield with_annex(trajectory, document)


# ------------------------------------------------------------------------------------------- turns


def _turns(rows: list[dict[str, Any]], history: list[dict[str, Any]]) -> tuple[tuple[Turn, ...], dict[str, int]]:
    """The rows' turns, or the history's where there are no rows.

    Rows of the new format are walked beside the model's messages, which hold the calls. Where the two lists
    differ in length, the history alone is the truth: it has calls, ids and observations.
    """
    spoken = [m for m in history if m.get("role") == "assistant"]
    called = any(m.get("tool_calls") for m in spoken)
    turns = Turns()
    if rows and not called:
        for row in rows:
            _say_line(turns, row)
            turns.observe(text(row.get("observation"), "trajectory[].observation"))
    elif rows and len(rows) == len(spoken):
        for row, message in zip(rows, spoken, strict=True):
            _say_call(turns, message)
            turns.observe(text(row.get("observation"), "trajectory[].observation"))
    else:
        _from_history(turns, history)
    return turns.close()


def _from_history(turns: Turns, history: list[dict[str, Any]]) -> None:
    for message in history:
        role, content = message.get("role"), text(message.get("content"), "history[].content")
        if role == "assistant" and message.get("tool_calls"):
            _say_call(turns, message)
        elif role == "assistant":
            _say_line(turns, message)
        elif role in ("user", "tool"):
            ids = message.get("tool_call_ids")
            answered = ids[0] if isinstance(ids, list) and ids and isinstance(ids[0], str) else None
            turns.observe(unwrap_observation(content), answered)


def _say_call(turns: Turns, message: dict[str, Any]) -> None:
    thought = text(message.get("thought") or message.get("content"), "history[].thought")
    try:
        calls = [action_of(call) for call in mappings(message.get("tool_calls"), "tool_calls")]
    except Malformed:
        turns.drop(UNREADABLE)
        return
    if calls:
        turns.act(thought, calls)
    else:
        turns.drop(REJECTED)


def _say_line(turns: Turns, row: dict[str, Any]) -> None:
    """A row or message of the old format."""
    say(turns, text(row.get("thought"), "thought"), text(row.get("action"), "action"))


# -------------------------------------------------------------------------------------------- task


def _task(document: dict[str, Any], file: str) -> TaskLink:
    """`environment` names the instance in new files, the agent's name in some replays, the file in old ones."""
    config = _replay_config(document.get("replay_config"))
    env = mapping(config.get("env"), "replay_config.env")
    agent = mapping(config.get("agent"), "replay_config.agent")
    repo = mapping(env.get("repo"), "replay_config.env.repo")
    deployment = mapping(env.get("deployment"), "replay_config.env.deployment")
    from_file = "__".join(stem(file).split("__")[-2:])
    names = (document.get("environment"), agent.get("name"), from_file)
    instance = next((n for n in names if isinstance(n, str) and repository_of(n)), None)
    return link(instance, repo.get("base_commit"), deployment.get("image"))


def _replay_config(value: object) -> dict[str, Any]:
    """An object in demonstrations, JSON text of one in SWE-smith's files."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Malformed("replay_config", "JSON", value) from None
    return mapping(value, "replay_config")
