"""What the hidden tests say of a patch: in a fresh sandbox with only the patch, judged by the benchmark's own code.

    with Pool("docker", max_open=4) as pool:
        verdict = grade(task, patch, pool, GradeConfig())

For a row of SWE-bench the steps are those of `swebench.harness.run_evaluation`: the patch by the first command that
applies it, the row's evaluation script, its log read by swebench's parser and judged by swebench's report. A task of
the bug-fix suite goes the same way, with its own tests put back and its own parser.
"""

from __future__ import annotations

import contextlib
import errno
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_srl.cpu import CpuMeter
from swe_srl.errors import ConfigError, SandboxError
from swe_srl.sandboxes import TREE, Sandbox
from swe_srl.sandboxes.leased import leased
from swe_srl.sandboxes.pool import Pool
from swe_srl.tasks import bugfix, images
from swe_srl.tries import Tries
from swe_srl.types import Task, Verdict

if TYPE_CHECKING:
    from swe_srl.agent_config import GradeConfig

# As `swebench.harness.run_evaluation.GIT_APPLY_CMDS`, in its order; between two the tree is made clean.
APPLY = (
    "git apply --verbose",
    "git apply --verbose --3way",
    "git apply --verbose --reject",
    "patch --batch --forward --fuzz=5 -p1 -i",
)
_PATCH = f"{TREE}/.git/swe-srl-graded.diff"  # within the tree: the /tmp of `local` is the machine's, and others grade
_SCRIPT, _LOG = "/tmp/eval.sh", "/tmp/eval.log"
_CREATE_S, _APPLY_S, _READ_S = 600.0, 120.0, 120.0
_PIECE_BYTES = 48 << 20  # of a log: a sandbox's `read` takes a file of 64 MiB


def grade(task: Task, patch: str, pool: Pool, config: GradeConfig) -> Verdict:
    """Grade one patch. Infrastructure is tried again, `config.attempts` times in all, and is a verdict of its own.

    Each phase has a deadline (to create, apply, test, read, remove), and all of them together have one.
    """
    began = time.monotonic()
    if not patch.strip():
        return Verdict(task.task_id, False, kind="no patch")  # never run, as by the official graders
    if task.record:
        _swebench()
    tries = Tries(config.attempts)
    while True:
        tries.begin()
        lost = None
        try:
            verdict = _attempt(task, patch, pool, config)
        except (SandboxError, OSError) as error:
            lost, verdict = error, Verdict(task.task_id, None, reason=str(error), kind="infrastructure")
        if verdict.kind != "infrastructure" or not tries.again(lost):
            break
    return replace(verdict, seconds=time.monotonic() - began)


def _attempt(task: Task, patch: str, pool: Pool, config: GradeConfig) -> Verdict:
    """Raises SandboxError and OSError."""
    online = task.image is not None and config.network == "official" and pool.kind == "docker"
    hard_s = config.timeout_s + (len(APPLY) + 1) * _APPLY_S + 4 * _READ_S
    fresh = leased(lambda: _fresh(task, pool, online), pool.patience(_CREATE_S), CpuMeter())
    with fresh as sandbox, _watched(sandbox, hard_s):
        if trouble := apply(sandbox, patch):
            return Verdict(task.task_id, False, reason=trouble, kind="does not apply")
        if task.image is None:
            return bugfix.grade(task, sandbox, min(config.timeout_s, bugfix.GRADE_TIMEOUT_S))
        verdict = _evaluate(task, patch, sandbox, config.timeout_s, online)
    return replace(verdict, offline=not online and config.network == "official")


@contextlib.contextmanager
def _fresh(task: Task, pool: Pool, online: bool) -> Iterator[Sandbox]:
    """The tree as it was given to the agent, and nothing that the agent did to it."""
    if task.image is None:
        with bugfix.materialised(task) as tree, pool.open(tree) as sandbox:
            yield sandbox
    else:
        with pool.open(images.AsGiven(task.image, pool.kind, pool.pull, online)) as sandbox:
            yield sandbox


@contextlib.contextmanager
def _watched(sandbox: Sandbox, limit_s: float) -> Iterator[None]:
    """Close the sandbox under a block that goes on for too long, which ends what it waits for."""
    timer = threading.Timer(limit_s, sandbox.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def apply(sandbox: Sandbox, patch: str) -> str | None:
    """Apply a patch to the sandbox's tree by the first command that can; None, or what the last one said."""
    try:
        sandbox.write(_PATCH, patch.encode("utf-8", "surrogateescape"))
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        return f"a patch of {len(patch):,} characters is more than a sandbox takes"  # whoever graded it
    said = ""
    for number, command in enumerate(APPLY):
        if number:  # a failed attempt leaves half of a patch behind
            _run(sandbox, "git checkout -- . ; git clean -fd")
        result = _run(sandbox, f"{command} {_PATCH}")
        if result.exit_code == 0:
            return None
        said = result.output.strip()[-500:] or f"{command}: exit code {result.exit_code}"
    if _run(sandbox, f"git apply --check --reverse {_PATCH}").exit_code == 0:
        return None  # it is applied, though each command said no
    return said


def _run(sandbox: Sandbox, command: str) -> Any:
    return sandbox.exec(f"( cd {TREE} && {command} ) 2>&1 </dev/null", _APPLY_S)


# ----------------------------------------------------------------------------------------------- SWE-bench


def _evaluate(task: Task, patch: str, sandbox: Sandbox, timeout_s: float, online: bool) -> Verdict:
    """Run the evaluation script and judge its log. Raises SandboxError."""
    spec = _swebench().make_test_spec(dict(task.record))
    sandbox.write(_SCRIPT, spec.eval_script.encode())
    # Without an index pip would try for a minute what cannot come.
    offline = "" if online else "export PIP_NO_INDEX=1; "
    result = sandbox.exec(f"( {offline}exec /bin/bash {_SCRIPT} >{_LOG} 2>&1 </dev/null )", timeout_s)
    if result.timed_out:
        reason = f"not done after {timeout_s:g} s"
        return Verdict(task.task_id, False, reason=reason, kind="tests timed out")
    return judged(task, patch, spec, _log(sandbox).decode("utf-8", "replace"))


def judged(task: Task, patch: str, spec: Any, log: str) -> Verdict:
    """What swebench makes of a log."""
    with tempfile.TemporaryDirectory(prefix="swe-srl-log-") as folder:
        path = Path(folder, "test_output.txt")
        path.write_text(log, "utf-8")
        prediction = {"instance_id": task.task_id, "model_patch": patch, "model_name_or_path": "swe-srl"}
        report = _swebench().get_eval_report(spec, prediction, str(path), include_tests_status=True)
    return verdict_of(task, report[task.task_id])


def verdict_of(task: Task, report: dict[str, Any]) -> Verdict:
    """A report of swebench's on one instance as a verdict: ours and the official command's go through here."""
    why = report.get("infra_failure_reason")
    if report["resolved"]:
        return Verdict(task.task_id, True, kind="resolved")
    if "tests_status" not in report:  # no results in the log
        if report.get("infra_failure"):
            return Verdict(task.task_id, None, reason=f"no test results: {why}", kind="infrastructure")
        return Verdict(task.task_id, False, reason=f"no test results in the log{f' ({why})' if why else ''}")
    status = report["tests_status"]
    failed = (*status["FAIL_TO_PASS"]["failure"], *status["PASS_TO_PASS"]["failure"])
    return Verdict(task.task_id, False, failed, kind=bugfix.kind_of(task, failed))


def _log(sandbox: Sandbox) -> bytes:
    try:
        return sandbox.read(_LOG)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
    listed = sandbox.exec(f"split -b {_PIECE_BYTES} {shlex.quote(_LOG)} {_LOG}. && ls {_LOG}.*", _READ_S).output.split()
    return b"".join(map(sandbox.read, listed))


def _swebench() -> Any:
    """swebench's grading. Raises ConfigError where it is not installed, or is an older one."""
    try:
        from swebench.harness import grading, utils
    except ImportError:
        raise ConfigError(
            "SWE-bench is graded by its own package: pip install 'swe-srl[swebench]' (swebench 5)"
        ) from None
    return _Swebench(utils.make_test_spec, grading.get_eval_report)


class _Swebench:
    def __init__(self, make_test_spec: Callable[..., Any], get_eval_report: Callable[..., Any]) -> None:
        self.make_test_spec, self.get_eval_report = make_test_spec, get_eval_report
