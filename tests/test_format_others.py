"""What is no log is told by name, not as an unknown format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swe_srl.containers import documents
from swe_srl.formats import NO_FORMAT, Dropped, detect, read_document
from swe_srl.formats.others import (
    AGENTTUNING,
    MOATLESS,
    PREDICTIONS,
    REQUESTS,
    STATE,
    TASK,
    TRAE,
    VERDICTS,
    recognise,
)

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")

PREDICTION = {"instance_id": "a__b-1", "model_patch": "diff", "model_name_or_path": "m"}
KNOWN: list[tuple[Any, str]] = [
    (PREDICTION, PREDICTIONS),
    ([PREDICTION, PREDICTION], PREDICTIONS),
    ({"a__b-1": PREDICTION}, PREDICTIONS),
    ({"instance_id": "a__b-1", "problem_statement": "x", "base_commit": "c", "patch": "diff"}, TASK),
    ({"total_instances": 1, "resolved_ids": []}, VERDICTS),
    ({"a__b-1": {"patch_successfully_applied": True, "resolved": False}}, VERDICTS),
    ({"type": "request", "model": "m", "messages": [{"role": "user", "content": "x"}]}, REQUESTS),
    ({"type": "response", "model": "m", "outputs": []}, REQUESTS),
    ({"nodes": [], "max_iterations": 3}, MOATLESS),
    ({"initial_message": "x", "transitions": []}, MOATLESS),
    ({"task": "x", "llm_interaction": []}, TRAE),
    ({"task": "x", "llm_interactions": [], "agent_steps": []}, TRAE),
    ({"conversations": [{"role": "assistant", "content": "Think: a\n\nAct: bash"}]}, AGENTTUNING),
    ({"id": "x", "agent": {}, "workspace": {}, "execution_status": "idle"}, STATE),
]


@pytest.mark.parametrize(("document", "reason"), KNOWN)
def test_known_others_have_a_reason(document: Any, reason: str) -> None:
    assert detect(document) is None
    assert recognise(document) == reason
    ((line, name, item),) = read_document(document, "x.json", 3)
    assert (line, name) == (3, None)
    assert isinstance(item, Dropped)
    assert (item.line, item.reason) == (3, reason)
    assert item.detail.startswith("saw ")


@pytest.mark.parametrize("document", [None, 7, "x", [], {}, [[]], [None], {"a": None}, {"conversations": [7]}])
def test_all_else_stays_unknown(document: Any) -> None:
    assert recognise(document) is None
    ((_, _, item),) = read_document(document, "x.json", 1)
    assert isinstance(item, Dropped)
    assert item.reason == NO_FORMAT


@pytest.mark.parametrize("document", [document for document, _ in KNOWN if isinstance(document, dict)])
def test_no_mutant_is_an_error(document: dict[str, Any]) -> None:
    for key in document:
        for value in (None, 7, "x", [], {}, True, [[]], [7], {"": None}):
            recognise({**document, key: value})
        recognise({other: value for other, value in document.items() if other != key})


@needs_logs
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("openhands/swe_bench_example_model_output.json", PREDICTIONS),
        ("llm_request_log/interactions_20251103_025309.jsonl", REQUESTS),
        ("moatless/20240623__astropy__astropy-12907.json", MOATLESS),
        ("moatless/20241117__django__django-12983.json", MOATLESS),
        ("trae/demo_trajectory.json", TRAE),
        ("agenttuning_os/sample_raw.json", AGENTTUNING),
        ("openhands_sdk_events/cd945624/base_state.json", STATE),
    ],
)
def test_real_files(path: str, reason: str) -> None:
    found = [item for line, document in documents(LOGS / path) for _, _, item in read_document(document, path, line)]
    assert found
    assert {item.reason for item in found if isinstance(item, Dropped)} == {reason}
