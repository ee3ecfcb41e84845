"""A plugin of pytest by which the grader of the bug-fix suite learns what each test's result was, and from nobody else.

It runs inside a sandbox, loaded by `-p` before the package under test is, and imports nothing of ours. A folder is made
for it: it takes the key from there and removes it, and writes there a signed line per test. What the package prints or
writes is therefore not believed. The key lies in this process's memory alone, where only code that searches the
interpreter's frames or objects finds it: `evaluate/hacking.py` flags such code. What is used later is bound now, and
made in C, so that a package cannot put its own in its place and be handed the key.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

KEY, RESULTS = "key", "results"


def sign(status: str, name: str, key: bytes) -> str:
    """What a result's line begins with."""
    return blake2b(f"{status} {name}".encode(), digest_size=16, key=key).hexdigest()


def _hooks(folder: Path) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import pytest  # inside the sandbox alone

    key = (folder / KEY).read_bytes()
    (folder / KEY).unlink()
    results = os.open(folder / RESULTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    write, digest = os.write, blake2b
    raised: set[str] = set()
    failed: set[str] = set()
    done: set[str] = set()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
        outcome: Any = yield
        if outcome.excinfo is not None:
            raised.add(pyfuncitem.nodeid)

    def pytest_runtest_logreport(report: pytest.TestReport) -> None:
        name = report.nodeid
        if not report.passed or hasattr(report, "wasxfail"):
            failed.add(name)
        if report.when == "call":
            done.add(name)
        if report.when == "teardown":
            status = "PASSED" if name in done and name not in raised and name not in failed else "FAILED"
            text = f"{status} {name}"
            write(results, f"{digest(text.encode(), digest_size=16, key=key).hexdigest()} {text}\n".encode())

    return pytest_pyfunc_call, pytest_runtest_logreport


def pytest_configure() -> None:
    sys.modules.pop(__name__, None)  # it would be the first place to look


if KEY in os.listdir(Path(__file__).parent):  # not where the grader imports it
    os.environ.pop("PYTEST_ADDOPTS", None)  # a test that runs pytest has its own
    pytest_pyfunc_call, pytest_runtest_logreport = _hooks(Path(__file__).parent)
