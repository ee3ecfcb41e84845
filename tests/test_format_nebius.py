"""nebius' SWE-agent rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from broken import bears

from swe_srl.formats import Dropped, nebius
from swe_srl.formats.turns import REJECTED, UNANSWERED
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")

PROMPT = "We're solving an issue.\nISSUE:\nIt is broken.\n\nINSTRUCTIONS:\nSolve it."


def row(*said: str, **more: Any) -> dict[str, Any]:
    """A run whose `ai` and `user` messages alternate."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "text": None, "system_prompt": "SETTING: …", "mask": False, "cutoff_date": "01.01.2023"},
        {"role": "user", "text": PROMPT, "system_prompt": None, "mask": False, "cutoff_date": None},
    ]
    for number, text in enumerate(said):
        role = "user" if number % 2 else "ai"
        messages.append({"role": role, "text": text, "system_prompt": None, "mask": not number % 2})
    return {"instance_id": "a__b-1", "target": True, "exit_status": "submitted", "trajectory": messages, **more}


def read(document: Any) -> Trajectory | Dropped:
    (item,) = nebius.read(document, Provenance("rows.jsonl", 1, nebius.name))
    return item


def actions(*said: str) -> list[Action | None]:
    trajectory = read(row(*said))
    assert isinstance(trajectory, Trajectory)
    return [turn.action for turn in trajectory.turns]


@needs_logs
def test_the_real_rows() -> None:
    rows = orjson.loads((LOGS / "nebius_swe_agent" / "sample_raw.json").read_bytes())
    assert all(nebius.detect(row) for row in rows)
    runs = [item for row in rows if isinstance(item := read(row), Trajectory)]
    assert [len(run.acted) for run in runs] == [6, 14, 5, 8, 16]
    assert not any(run.dropped for run in runs)
    for run, row_ in zip(runs, rows, strict=True):
        answers = [m["text"] for m in row_["trajectory"] if m["role"] == "user"][1:]
        assert [turn.observation for turn in run.turns] == [*answers, None]
        assert run.turns[-1].action == Action("submit")
        assert run.outcome.resolved is row_["target"]
        assert (run.outcome.patch or "").startswith("diff --git ")
        assert "INSTRUCTIONS:" not in run.issue
        assert f"ISSUE:\n{run.issue}" in row_["trajectory"][1]["text"]
    assert runs[0].id == "tomerfiliba__plumbum-366_17"
    assert runs[0].task == TaskLink("tomerfiliba__plumbum-366", "tomerfiliba/plumbum")
    edit = runs[0].turns[3].action
    assert edit == Action("edit", {"command": "edit 5:5\nimport plumbum.cli as cli\nend_of_edit"})


def test_the_command_is_the_last_block_that_is_in_no_other() -> None:
    assert actions("First:\n```python\nx = 1\n```\nSo:\n```\nls\n```", "x") == [Action("bash", {"command": "ls"})]
    nested = "See:\n```\ncat > a.md <<EOF\n```python\nx\n```\nEOF\n```"
    assert actions(nested, "x") == [Action("bash", {"command": "cat > a.md <<EOF\n```python\nx\n```\nEOF"})]
    inline = "Run ```ls``` now:\n```\npwd\n```"
    assert actions(inline, "x") == [Action("bash", {"command": "pwd"})]


def test_the_thought_is_all_but_the_block() -> None:
    trajectory = read(row("Look.\n```\nls\n```\nThen edit.", "a\n(Open file: n/a)\nbash-$"))
    assert isinstance(trajectory, Trajectory)
    (turn,) = trajectory.turns
    assert (turn.thought, turn.observation) == ("Look.\nThen edit.", "a\n(Open file: n/a)\nbash-$")


def test_an_answer_without_a_block_executed_nothing() -> None:
    document = row("```\nls\n```", "a", "Exit due to context window", "diff", exit_status="submitted (exit_context)")
    trajectory = read(document)
    assert isinstance(trajectory, Trajectory)
    assert len(trajectory.turns) == 1
    assert trajectory.dropped == {REJECTED: 1}
    assert trajectory.outcome == Outcome(True, "submitted (exit_context)")


def test_a_run_that_is_cut_off() -> None:
    trajectory = read(row("```\nls\n```", "a", "```\nrm -r build\n```", target=False))
    assert isinstance(trajectory, Trajectory)
    assert len(trajectory.turns) == 1
    assert trajectory.dropped == {UNANSWERED: 1}
    assert trajectory.outcome.resolved is False
    assert read(row("```\nls\n```")) == Dropped(1, "no action", "exit status 'submitted'")
    assert actions("```\nls\n```", "a", "Done.\n```\nsubmit\n```")[-1] == Action("submit")


def test_only_its_own_rows_are_claimed() -> None:
    assert nebius.detect(row("x"))
    assert not nebius.detect({"trajectory": [{"role": "user", "content": "x"}]})
    assert not nebius.detect(row("x")["trajectory"])


def test_broken_rows() -> None:
    assert (
        bears(nebius, row("Look.\n```\nls\n```", "a", "```\nsubmit\n```", generated_patch="diff --git a/x b/x")) > 100
    )
