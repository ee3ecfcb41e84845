"""Check the suite by running it: `python environments/bugfix/check.py [--told | --spots] [--variants N] [task_id …]`.

For each task: the package's tests pass; with the gold patch taken back exactly `fail_to_pass` fail and
exactly `pass_to_pass` pass; with the gold patch applied again all pass; the patch touches no test and as many
places as `difficulty` says; the issue names no file, and a function unless it is vague. With `--told`, the same for
the tasks of told.jsonl, whose issue names the file, its line and the right one; with `--spots`, for those of spots.jsonl,
whose issue names the function, the file, and which signs are to be which; with `--variants N`, for the first N variants
of each task instead. Writes nothing; exits with 1 and says what is wrong if any is.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from functools import partial
from pathlib import Path

from unidiff.patch import PatchSet

from swe_srl.sandboxes import ExecResult, Sandbox, open_sandbox
from swe_srl.tasks.bugfix import grade, load_split, load_tasks, materialise, write_package
from swe_srl.tasks.variants import variant
from swe_srl.threads import in_order
from swe_srl.types import Task

TASKS = Path(__file__).resolve().parent / "tasks.jsonl"
ONE_PLACE = ("token", "line", "branch")
CLARITY = ("exact", "loose", "vague")


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the suite by running it.")
    parser.add_argument("names", nargs="*", metavar="task_id")
    files = parser.add_mutually_exclusive_group()
    for name in ("told", "spots"):
        files.add_argument(f"--{name}", dest="file", action="store_const", const=f"{name}.jsonl", default=TASKS.name)
    parser.add_argument("--variants", type=int, metavar="N", help="the first N variants of each task instead")
    asked = parser.parse_args()
    every = load_tasks(TASKS.with_name(asked.file))
    tasks = [task for task in every if not asked.names or task.task_id in asked.names]
    if asked.variants is not None:
        tasks = [variant(task, number) for task in tasks for number in range(asked.variants)]
    in_split = {package for packages in load_split(TASKS).values() for package in packages}
    found = in_order(partial(check, in_split=in_split), tasks, os.cpu_count() or 1)
    problems = [f"{task.task_id}: {problem}" for task, said in zip(tasks, found, strict=True) for problem in said]
    print("\n".join(problems) or f"{len(tasks)} tasks are as they say")
    return bool(problems) or not tasks


def check(task: Task, in_split: set[str]) -> list[str]:
    """All that is wrong with a task, in words."""
    problems = looks(task)
    if task.repository not in in_split:
        problems.append("its package is in no split")
    every = sorted((*task.fail_to_pass, *task.pass_to_pass))
    with tempfile.TemporaryDirectory() as folder:
        with open_sandbox("local", write_package(task, Path(folder, "fixed"))) as sandbox:
            if results(run(task, sandbox), "PASSED") != every:
                problems.append("a test of the package fails, or is in neither list")
        tree = materialise(task, Path(folder, "broken"))
        with open_sandbox("local", tree) as sandbox:
            broken = run(task, sandbox)
            if results(broken, "FAILED") != sorted(task.fail_to_pass):
                problems.append("other tests fail than fail_to_pass")
            if results(broken, "PASSED") != sorted(task.pass_to_pass):
                problems.append("other tests pass than pass_to_pass")
            sandbox.write("/testbed/.git/gold.patch", task.gold_patch.encode())
            applied = sandbox.exec("cd /testbed && git apply .git/gold.patch", 10)
            if applied.exit_code != 0 or not grade(task, sandbox).resolved:
                problems.append(f"the gold patch does not resolve it: {applied.output}")
    return problems


def looks(task: Task) -> list[str]:
    """What is wrong with a task's row, without running it."""
    patch = PatchSet(task.gold_patch)
    hunks = sum(len(file) for file in patch)
    problems = []
    if any(file.path.startswith("tests/") for file in patch):
        problems.append("the gold patch changes a test")
    if task.difficulty in ONE_PLACE and (len(patch), hunks) != (1, 1):
        problems.append(f"the gold patch is not the one hunk that {task.difficulty!r} means")
    elif task.difficulty == "hunks" and not (len(patch) == 1 < hunks):
        problems.append("the gold patch is not several hunks of one file")
    elif task.difficulty == "files" and len(patch) != 2:
        problems.append("the gold patch is not of two files")
    elif task.difficulty not in (*ONE_PLACE, "hunks", "files"):
        problems.append(f"no such difficulty: {task.difficulty!r}")
    if task.clarity == "told":
        file, lines = patch[0].path, [f"`{line.value.strip()}`" for line in patch[0][0] if not line.is_context]
        return problems + [
            f"the issue does not tell {part}" for part in [f"`{file}`", *lines] if part not in task.issue
        ]
    if task.clarity == "spot":
        _, file, wrong, right = re.findall(r"`([^`]*)`", task.issue)
        old, new = ("".join(line.value for line in patch[0][0] if line.line_type == sort) for sort in "-+")
        if file != patch[0].path or old.replace(wrong, right, 1) != new:
            problems.append(f"the issue does not tell the change of {file}")
        return problems
    package = patch[0].path.partition("/")[0]
    called = re.search(rf"`{package}\.\w+\(", task.issue) is not None
    if task.clarity not in CLARITY or called != (task.clarity != "vague"):
        problems.append(f"the issue is not {task.clarity!r}")
    if ".py" in task.issue:
        problems.append("the issue names a file")
    return problems


def run(task: Task, sandbox: Sandbox) -> ExecResult:
    return sandbox.exec(task.test_command, 60)


def results(result: ExecResult, status: str) -> list[str]:
    return sorted(re.findall(rf"^{status} (\S+)", result.output, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
