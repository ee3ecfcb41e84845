"""Broken logs: none crashes ingest, none is unaccounted for, and memory stays within its bound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest


@pytest.mark.parametrize(("count", "long"), [(350, 2), pytest.param(2000, 20, marks=pytest.mark.slow)])
def test_mutants(tmp_path: Path, count: int, long: int) -> None:
    script = Path(__file__).with_name("mutants.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "mutants", "--count", str(count), "--long", str(long)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = orjson.loads(done.stdout)
    assert found["mutants"] == found["accounted"] == count
    assert found["trajectories"] > count / 20
    assert found["largest_mb"] > 50
    assert found["peak_mb"] <= 300 + 4 * found["largest_mb"]
