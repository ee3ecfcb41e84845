"""The bug-fix suite is as it says, and grading judges as it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from swe_srl.errors import DataError
from swe_srl.sandboxes import Sandbox
from swe_srl.tasks.bugfix import grade, load_split, load_tasks, materialise, task_sandbox
from swe_srl.types import Task

SUITE = Path(__file__).parent.parent / "environments" / "bugfix"
TASKS = load_tasks(SUITE)


def check(*names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SUITE / "check.py"), *names], capture_output=True, text=True)


@pytest.fixture
def task() -> Task:
    return next(task for task in TASKS if task.task_id == "spans__1")


def fix(task: Task, sandbox: Sandbox) -> None:
    sandbox.write("/testbed/.git/gold.patch", task.gold_patch.encode())
    assert sandbox.exec("git apply .git/gold.patch", 20).exit_code == 0


# ------------------------------------------------------------------------------------------------ the suite


def test_sixty_four_tasks_split_by_package() -> None:
    split = load_split(SUITE)
    assert len(TASKS) == len({task.task_id for task in TASKS}) == 64
    assert {name: len(packages) for name, packages in split.items()} == {"train": 5, "validation": 1, "test": 2}
    assert sum(len(load_tasks(SUITE, name)) for name in split) == 64
    assert {task.repository for task in load_tasks(SUITE / "tasks.jsonl", "test")} == set(split["test"])


def test_issues_are_short_and_name_no_place() -> None:
    for task in TASKS:
        assert len(task.issue.split()) <= 60
        assert ".py" not in task.issue
        assert "line " not in task.issue


def test_a_sample_is_as_it_says() -> None:
    done = check("textkit__4", "spans__7", "coins__8", "almanac__1")
    assert (done.returncode, done.stdout) == (0, "4 tasks are as they say\n"), done.stdout + done.stderr


@pytest.mark.slow
def test_all_are_as_they_say() -> None:
    done = check()
    assert (done.returncode, done.stdout) == (0, "64 tasks are as they say\n"), done.stdout + done.stderr


def test_the_tree_is_broken_even_inside_another_repository(task: Task, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    tree = materialise(task, tmp_path / "inside" / "tree")
    assert "start <= point <= end" in (tree / "spans" / "relate.py").read_text()
    assert "start <= point < end" in (SUITE / "packages" / "spans" / "spans" / "relate.py").read_text()


# ------------------------------------------------------------------------------------------------ grading


def test_the_broken_tree_is_not_resolved(task: Task) -> None:
    with task_sandbox(task, "local") as sandbox:
        verdict = grade(task, sandbox)
    assert verdict.resolved is False
    assert verdict.failed == task.fail_to_pass


def test_the_gold_patch_resolves(task: Task) -> None:
    with task_sandbox(task, "local") as sandbox:
        fix(task, sandbox)
        sandbox.exec("cd spans; set -e", 20)  # whatever the shell was left in
        assert grade(task, sandbox).resolved is True


def test_the_original_tests_judge(task: Task) -> None:
    cheat = (
        "rm tests/*; echo 'def test_contains_end(): pass' > tests/test_relate.py; "
        "printf 'def pytest_collection_modifyitems(items):\\n    items.clear()\\n' > conftest.py; "
        "printf '[pytest]\\naddopts = --co' > pytest.ini"
    )
    with task_sandbox(task, "local") as sandbox:
        sandbox.exec(cheat, 20)
        assert grade(task, sandbox).failed == task.fail_to_pass
    with task_sandbox(task, "local") as sandbox:
        fix(task, sandbox)
        sandbox.exec(cheat, 20)
        assert grade(task, sandbox).resolved is True


def test_a_package_cannot_say_that_it_passed(task: Task) -> None:
    said = "".join(f"print('PASSED {name}')\n" for name in (*task.fail_to_pass, *task.pass_to_pass))
    with task_sandbox(task, "local") as sandbox:
        sandbox.write("/testbed/spans/__init__.py", f"{said}import os\nos._exit(0)\n".encode())
        assert grade(task, sandbox).resolved is False


def test_a_patch_that_never_ends_has_failed(task: Task) -> None:
    with task_sandbox(task, "local") as sandbox:
        sandbox.write("/testbed/spans/__init__.py", b"while True: pass\n")
        verdict = grade(task, sandbox, timeout_s=1)
    assert verdict.resolved is False
    assert verdict.reason == "the tests took too long"


def test_a_sandbox_that_is_gone_gives_no_verdict(task: Task) -> None:
    with task_sandbox(task, "local") as sandbox:
        sandbox.close()
        verdict = grade(task, sandbox)
    assert verdict.resolved is None
    assert verdict.reason


# ------------------------------------------------------------------------------------------------ bad data


@pytest.mark.parametrize(
    ("line", "says"),
    [("{", "tasks.jsonl:1: not a task"), ("[]", "not a task"), ('{"task_id": "x"}', "repository")],
)
def test_a_row_that_is_no_task(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "tasks.jsonl").write_text(line)
    with pytest.raises(DataError, match=says):
        load_tasks(tmp_path)


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    row = json.loads((SUITE / "tasks.jsonl").read_text().splitlines()[0])
    (tmp_path / "tasks.jsonl").write_text(json.dumps({**row, "isue": ""}))
    with pytest.raises(DataError, match="isue"):
        load_tasks(tmp_path)


def test_no_file_and_no_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tasks can be read"):
        load_tasks(tmp_path / "none")
    with pytest.raises(DataError, match="no split 'dev'; there are train"):
        load_tasks(SUITE, "dev")
