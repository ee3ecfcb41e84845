"""Containers: what is in a file is found by its content, as a stream, and no cut or corrupt part is silent."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from swe_srl.containers import UNREADABLE, documents, entries, text
from swe_srl.containers.text import EMPTY, NOT_JSON, NOT_UTF8, TOO_LONG
from swe_srl.formats import Dropped

ROWS: list[dict[str, Any]] = [{"a": 1, "text": "ü\n"}, {"a": 2, "text": None}]
LINES = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)


def found(path: Path) -> list[object]:
    """Documents, or the reasons why there are none."""
    return [item.reason if isinstance(item, Dropped) else item for _, item in documents(path)]


def put(tmp_path: Path, content: bytes) -> Path:
    """No name says anything: the file is always called `log`."""
    path = tmp_path / "log"
    path.write_bytes(content)
    return path


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


# ---------------------------------------------------------------------------------------------- text

INDENTED = json.dumps(ROWS, indent=1).encode()
ROW_PER_LINE = b"[\n" + b",\n".join(orjson.dumps(row) for row in ROWS) + b"\n]\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        *((LINES, ROWS), (b"\xef\xbb\xbf" + LINES, ROWS), (LINES.replace(b"\n", b"\r\n"), ROWS)),
        *((INDENTED, [ROWS]), (ROW_PER_LINE, [ROWS]), (orjson.dumps(ROWS), [ROWS]), (b"\n\n" + LINES, ROWS)),
        (b"# a comment\nhistory:\n- role: user\n  n: 1\n  t: |-\n    a\n\n    b\n", None),
        (b"{\n" * 3 + LINES, [NOT_JSON] * 3 + ROWS),
        (b"{\n" * 100 + LINES, [NOT_JSON] * 100 + ROWS),
        (b"oops\n" * 100 + LINES, [NOT_JSON] * 100 + ROWS),
        (b"[1,\n" + LINES, [NOT_JSON, *ROWS]),
        *((b"", [EMPTY]), (b"\n \n", [EMPTY]), ("a\n".encode("utf-16"), [NOT_UTF8, NOT_JSON])),
    ],
)
def test_text(tmp_path: Path, content: bytes, expected: list[object] | None, pack: Any) -> None:
    whole = expected or [{"history": [{"role": "user", "n": 1, "t": "a\n\nb"}]}]
    assert found(put(tmp_path, pack(content))) == whole


def test_lines_have_their_numbers(tmp_path: Path) -> None:
    path = put(tmp_path, b"\n{\nx\n\n" + LINES + b"y\n")
    assert [(line, isinstance(item, Dropped)) for line, item in documents(path)] == [
        *((2, True), (3, True), (5, False), (6, False), (7, True))
    ]


def test_a_line_that_is_too_long_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LONGEST_LINE", 1000)  # two gigabytes are not written for a test
    assert found(put(tmp_path, LINES + b'"' + b"x" * 5000 + b'"\n' + LINES)) == [*ROWS, TOO_LONG, *ROWS]
    assert found(put(tmp_path, b"\0" * 5000)) == [TOO_LONG]


@pytest.mark.parametrize(
    "content",
    [
        b"a:\n- &x [1]\n- *x\n",  # nested aliases stand for exponentially much
        b"a:\n- [1\n",
        b"- !!python/object/apply:os.system ['true']\n",
        b"- ? [1]\n  : 2\n",
        b"a:\n  " + b"[" * 200_000 + b"]" * 200_000,  # the library would crash, and Python with it
        b"- " * 200_000 + b"x",
    ],
)
def test_yaml_that_is_not_taken(tmp_path: Path, content: bytes) -> None:
    assert found(put(tmp_path, content)) == [NOT_JSON]


def test_yaml_values_are_json_values(tmp_path: Path) -> None:
    (document,) = found(put(tmp_path, b"when:\n- 2024-01-02\n- 1\n- yes\n"))
    assert document == {"when": ["2024-01-02", 1, True]}


# ------------------------------------------------------------------------------------------- Parquet


def test_parquet_rows(tmp_path: Path) -> None:
    table = [{"id": i, "messages": [{"role": "user", "content": f"ü{i}"}], "n": None} for i in range(40)]
    for content in (parquet(table), gzip.compress(parquet(table))):
        assert found(put(tmp_path, content)) == table
    assert [line for line, _ in documents(tmp_path / "log")] == list(range(1, 41))


def test_parquet_values_become_json(tmp_path: Path) -> None:
    when = datetime(2024, 1, 2)
    assert found(put(tmp_path, parquet([{"when": when, "raw": b"\xff"}]))) == [
        {"when": "2024-01-02T00:00:00", "raw": "\ufffd"}
    ]


def test_times_that_python_does_not_have(tmp_path: Path) -> None:
    """Pandas writes nanoseconds. A time in another age is no reason to crash."""

    def table(when: pa.Array) -> bytes:
        file = io.BytesIO()
        pq.write_table(pa.table({"n": [1], "when": when}), file)
        return file.getvalue()

    assert found(put(tmp_path, table(pa.array([1001], pa.timestamp("ns"))))) == [
        {"n": 1, "when": "1970-01-01T00:00:00.000001"}
    ]
    for when in (
        pa.array([2**62], pa.timestamp("us")),
        pa.array([2**62], pa.duration("s")),
        pa.array([2**30], "date32"),
    ):
        assert found(put(tmp_path, table(when))) == [UNREADABLE]


def test_a_table_without_rows_is_told(tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), file)
    assert found(put(tmp_path, file.getvalue())) == [EMPTY]


def test_a_damaged_table(tmp_path: Path) -> None:
    content = parquet([{"text": str(i) * 100} for i in range(100)])
    for damaged in (content[:-30], content[:200] + b"\0" * 50 + content[250:], b"PAR1"):
        *_, last = documents(put(tmp_path, damaged))
        assert isinstance(last[1], Dropped)
        assert last[1].reason == UNREADABLE


# ------------------------------------------------------------------------------------------- archives


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_an_archive_is_its_files(tmp_path: Path, pack: Any) -> None:
    members = {
        "runs/a.jsonl": LINES,
        "runs/b.json.gz": gzip.compress(INDENTED),
        "runs/c.parquet": parquet(ROWS),
        "runs/._d.json": b"what a Mac leaves",
        "../../outside.json": b"{",
        "empty": b"",
    }
    path = put(tmp_path, pack(tar(members)))
    assert {entry.name.removeprefix(f"{path}/"): [d for _, d in entry.documents] for entry in entries(path)} == {
        "runs/a.jsonl": ROWS,
        "runs/b.json.gz": [ROWS],
        "runs/c.parquet": ROWS,
        "empty": [Dropped(1, EMPTY, "no document in it")],
    }
    assert [file.name for file in tmp_path.iterdir()] == ["log"]  # nothing is unpacked anywhere


def test_a_cut_archive_is_told(tmp_path: Path) -> None:
    content = tar({"a.jsonl": LINES, "b.jsonl": LINES * 300})
    for cut in (content[:1200], content[:9000], gzip.compress(content)[:-20]):
        assert UNREADABLE in found(put(tmp_path, cut))
    assert found(put(tmp_path, gzip.compress(tar({})))) == [NOT_JSON]  # zeros, with no mark of an archive


def test_odd_members_of_an_archive(tmp_path: Path) -> None:
    """Links, devices and pipes hold nothing of their own; a name may be any bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("a.json", "\udcff.json"):
            member = tarfile.TarInfo(name)
            member.size = len(LINES)
            archive.addfile(member, io.BytesIO(LINES))
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"odd-{kind!r}")
            member.type, member.linkname = kind, "a.json"
            archive.addfile(member)
    path = put(tmp_path, file.getvalue())
    assert {entry.name: [d for _, d in entry.documents] for entry in entries(path)} == {
        f"{path}/a.json": ROWS,
        f"{path}/\\xff.json": ROWS,
    }


# -------------------------------------------------------------------------------------------- memory


def alone(measure: Callable[[Path], int], path: Path) -> int:
    """`measure(path)` in a process of its own: threads that other tests left behind allocate too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, path).result()


def left_behind(path: Path) -> int:
    """How many bytes are held after 1,199 documents of `path`, one at a time."""
    some = iter(documents(path))
    tracemalloc.start()
    for _ in range(1199):
        next(some)
    return tracemalloc.get_traced_memory()[0]


def test_members_that_were_read_leave_nothing_behind(tmp_path: Path) -> None:
    """An archive may have a million packed members."""
    path = put(tmp_path, tar({f"{i}.json.gz": gzip.compress(LINES) for i in range(600)}))
    assert len(found(path)) == 1200
    assert alone(left_behind, path) < 3_000_000


def peak_of_reading(path: Path) -> int:
    """Bytes at most while 200 documents of 100 kB each are read, one at a time."""
    tracemalloc.start()
    assert sum(len(document["text"]) for _, document in documents(path) if isinstance(document, dict)) == 200 * 100_000
    return tracemalloc.get_traced_memory()[1]


@pytest.mark.parametrize("kind", ["lines", "parquet", "tar"])
def test_one_document_at_a_time(tmp_path: Path, kind: str) -> None:
    """Of 200 documents of 100 kB each no more than a few are in memory."""
    lines = [orjson.dumps({"n": i, "text": chr(97 + i % 26) * 100_000}) + b"\n" for i in range(200)]
    path = tmp_path / "log"
    if kind == "lines":
        path.write_bytes(b"".join(lines))
    elif kind == "tar":
        path.write_bytes(tar({f"{i}.json": line for i, line in enumerate(lines)}))
    else:
        pq.write_table(pa.Table.from_pylist([orjson.loads(line) for line in lines]), path, row_group_size=20)

    assert alone(peak_of_reading, path) < 6_000_000
