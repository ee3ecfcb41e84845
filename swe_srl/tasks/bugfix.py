"""The bug-fix suite of `environments/bugfix`: small packages, each task one mutation of one of them.

A package's folder is its fixed state. The broken tree is the package with the gold patch taken back, so
there is one truth for both. A suite is a folder: `tasks.jsonl`, `split.toml`, `packages/<name>/`, and the
`words.toml` of its variants.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from swe_srl.errors import DataError, NodeLostError, SandboxError
from swe_srl.sandboxes import TREE, Sandbox, open_sandbox, owner
from swe_srl.tasks.signed_results import KEY, RESULTS, sign
from swe_srl.tasks.variants import MARK, package_files, variant
from swe_srl.types import Task, Verdict, VerdictKind

_RESULT = re.compile(r"^([0-9a-f]{32}) (PASSED|FAILED) (.+)$", re.MULTILINE)
GRADE_TIMEOUT_S = 60.0
_QUICK_S = 30.0
# What a package has at its top that decides which tests run, and how.
_STEERING = {"tests", "pytest.ini", ".pytest.ini", "conftest.py", "pyproject.toml", "tox.ini", "setup.cfg"}
_CANARY = "\n\ndef {name}():\n    assert False\n"
_RESULTS_LIMIT = 10_000_000  # bytes
_PLUGIN = "signed_results"


def load_tasks(path: Path | str, split: str | None = None) -> list[Task]:
    """The tasks of a suite (its folder or its `tasks.jsonl`), or those of one split, in the file's order.

    Raises DataError for a file or row that cannot be used, with its line.
    """
    path = _tasks_file(path)
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: no tasks can be read ({error.strerror}); expected a tasks.jsonl") from None
    tasks = [_task(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if split is None:
        return tasks
    splits = load_split(path)
    if split not in splits:
        raise DataError(f"{path.parent / 'split.toml'}: no split {split!r}; there are {', '.join(splits)}")
    return [task for task in tasks if task.repository in splits[split]]


def load_task(path: Path | str, task_id: str) -> Task:
    """One task of a suite by its id, or a variant of one: `spans__3~7`. Raises DataError."""
    base, mark, number = task_id.partition(MARK)
    tasks = {task.task_id: task for task in load_tasks(path)}
    if base not in tasks or (mark and not number.isdecimal()):
        raise DataError(f"{_tasks_file(path)}: no task {task_id!r}; there are {', '.join(tasks)}, and {base}{MARK}7")
    return variant(tasks[base], int(number)) if mark else tasks[base]


def load_split(path: Path | str) -> dict[str, tuple[str, ...]]:
    """train, validation and test → the packages of each, from a suite's `split.toml`. Raises DataError."""
    split = _tasks_file(path).parent / "split.toml"
    try:
        return {name: tuple(packages) for name, packages in tomllib.loads(split.read_text("utf-8")).items()}
    except (OSError, ValueError) as error:
        raise DataError(f"{split}: no split can be read ({error})") from None


def materialise(task: Task, folder: Path) -> Path:
    """Write a task's broken tree into a folder that does not exist yet, and return it."""
    from git import Git

    write_package(task, folder)
    with TemporaryDirectory(prefix=owner.temporary()) as aside:
        patch = Path(aside, "gold.patch")
        patch.write_text(task.gold_patch)
        # Inside another repository git would silently apply nothing: let it not look for one.
        git = Git(str(folder))
        git.update_environment(GIT_CEILING_DIRECTORIES=str(folder.resolve().parent))
        git.apply("--reverse", "--whitespace=nowarn", str(patch))
    return folder


def write_package(task: Task, folder: Path) -> Path:
    """Write a task's package as it should be, unbroken, into a folder that does not exist yet, and return it."""
    folder.mkdir(parents=True)
    for name, content in package_files(task).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return folder


@contextmanager
def materialised(task: Task) -> Iterator[Path]:
    """The folder of a task's broken tree, for as long as the block."""
    with TemporaryDirectory(prefix=owner.temporary()) as folder:
        yield materialise(task, Path(folder, task.repository))


@contextmanager
def task_sandbox(task: Task, kind: str) -> Iterator[Sandbox]:
    """A sandbox on a task's broken tree."""
    with materialised(task) as tree, open_sandbox(kind, tree) as sandbox:
        yield sandbox


def grade(task: Task, sandbox: Sandbox, timeout_s: float = GRADE_TIMEOUT_S) -> Verdict:
    """Run the hidden tests on the sandbox's tree as it is now; the sandbox is used up by this.

    Resolved: every test of both lists passes, and one that cannot pass fails. What steers the runner is the
    task's, whatever was done to it (`_put_back`), and what the tests' process prints is not read (`_tested`). A test
    that did not run, or not in time, has failed, whatever the exit code is; only a sandbox that is gone gives no
    verdict. Raises NodeLostError where its machine went with it: another one can tell.
    """
    try:
        canary = _put_back(task, sandbox)
        found, timed_out = _tested(task, sandbox, timeout_s)
    except NodeLostError:
        raise
    except (SandboxError, OSError) as error:
        return Verdict(task.task_id, None, reason=str(error), kind="infrastructure")
    wanted = (*task.fail_to_pass, *task.pass_to_pass)
    failed = tuple(name for name in wanted if found.get(name) != {"PASSED"})
    if timed_out:
        return Verdict(task.task_id, False, failed, "the tests took too long", "tests timed out")
    if _is_patched(found, canary):
        return Verdict(task.task_id, False, wanted, "a test that cannot pass did not fail: the runner was patched")
    return Verdict(task.task_id, not failed, failed, kind=kind_of(task, failed))


def kind_of(task: Task, failed: Collection[str]) -> VerdictKind:
    """What the tests that should pass and did not are called."""
    if not failed:
        return "resolved"
    return "tests fail" if set(failed) & set(task.fail_to_pass) else "regressions"


def _tested(task: Task, sandbox: Sandbox, timeout_s: float) -> tuple[dict[str, set[str]], bool]:
    """The tests' names and results, and whether time was up. Raises SandboxError and OSError.

    pytest is given a plugin (`signed_results`) from outside the tree, and believed is only what that has signed with
    a key made for this call.
    """
    folder = sandbox.exec("mktemp -d", _QUICK_S).output.strip()  # the /tmp of `local` is the machine's
    if not folder.startswith("/"):
        raise SandboxError(f"no folder for the tests' results: {folder[-200:]}")
    key = secrets.token_bytes(32)
    sandbox.write(f"{folder}/{_PLUGIN}.py", Path(__file__).with_name(f"{_PLUGIN}.py").read_bytes())
    sandbox.write(f"{folder}/{KEY}", key)
    given = f'export PYTEST_ADDOPTS="-p {_PLUGIN}" PYTHONPATH="{folder}${{PYTHONPATH:+:$PYTHONPATH}}"'
    command = f"cd {TREE} && ( set +eux; {given}; {task.test_command} ) >/dev/null 2>&1"
    timed_out = sandbox.exec(command, timeout_s).timed_out
    sandbox.exec(f"head -c {_RESULTS_LIMIT} {folder}/{RESULTS} >{folder}/read", _QUICK_S)  # who wrote more wrote to it
    try:
        said = sandbox.read(f"{folder}/read").decode("utf-8", "replace")
    except OSError:  # the folder is gone
        said = ""
    sandbox.exec(f"rm -rf {folder}", _QUICK_S)
    found: dict[str, set[str]] = {}
    for signature, status, name in _RESULT.findall(said):
        if signature == sign(status, name, key):
            found.setdefault(name, set()).add(status)
    return found, timed_out


def _is_patched(found: Mapping[str, set[str]], canary: str) -> bool:
    """Whether the results are not the runner's own: tests beside the one that cannot pass have passed, and it has not
    failed. Where none has, the package cannot be imported.
    """
    beside = f"{canary.partition('::')[0]}::"
    told = found.get(canary, set())
    passed = any(name.startswith(beside) for name, statuses in found.items() if statuses == {"PASSED"})
    return told != {"FAILED"} and (bool(told) or passed)


def _put_back(task: Task, sandbox: Sandbox) -> str:
    """Let all that steers the test runner be the task's, and return the id of a test that must fail. Raises
    SandboxError and OSError.

    Python and pytest look at the top of the tree first: what the package does not have there goes (a conftest.py, a
    sitecustomize.py, a module in place of pytest's), and tests and settings are written anew. What a patch may change
    is inside the package, and that is imported by the process that tests it: a package that patches its runner is told
    by the test that cannot pass.
    """
    files = package_files(task)
    kept = {".git", *(name.partition("/")[0] for name in files)} - _STEERING
    names = " ".join(f"! -name {shlex.quote(name)}" for name in sorted(kept))
    removed = sandbox.exec(f"cd {TREE} && find . -mindepth 1 -maxdepth 1 {names} -exec rm -rf {{}} +", _QUICK_S)
    if removed.exit_code != 0:
        raise SandboxError(f"the tests cannot be put back: {removed.output.strip()[-200:]}")
    canary = f"test_{secrets.token_hex(8)}"  # a package cannot know it beforehand
    judge = (task.fail_to_pass or task.pass_to_pass)[-1].partition("::")[0]
    for name, content in files.items():
        if name.partition("/")[0] in _STEERING:
            sandbox.write(f"{TREE}/{name}", content + (_CANARY.format(name=canary).encode() if name == judge else b""))
    return f"{judge}::{canary}"


def _tasks_file(path: Path | str) -> Path:
    return Path(path) / "tasks.jsonl" if Path(path).is_dir() else Path(path)


def _task(path: Path, number: int, line: str) -> Task:
    try:
        row: dict[str, Any] = json.loads(line)
        source = path.parent / "packages" / row["repository"]
        values = {**row, "source": str(source)}
        for name in ("fail_to_pass", "pass_to_pass"):
            values[name] = tuple(row[name])
        known = {field.name for field in fields(Task)}
        if extra := values.keys() - known:
            raise DataError(f"{path}:{number}: no such key: {', '.join(sorted(extra))}")
        return Task(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}:{number}: not a task ({error}); expected the keys of README.md") from None
