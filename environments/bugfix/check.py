"""Check the suite by running it: `python environments/bugfix/check.py [--variants N] [task_id …]`.

For each task: the package's tests pass; with the gold patch taken back exactly `fail_to_pass` fail and
exactly `pass_to_pass` pass; with the gold patch applied again all pass; the patch touches one file that is no
test; the issue names the function that is wrong and no file. With `--variants N`, the same for the first N
variants of each task instead. Writes nothing; exits with 1 and says what is wrong if any is.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from unidiff.patch import PatchSet

from swe_srl.sandboxes import ExecResult, Sandbox, open_sandbox
from swe_srl.tasks.bugfix import grade, load_split, load_tasks, materialise, write_package
from swe_srl.tasks.variants import variant
from swe_srl.types import Task

TASKS = Path(__file__).resolve().parent / "tasks.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the suite by running it.")
    parser.add_argument("names", nargs="*", metavar="task_id")
    parser.add_argument("--variants", type=int, metavar="N", help="the first N variants of each task instead")
    asked = parser.parse_args()
    tasks = [task for task in load_tasks(TASKS) if not asked.names or task.task_id in asked.names]
    if asked.variants is not None:
        tasks = [variant(task, number) for task in tasks for number in range(asked.variants)]
    in_split = {package for packages in load_split(TASKS).values() for package in packages}
    problems = [f"{task.task_id}: {problem}" for task in tasks for problem in check(task, in_split)]
    print("\n".join(problems) or f"{len(tasks)} tasks are as they say")
    return bool(problems) or not tasks


def check(task: Task, in_split: set[str]) -> list[str]:
    """All that is wrong with a task, in words."""
    problems = []
    patch = PatchSet(task.gold_patch)
    if len(patch) != 1 or patch[0].path.startswith("tests/") or len(patch[0]) != 1:
        problems.append("the gold patch is not one hunk in one file that is no test")
    package = patch[0].path.partition("/")[0]
    if ".py" in task.issue or not re.search(rf"`{package}\.\w+\(", task.issue):
        problems.append("the issue names a file, or no function")
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


def run(task: Task, sandbox: Sandbox) -> ExecResult:
    return sandbox.exec(task.test_command, 60)


def results(result: ExecResult, status: str) -> list[str]:
    return sorted(re.findall(rf"^{status} (\S+)", result.output, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
