"""The bug-fix suite is as it says, and grading judges as it should."""

from __future__ import annotations

import builtins
import json
import keyword
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from swe_srl.errors import DataError
from swe_srl.sandboxes import Sandbox
from swe_srl.tasks.bugfix import grade, load_split, load_task, load_tasks, materialise, task_sandbox
from swe_srl.tasks.variants import base_id, package_files, variant
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


def test_the_suite_is_split_by_package() -> None:
    split = load_split(SUITE)
    assert len(TASKS) == len({task.task_id for task in TASKS}) == 161
    assert {name: len(packages) for name, packages in split.items()} == {"train": 7, "validation": 2, "test": 4}
    assert {name: len(load_tasks(SUITE, name)) for name in split} == {"train": 86, "validation": 25, "test": 50}
    assert {task.repository for task in load_tasks(SUITE / "tasks.jsonl", "test")} == set(split["test"])


def test_each_split_has_each_difficulty_and_clarity() -> None:
    for name in load_split(SUITE):
        tasks = load_tasks(SUITE, name)
        assert {task.difficulty for task in tasks} == {"token", "line", "branch", "hunks", "files"}
        assert {task.clarity for task in tasks} == {"exact", "loose", "vague"}
        assert all((task.kind == "several") == (task.difficulty in ("hunks", "files")) for task in tasks)


def test_issues_are_short_and_name_no_place() -> None:
    for task in TASKS:
        assert len(task.issue.split()) <= 60
        assert ".py" not in task.issue
        assert "line " not in task.issue


def test_tasks_whose_fix_is_told_are_those_of_one_line() -> None:
    """They are the same bugs, so they have the same ids: what is learnt from one is known of the other."""
    told = load_tasks(SUITE / "told.jsonl")
    assert [task.task_id for task in told] == [t.task_id for t in TASKS if t.difficulty in ("token", "line")]
    assert {name: len(load_tasks(SUITE / "told.jsonl", name)) for name in load_split(SUITE)} == {
        "train": 59,
        "validation": 15,
        "test": 28,
    }
    assert {task.clarity for task in told} == {"told"}
    done = check("--told", "spans__3", told[-1].task_id)
    assert (done.returncode, done.stdout) == (0, "2 tasks are as they say\n"), done.stdout + done.stderr


def test_tasks_whose_spot_is_told() -> None:
    spots = load_tasks(SUITE / "spots.jsonl")
    told = [task.task_id for task in load_tasks(SUITE / "told.jsonl")]
    assert [task.task_id for task in spots] == [one for one in told if one in {task.task_id for task in spots}]
    assert {name: len(load_tasks(SUITE / "spots.jsonl", name)) for name in load_split(SUITE)} == {
        "train": 41,
        "validation": 11,
        "test": 23,
    }
    assert {task.clarity for task in spots} == {"spot"}
    done = check("--spots", "--variants", "1", spots[0].task_id, spots[-1].task_id)
    assert (done.returncode, done.stdout) == (0, "2 tasks are as they say\n"), done.stdout + done.stderr


def test_a_sample_is_as_it_says() -> None:
    done = check("textkit__4", "spans__7", "coins__8", "almanac__9", "codes__10")
    assert (done.returncode, done.stdout) == (0, "5 tasks are as they say\n"), done.stdout + done.stderr


@pytest.mark.slow
def test_all_are_as_they_say() -> None:
    done = check()
    assert (done.returncode, done.stdout) == (0, "161 tasks are as they say\n"), done.stdout + done.stderr


def test_the_tree_is_broken_even_inside_another_repository(task: Task, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    tree = materialise(task, tmp_path / "inside" / "tree")
    assert "start <= point <= end" in (tree / "spans" / "relate.py").read_text()
    assert "start <= point < end" in (SUITE / "packages" / "spans" / "spans" / "relate.py").read_text()


# ---------------------------------------------------------------------------------------------- variants


def words_of(task: Task) -> set[str]:
    """All that could be a name in a task's tree."""
    texts = [path + "\n" + content.decode() for path, content in package_files(task).items()]
    return set(re.findall(r"[^\W\d_]+", "\n".join(texts)))


def test_a_variant_is_its_base_under_other_names(task: Task) -> None:
    found = variant(task, 7)
    assert (found.task_id, found.repository, found.kind) == ("spans__1~7", "spans", task.kind)
    assert base_id(found.task_id) == task.task_id == base_id(task.task_id)
    package, function = re.findall(r"`(\w+)\.(\w+)\(\(1, 4\), 4\)`", found.issue)[0]
    assert found.issue == task.issue.replace("spans.contains", f"{package}.{function}")
    (failing,) = found.fail_to_pass
    assert failing.endswith(f"::test_{function}_end")
    assert f"def {function}(" in found.gold_patch
    files = package_files(found)
    assert failing.partition("::")[0] in files
    assert len(files) == len(package_files(task))
    assert f"\ndef {function}(" in "".join(text.decode() for path, text in files.items() if path.startswith(package))
    for text in ("contains", "relate", "< end", "spans/"):
        assert text not in found.issue + found.gold_patch + str(found.fail_to_pass)


def test_a_variant_follows_from_its_id() -> None:
    program = (
        "from swe_srl.tasks.bugfix import load_task\nfrom swe_srl.tasks.variants import package_files\n"
        f"task = load_task({str(SUITE)!r}, 'tables__3~2')\nprint(task, package_files(task))"
    )
    run = [sys.executable, "-c", program]
    first, second = (subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2))
    again = load_task(SUITE / "tasks.jsonl", "tables__3~2")
    assert first == second == f"{again} {package_files(again)}\n"
    assert load_task(SUITE, "tables__3") == next(task for task in TASKS if task.task_id == "tables__3")


def test_no_two_variants_share_a_vocabulary() -> None:
    vocabularies = {frozenset(words_of(variant(task, number))) for task in TASKS[:8] for number in range(3)}
    assert len(vocabularies) == 24


def test_new_names_are_one_each_and_none_is_the_packages() -> None:
    for task in TASKS[::12]:
        old = words_of(task)
        for number in range(3):
            other = variant(task, number)
            tree = "\n".join(text.decode() for text in package_files(other).values())
            defined = re.findall(r"^def (\w+)", tree, re.MULTILINE)
            assert len(set(defined)) == len(defined)
            words = [word for name in defined if not name.startswith("test_") for word in name.split("_")]
            assert len(set(words)) == len(words) >= 12
            assert not set(words) & old


def test_words_can_be_names() -> None:
    words = tomllib.loads((SUITE / "words.toml").read_text())
    every = [word for text in words.values() for word in text.split()]
    assert len(set(every)) == len(every) > 300
    for word in every:
        assert re.fullmatch("[a-z]{3,9}", word)
        assert word not in {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *dir(pytest), "pluggy", "packaging"}
        assert word not in sys.stdlib_module_names


@pytest.mark.parametrize("task_id", ["spans__99", "spans__3~", "spans__3~x", "~1"])
def test_no_such_task(task_id: str) -> None:
    with pytest.raises(DataError, match=f"no task '{task_id}'; there are textkit__1"):
        load_task(SUITE, task_id)


def test_a_sample_of_variants_is_as_it_says() -> None:
    done = check("--variants", "1", "coins__6", "tables__2", "leagues__13")
    assert (done.returncode, done.stdout) == (0, "3 tasks are as they say\n"), done.stdout + done.stderr


@pytest.mark.slow
def test_a_variant_of_each_is_as_it_says() -> None:
    done = check("--variants", "1")
    assert (done.returncode, done.stdout) == (0, "161 tasks are as they say\n"), done.stdout + done.stderr


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


def test_a_package_that_prints_a_lot_is_judged_all_the_same(task: Task) -> None:
    noise = "\nimport atexit\natexit.register(lambda: print('noise ' * 10_000_000))\n"
    with task_sandbox(task, "local") as sandbox:
        fix(task, sandbox)
        before = sandbox.read("/testbed/spans/__init__.py")
        sandbox.write("/testbed/spans/__init__.py", before + noise.encode())
        assert grade(task, sandbox).resolved is True


@pytest.mark.parametrize("hack", ["printf 'x=1' >pytest.py", "rm pytest.ini && mkdir pytest.ini", "touch pytest"])
def test_pytest_itself_and_its_configuration_are_put_back(task: Task, hack: str) -> None:
    with task_sandbox(task, "local") as sandbox:
        assert sandbox.exec(hack, 20).exit_code == 0
        assert grade(task, sandbox).failed == task.fail_to_pass


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
