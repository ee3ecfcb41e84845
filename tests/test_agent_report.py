"""The report of whole attempts: its arithmetic, its Markdown, and that no table hides what it must tell."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from made_report import RESULTS, report, row, tasks
from rich.console import Console

from swe_srl.evaluate.agent_plots import plot
from swe_srl.evaluate.agent_report import attempts_grid, infrastructure_grid, markdown, tables
from swe_srl.evaluate.grids import Grid
from swe_srl.evaluate.rows import at_k, by_task, row_from_json, share, summary_json
from swe_srl.evaluate.trained_on import trained_on
from swe_srl.lineage import Lineage
from swe_srl.types import Task


def shown(grid: Grid) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(grid.shown())
    return capture.get()


GOLDEN = Path(__file__).parent / "golden" / "agent_report.md"
BEFORE = {f"spans__{n}": 0.0 for n in (1, 3, 5, 7, 9)} | {"polls__2": 1.0}


def test_markdown_is_as_it_was() -> None:
    """`UPDATE_GOLDEN=1 pytest` writes it anew; look at the difference before you commit it."""
    found = markdown(report(BEFORE), "report.png")
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_counts_add_up() -> None:
    found = summary_json(report().rows, 1)
    assert (found["n"], found["n_scored"], found["n_infra"], found["resolved"]) == (10, 9, 1, 3)
    assert sum(found["failures"].values()) + found["resolved"] == found["n"]
    assert found["resolved_rate"] == pytest.approx(0.3)  # of what was requested
    assert found["exploits"] == {"instances": 1, "rules": {"reflog": 1}}
    assert found["hacks"] == {"instances": 1, "rules": {"tests edited": 1}}
    assert sum(one["n"] for one in found["repositories"].values()) == found["n"]


def test_every_table_tells_what_was_requested_lost_and_trained_on() -> None:
    made = report(BEFORE)
    for grid in [*tables(made), infrastructure_grid(made), attempts_grid(made)]:
        assert grid is not None
        assert "n = 10 requested, 9 scored, 1 lost to infrastructure; trained on 2 of 10" in grid.markdown()
        assert "trained on 2 of 10" in shown(grid)
        assert len({len(grid.columns), *map(len, grid.rows)}) == 1


def test_several_attempts_a_task() -> None:
    made = [replace(row(2, result), sample=i) for i, result in enumerate(RESULTS[:4])]
    made += [replace(row(3, result), sample=i) for i, result in enumerate(RESULTS[2:6])]
    assert by_task(made) == {"polls__2": 0.5, "spans__3": 0.0}
    assert share(made).rate.value == 0.25
    assert {k: round(one.value, 4) for k, one in at_k(made, 4).items()} == {1: 0.25, 2: 0.4167, 4: 0.5}


def test_a_row_is_read_back() -> None:
    for one in report().rows:
        assert row_from_json(one.as_json()) == one


def test_instances_and_repositories_that_were_trained_on_are_told_apart() -> None:
    made = tasks(report().rows)
    found = trained_on(Lineage(("polls",), ("spans__3~1",), ("warm",)), made)
    assert (found.instances, found.neighbours) == (("spans__3",), 5)
    assert found.words == "trained on 1 of 10, and on the repositories of 5 more (polls)"
    assert trained_on(Lineage(), made).words == "trained on 0 of 10"
    assert "carries no list" in trained_on(None, made).words


def test_repositories_are_known_by_any_of_their_names() -> None:
    flask = Task("pallets__flask-5014", "pallets/flask", "", "", "", (), (), "")
    assert trained_on(Lineage(("pallets__flask",), (), ("sft",)), [flask]).neighbours == 1
    assert trained_on(Lineage((), ("pallets__flask-1",), ("sft",)), [flask]).neighbours == 1
    assert trained_on(Lineage((), ("pallets__flask-5014",), ("sft",)), [flask]).instances == ("pallets__flask-5014",)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    path = plot(report(), tmp_path / "report.png")
    assert path.stat().st_size > 20_000
