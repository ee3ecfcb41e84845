"""Our own form: a Trajectory as JSON, exactly. A store is made of these, so a store can be ingested again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from swe_srl.formats.document import (
    Dropped,
    Malformed,
    mapping,
    mappings,
    optional_bool,
)
from swe_srl.types import Action, Outcome, Provenance, Shell, TaskLink, Trajectory, Turn

name = "swe-srl"

ANNEX = "swe_srl"  # the key under which writers put what another format has no place for


def detect(document: object) -> bool:
    return isinstance(document, dict) and {"id", "issue", "turns", "provenance", "shell"} <= document.keys()


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    """Keeps the stored provenance: where a trajectory was first read is what a person wants to know."""
    yield from_json(document)


# ------------------------------------------------------------------------------------------- whole


def to_json(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as JSON values; `from_json` gives it back exactly."""
    return {
        "id": trajectory.id,
        "issue": trajectory.issue,
        "turns": [
            {
                "thought": turn.thought,
                "action": turn.action and {"tool": turn.action.tool, "arguments": dict(turn.action.arguments)},
                "observation": turn.observation,
            }
            for turn in trajectory.turns
        ],
        "provenance": asdict(trajectory.provenance),
        **_facts(trajectory),
    }


def from_json(document: Mapping[str, Any]) -> Trajectory:
    """The trajectory that `to_json` wrote. Raises Malformed."""
    source = mapping(document.get("provenance"), "provenance")
    line = source.get("line")
    if not isinstance(line, int):
        raise Malformed("provenance.line", "a number", line)
    trajectory = Trajectory(
        id=_string(document, "id"),
        issue=_string(document, "issue"),
        turns=tuple(_turn(turn) for turn in mappings(document.get("turns"), "turns")),
        provenance=Provenance(_string(source, "file"), line, _string(source, "format")),
    )
    return _with_facts(trajectory, document)


def _turn(turn: Mapping[str, Any]) -> Turn:
    action = None
    if turn.get("action") is not None:
        call = mapping(turn["action"], "turns[].action")
        arguments = mapping(call.get("arguments"), "turns[].action.arguments")
        action = Action(_string(call, "tool"), {key: _string(arguments, key) for key in arguments})
    return Turn(_string(turn, "thought"), action, _optional(turn, "observation"))


# ------------------------------------------------------------------------------------------- annex


def annex(trajectory: Trajectory, told: str) -> dict[str, Any]:
    """All of a trajectory but its turns, for a writer to put under ANNEX.

    `told` is the issue as a reader would find it in the prompt: if it is another text, the issue comes along.
    """
    issue = {} if told == trajectory.issue else {"issue": trajectory.issue}
    return {"id": trajectory.id, **issue, **_facts(trajectory)}


def with_annex(trajectory: Trajectory, document: object) -> Trajectory:
    """`trajectory` with what the document's ANNEX says, if it has one. Raises Malformed."""
    if not isinstance(document, dict) or ANNEX not in document:
        return trajectory
    facts = mapping(document[ANNEX], ANNEX)
    issue = _string(facts, "issue") if facts.get("issue") is not None else trajectory.issue
    return replace(_with_facts(trajectory, facts), id=_string(facts, "id"), issue=issue)


def _facts(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "task": asdict(trajectory.task),
        "outcome": asdict(trajectory.outcome),
        "shell": trajectory.shell,
        "dropped": dict(trajectory.dropped),
    }


def _with_facts(trajectory: Trajectory, facts: Mapping[str, Any]) -> Trajectory:
    task = mapping(facts.get("task"), "task")
    outcome = mapping(facts.get("outcome"), "outcome")
    # A table has one set of keys for all rows: what a row has not is null there.
    counts = mapping(facts.get("dropped"), "dropped")
    dropped = {reason: count for reason, count in counts.items() if count is not None}
    if not all(isinstance(count, int) for count in dropped.values()):
        raise Malformed("dropped", "counts", dropped)
    return replace(
        trajectory,
        task=TaskLink(*(_optional(task, key) for key in ("task_id", "repository", "base_commit", "image"))),
        outcome=Outcome(
            optional_bool(outcome.get("resolved")),
            _optional(outcome, "exit_status"),
            _optional(outcome, "patch"),
        ),
        shell=_shell(facts.get("shell")),
        dropped=dict(dropped),
    )


def _shell(value: object) -> Shell:
    if value == "fresh":
        return "fresh"
    if value == "persistent":
        return "persistent"
    raise Malformed("shell", '"fresh" or "persistent"', value)


def _string(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise Malformed(key, "text", value)
    return value


def _optional(values: Mapping[str, Any], key: str) -> str | None:
    return None if values.get(key) is None else _string(values, key)
