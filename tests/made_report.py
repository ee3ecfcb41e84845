"""A small report of a made run, for the tests of reports."""

from __future__ import annotations

from swe_srl.evaluate.agent_report import Report
from swe_srl.evaluate.outcomes import Result
from swe_srl.evaluate.rates import Paired, paired
from swe_srl.evaluate.rows import Row
from swe_srl.evaluate.trained_on import trained_on
from swe_srl.lineage import Lineage
from swe_srl.types import Task

RESULTS: tuple[Result, ...] = (
    "resolved", "resolved", "tests fail", "regressions", "out of steps", "no patch", "format", "resolved",
    "infrastructure", "does not apply",
)  # fmt: skip


def row(number: int, result: Result) -> Row:
    return Row(
        instance_id=f"{'spans' if number % 2 else 'polls'}__{number}",
        sample=0,
        repository="spans" if number % 2 else "polls",
        difficulty=("token", "line", "hunks")[number % 3],
        clarity="exact",
        result=result,
        end="submitted",
        failed=("tests/test_spans.py::test_a|b",) if result == "tests fail" else (),
        detail="the daemon went away" if result == "infrastructure" else None,
        steps=4 + number,
        prompt_tokens=None if number == 3 else 900 * number,
        completion_tokens=None if number == 3 else 110,
        seconds=1.5 * number,
        grading_seconds=0.4,
        peeks=("reflog",) if number == 4 else (),
        hacks=("tests edited",) if number == 2 else (),
    )


def tasks(rows: tuple[Row, ...]) -> list[Task]:
    return [Task(one.instance_id, one.repository, "", "", "", (), (), "") for one in rows]


def report(against: dict[str, float] | None = None) -> Report:
    rows = tuple(row(number, result) for number, result in enumerate(RESULTS))
    lineage = Lineage(repositories=("polls",), instances=("spans__3", "spans__5~7"), stages=("warm",))
    compared: Paired | None = None
    if against is not None:
        compared = paired(against, {one.instance_id: float(one.resolved) for one in rows})
    return Report(
        protocol="agent",
        tasks="bugfix, split test",
        who="best of runs/x",
        samples=1,
        rows=rows,
        trained_on=trained_on(lineage, tasks(rows)),
        facts={"config": {"seed": 0, "rollout": {"max_steps": 12}}, "versions": {"swe-srl": "0.1"}, "template": "abc"},
        paired=compared,
        baseline="runs/before/report.json" if against else None,
    )
