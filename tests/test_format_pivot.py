"""Pivot rows: made by their documentation and by the examples in NeMo Gym's repository, not yet by a real data set."""

from __future__ import annotations

from typing import Any

import pytest
from broken import bears

from swe_srl.formats import Dropped, Malformed, pivot, responses
from swe_srl.formats.turns import UNANSWERED
from swe_srl.types import Action, Provenance, Trajectory, Turn

EXPECTED = {"type": "function_call", "name": "execute_bash", "arguments": '{"command": "pytest -q"}'}
CALL = {"type": "function_call", "call_id": "1", "name": "execute_bash", "arguments": '{"command": "ls"}'}
OUTPUT = {"type": "function_call_output", "call_id": "1", "output": "x.py"}
PROMPTS = [
    {"role": "system", "content": "You are an agent."},
    {"role": "user", "content": "Fix it.", "type": "message"},
]


def row(*items: dict[str, Any], expected: Any = EXPECTED, **more: Any) -> dict[str, Any]:
    return {"responses_create_params": {"input": [*PROMPTS, *items]}, "expected_action": expected, **more}


def read(document: Any, line: int = 1) -> Trajectory | Dropped:
    assert pivot.detect(document)
    (item,) = pivot.read(document, Provenance("train.jsonl", line, pivot.name))
    return item


def turns(document: Any) -> tuple[Turn, ...]:
    item = read(document)
    assert isinstance(item, Trajectory), item
    assert item.issue == "Fix it."
    return item.turns


def test_the_expected_action_is_the_last_turn() -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}
    assert turns(row(said, CALL, OUTPUT)) == (
        Turn("I look.", Action("bash", {"command": "ls"}), "x.py"),
        Turn("", Action("bash", {"command": "pytest -q"}), None),
    )


def test_words_that_the_conversation_ends_with_are_its_thought() -> None:
    reasoning = {"type": "reasoning", "summary": [{"text": "Now the tests."}]}
    assert turns(row(CALL, OUTPUT, reasoning))[-1] == Turn(
        "Now the tests.", Action("bash", {"command": "pytest -q"}), None
    )


def test_the_first_step_of_a_run() -> None:
    assert [turn.action for turn in turns(row())] == [Action("bash", {"command": "pytest -q"})]


def test_a_call_of_the_history_without_an_output_is_dropped() -> None:
    item = read(row(CALL))
    assert isinstance(item, Trajectory)
    assert len(item.turns) == 1
    assert item.dropped == {UNANSWERED: 1}


def test_what_is_not_one_call_is_no_target() -> None:
    message = {"type": "message", "content": "Done."}
    assert read(row(expected=message)) == Dropped(1, pivot.NO_CALL, "its type is 'message'")
    batch = {"type": "function_call_batch", "calls": [EXPECTED, EXPECTED]}
    assert read(row(expected=batch)) == Dropped(1, pivot.NO_CALL, "its type is 'function_call_batch'")


def test_json_text_in_place_of_an_object() -> None:
    text = '{"type": "function_call", "name": "finish", "arguments": "{}"}'
    assert turns(row(expected=text))[-1].action == Action("submit")
    with pytest.raises(Malformed, match="expected_action"):
        read(row(expected="{"))


def test_rows_of_one_run_have_ids_of_their_own() -> None:
    named = [
        read(document, line=5)
        for document in (
            row(uuid="u-1", trajectory_id=7),
            row(CALL, OUTPUT, trajectory_id=7),
            row(trajectory_id="r", instance_id="a__b-1"),
            row(instance_id="a__b-1"),
            row(),
        )
    ]
    assert [item.id for item in named if isinstance(item, Trajectory)] == [
        *("u-1", "7-turn-2", "r-turn-1", "a__b-1", "train-5")
    ]


def test_a_policys_attempt_at_a_row_is_no_run() -> None:
    attempt = row(response={"output": [{**CALL, "name": "other"}]}, reward=0.0)
    assert turns(attempt)[-1].action == Action("bash", {"command": "pytest -q"})
    assert not responses.detect(attempt)
    assert not pivot.detect({"expected_action": EXPECTED})
    assert not pivot.detect({"responses_create_params": {"input": []}})


def test_broken_rows() -> None:
    assert bears(pivot, row(CALL, OUTPUT, uuid="u", trajectory_id=7, instance_id="a__b-1")) > 200
