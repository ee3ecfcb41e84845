"""The collected logs, file by file: every difference to the plain counts beside them has one row and one rule."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from swe_srl.cli import app

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories"
GOLDEN = Path(__file__).parent / "golden" / "ingest.md"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")


def rows_of(table: Path) -> list[list[str]]:
    """The cells of a Markdown table's rows, without its head."""
    lines = [line for line in table.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def plain_counts() -> dict[str, str]:
    """file → steps as SOURCES.md counts them: a number, or "not counted"."""
    counts = {}
    for file, *_, steps, _resolved, _notes in rows_of(LOGS / "SOURCES.md"):
        numbers = re.sub(r"^\d+ records?:", "", steps)
        found = [int(number) for number in re.findall(r"\d+", numbers)]
        counts[file.rstrip("/")] = str(sum(found)) if found else steps
    return counts


@needs_logs
def test_every_difference_to_the_plain_counts_has_its_rule(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["ingest", str(LOGS), "--out", str(tmp_path / "x"), "--json"])
    assert done.exit_code == 0
    report = orjson.loads(done.stdout)
    files = report["files"]
    for total in ("trajectories", "steps"):
        assert sum(file[total] for file in files) == report[total]
    assert sum(len(file["dropped"]) for file in files) == report["dropped"]
    assert all(file["trajectories"] or file["dropped"] for file in files)

    ours = {str(Path(file["path"]).relative_to(LOGS)): file for file in files}
    theirs = plain_counts()
    read = {str(path.relative_to(LOGS)) for path in LOGS.rglob("*") if path.is_file() and path.name != "SOURCES.md"}
    assert read == {name for name in ours if name in read} | {name for name in read if str(Path(name).parent) in ours}

    def counted(name: str) -> str:
        """What we made of a file or folder of SOURCES.md."""
        inside = [file for path, file in ours.items() if path == name or path.startswith(f"{name}/")]
        assert inside, name
        return str(sum(file["steps"] for file in inside))

    differences = {name: (counted(name), steps) for name, steps in theirs.items() if counted(name) != steps}
    golden = {file: (mine, plain) for file, mine, plain, _rule in rows_of(GOLDEN)}
    assert golden == differences
    assert all(rule for *_, rule in rows_of(GOLDEN))
    assert len(rows_of(GOLDEN)) == len(golden)
