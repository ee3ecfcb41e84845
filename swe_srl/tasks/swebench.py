"""Rows of SWE-bench's data sets as tasks: in swebench 5's schema, which names the image and how it is graded.

A classic row (12 fields, as data sets had it before) lacks `image`, `eval_script`, `log_parser` and `eval_type`. They
are the data set's makers' and cannot be derived, so they are taken from another row of the same instance, where one is
given; else the row is refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swe_srl.errors import DataError
from swe_srl.loading import nearest
from swe_srl.types import Task

Row = dict[str, Any]

_IMAGE = ("image", "image_name", "docker_image")  # swebench 5; SWE-smith and SWE-Gym; SWE-rebench
_GRADED_BY = ("eval_script", "log_parser")
_NEEDED = ("instance_id", "repo", "base_commit", "problem_statement", "patch", "FAIL_TO_PASS", "PASS_TO_PASS")
_FILLED = {"version": "", "eval_type": "pass_and_fail"}  # what some data sets leave out, as their graders take it
KNOWN = {f"SWE-bench/SWE-bench{kind}" for kind in ("", "_Lite", "_Verified", "_Multilingual")}
_SUFFIXES = (".json", ".jsonl", ".parquet")


def rows_of(path: Path) -> list[Row]:
    """The rows of a JSON (a list, or an object by instance), JSON Lines or Parquet file. Raises DataError."""
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            rows = parquet.read_table(path).to_pylist()
        else:
            text = path.read_text("utf-8")
            rows = _lines(path, text) if path.suffix == ".jsonl" else json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no tasks can be read ({error}); expected one of {', '.join(_SUFFIXES)}") from None
    if isinstance(rows, dict):
        rows = [rows] if "instance_id" in rows else list(rows.values())
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("instance_id"), str):
            raise DataError(f"{path}: row {number} has no instance_id: not a row of SWE-bench")
    return list(rows)


def rows_of_data_set(name: str, split: str | None) -> list[Row]:
    """The rows of a data set of the hub, or of its cache; all splits where none is named. Raises DataError.

    The hub may let one wait for minutes, so what is waited for is told first.
    """
    print(f"swe-srl: looking for the data set {name}", file=sys.stderr, flush=True)
    try:
        from datasets import get_dataset_split_names, load_dataset
    except ImportError:
        raise DataError(f"the data set {name} is read by `datasets`: pip install 'swe-srl[swebench]'") from None
    try:
        splits = [split] if split is not None else get_dataset_split_names(name)
        return [dict(row) for one in splits for row in load_dataset(name, split=one)]
    except Exception as error:  # the hub's, the network's, pyarrow's: many, and of no common kind
        said = str(error).strip().splitlines()
        raise DataError(
            f"the data set {name} cannot be had here ({type(error).__name__}: {said[0] if said else 'no reason'})"
            f"{_advice(name)}"
        ) from None


def _advice(name: str) -> str:
    """What to do about a data set that cannot be had: a name that is nearly a known one is a slip."""
    near = "" if name in KNOWN else nearest(name, KNOWN)
    return (
        f"{near}. Without a network give its file: `hf download --repo-type dataset {'NAME' if near else name} "
        "--local-dir rows` where there is one, then tasks.source=rows/data/test-00000-of-00001.parquet"
    )


def completed(row: Row, others: Mapping[str, Row]) -> Row:
    """The row with what it lacks of the other one of its instance. What it has itself stays."""
    other = others.get(row["instance_id"], {})
    return row | {key: value for key, value in other.items() if row.get(key) in (None, "")}


def task_of(row: Row, where: str) -> Task:
    """Raises DataError with the reason why a row cannot be run and graded."""
    task_id = row["instance_id"]
    image = next((row[key] for key in _IMAGE if row.get(key)), None)
    lacking = [key for key in _NEEDED if row.get(key) is None]
    lacking += ["image"] * (image is None) + [key for key in _GRADED_BY if not row.get(key)]
    if lacking:
        raise DataError(f"{where}: {task_id} lacks {', '.join(lacking)}{_remedy(row, lacking)}")
    record = _FILLED | {key: value for key, value in row.items() if value is not None} | {"image": image}
    return Task(
        task_id=task_id,
        repository=row["repo"],
        issue=row["problem_statement"],
        source="",
        test_command="",
        fail_to_pass=_names(row, "FAIL_TO_PASS", where),
        pass_to_pass=_names(row, "PASS_TO_PASS", where),
        gold_patch=row["patch"],
        image=image,
        base_commit=row["base_commit"],
        record=record,
    )


def by_instance(rows: Iterable[Row]) -> dict[str, Row]:
    return {row["instance_id"]: row for row in rows}


def _remedy(row: Row, lacking: list[str]) -> str:
    if set(lacking) & {"instance_id", "repo", "problem_statement", "patch"}:
        return ": not a row of SWE-bench, or one of another schema"
    if row.get("image_name") and not row.get("eval_script"):
        return (
            ": its image is named, but not how its tests are run and read, which the data set's own package knows. "
            "Rows in swebench 5's schema can be graded"
        )
    return (
        ": a classic row, and these are in no package. tasks.complete=FILE or a data set's name "
        '("SWE-bench/SWE-bench_Verified") takes them from its rows; environments/images/swebench/complete.py makes them'
    )


def _names(row: Row, key: str, where: str) -> tuple[str, ...]:
    """A list of tests: as such, or as its JSON text."""
    value = row[key]
    try:
        names = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: {row['instance_id']}: {key} is no list of tests: {str(value)[:80]!r}")
    return tuple(names)


def _lines(path: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON ({error})") from None
    return rows
