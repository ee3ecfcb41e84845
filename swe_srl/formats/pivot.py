"""Step rows of NVIDIA NeMo Gym's pivot data: a conversation so far, and what the expert did next.

A row is one training instance, not one run: `responses_create_params.input` holds the conversation as Responses
items, and `expected_action` the expert's next call. Rows of one run repeat its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from swe_srl.formats.document import Dropped, Malformed, mapping, mappings, optional_text, own_id
from swe_srl.formats.responses import action_in, asked_for, follow
from swe_srl.formats.task import issue_in, link
from swe_srl.formats.turns import Turns
from swe_srl.types import Provenance, Trajectory, Turn

name = "pivot"

NO_CALL = "the expert's next action is not one call"


def detect(document: object) -> bool:
    return (
        isinstance(document, dict)
        and "expected_action" in document
        and isinstance(document.get("responses_create_params"), dict)
    )


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    """The conversation's turns and, as the last one, the expert's next call, for which the row has no output.

    That call is kept although nothing answers it: it is what the data says that the expert did. Where the
    conversation ends with words of the model, they are its thought.
    """
    row = mapping(document, "row")
    expected = _object(row.get("expected_action"))
    if expected.get("type") != "function_call":
        yield Dropped(provenance.line, NO_CALL, f"its type is {expected.get('type')!r}")
        return
    asked = mapping(row.get("responses_create_params"), "responses_create_params")
    prompt = asked.get("input")
    turns = Turns()
    thought = "" if isinstance(prompt, str) else follow(turns, mappings(prompt, "input"))
    history, dropped = turns.close()
    kept = (*history, Turn(thought, action_in(expected), None))
    task = link(row.get("instance_id"))
    yield Trajectory(
        id=own_id(_id(row, len(kept)) or task.task_id, provenance.file, provenance.line),
        issue=issue_in(asked_for(asked)),
        turns=kept,
        provenance=provenance,
        task=task,
        dropped=dropped,
    )


def _object(expected: object) -> dict[str, Any]:
    """An object or, in tables, JSON text of one."""
    if isinstance(expected, str):
        try:
            expected = orjson.loads(expected)
        except orjson.JSONDecodeError:
            raise Malformed("expected_action", "JSON", expected) from None
    return mapping(expected, "expected_action")


def _id(row: dict[str, Any], length: int) -> str | None:
    """The row's own name, else the run's with the number of the turn: a run has many rows."""
    run = row.get("trajectory_id")
    if isinstance(run, int) and not isinstance(run, bool):
        run = str(run)
    run = optional_text(run)
    return optional_text(row.get("uuid")) or (run and f"{run}-turn-{length}")
