"""The store: exact, readable with zstdcat, random access, and never half written."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_srl.errors import DataError
from swe_srl.store import INDEX, TRAJECTORIES, Store, from_json, is_store, to_json, with_unique_ids, write_store
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory, Turn

words = st.text(max_size=60)
maybe = st.none() | words
trajectories = st.builds(
    Trajectory,
    id=words,
    issue=words,
    turns=st.lists(
        st.builds(Turn, words, st.none() | st.builds(Action, words, st.dictionaries(words, words)), maybe), max_size=5
    ).map(tuple),
    provenance=st.builds(Provenance, words, st.integers(1, 10**6), words),
    task=st.builds(TaskLink, maybe, maybe, maybe, maybe),
    outcome=st.builds(Outcome, st.none() | st.booleans(), maybe, maybe),
    shell=st.sampled_from(["fresh", "persistent"]),
    dropped=st.dictionaries(words, st.integers(0, 99)),
)


def run(number: int, observation: str = "ok") -> Trajectory:
    return Trajectory(
        id=f"run-{number}",
        issue=f"issue {number}",
        turns=(
            Turn("look", Action("bash", {"command": f"cat {number}.py"}), observation),
            Turn("talk", None, "go on"),
            Turn("", Action("submit"), None),
        ),
        provenance=Provenance("logs.jsonl", number + 1, "xml-messages"),
        task=TaskLink(f"a__b-{number}", "a/b"),
        outcome=Outcome(number % 2 == 0),
    )


@settings(deadline=None)
@given(trajectories)
def test_json_is_exact(trajectory: Trajectory) -> None:
    assert from_json(orjson.loads(orjson.dumps(to_json(trajectory)))) == trajectory


@settings(deadline=None, max_examples=25)
@given(runs=st.lists(trajectories, max_size=6))
def test_what_is_stored_is_read(runs: list[Trajectory], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, runs)
    store = Store(folder)
    expected = tuple(with_unique_ids(runs))
    assert tuple(store) == expected
    assert tuple(store[i] for i in reversed(range(len(store)))) == expected[::-1]
    assert store[:] == expected


def test_a_row_says_what_one_filters_by(tmp_path: Path) -> None:
    write_store(tmp_path, map(run, range(3)))
    store = Store(tmp_path)
    row = store.rows[2]
    assert (row.id, row.repository, row.task_id, row.steps) == ("run-2", "a/b", "a__b-2", 2)
    assert (row.resolved, row.format) == (True, "xml-messages")
    assert len({row.issue_hash for row in store.rows}) == 3
    assert len(store) == 3
    assert store[-1] == run(2)
    with pytest.raises(IndexError):
        store[3]


def test_every_frame_stands_alone_and_all_of_them_together(tmp_path: Path) -> None:
    write_store(tmp_path, map(run, range(4)))
    data = (tmp_path / TRAJECTORIES).read_bytes()
    for row in Store(tmp_path).rows:
        frame = zstandard.ZstdDecompressor().decompress(data[row.offset : row.offset + row.length])
        assert orjson.loads(frame)["id"] == row.id
    whole = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    assert [orjson.loads(line)["id"] for line in whole.splitlines()] == [f"run-{i}" for i in range(4)]
    if zstdcat := shutil.which("zstdcat"):
        assert subprocess.run([zstdcat, tmp_path / TRAJECTORIES], capture_output=True, check=True).stdout == whole


def test_ids_are_made_unique_in_order() -> None:
    ids = ["a", "a-2", "a", "a", "b"]
    given = [replace(run(0), id=id) for id in ids]
    assert [t.id for t in with_unique_ids(given)] == ["a", "a-2", "a-3", "a-4", "b"]


def test_many_runs_of_one_id_take_no_more_than_their_share() -> None:
    """30,000: each is not counted up from the first again, which would take minutes."""
    begin = time.process_time()
    *_, last = with_unique_ids([run(0)] * 30_000)
    assert last.id == f"{run(0).id}-30000"
    assert time.process_time() - begin < 5


def test_a_writer_that_fails_leaves_the_old_store(tmp_path: Path) -> None:
    def failing() -> Iterator[Trajectory]:
        yield run(7)
        raise KeyboardInterrupt

    write_store(tmp_path, [run(1)])
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path, failing())
    assert tuple(Store(tmp_path)) == (run(1),)
    assert sorted(path.name for path in tmp_path.iterdir()) == [INDEX, TRAJECTORIES]
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "new", failing())
    assert not (tmp_path / "new").exists()


def test_a_writer_that_is_killed_leaves_one_store_or_the_other(tmp_path: Path) -> None:
    """The states between its renames: no index beside the old trajectories, none beside the new ones."""
    write_store(tmp_path, map(run, range(5)))
    rows = Store(tmp_path).rows
    (tmp_path / INDEX).unlink()
    assert Store(tmp_path).rows == rows
    assert tuple(Store(tmp_path)) == tuple(map(run, range(5)))

    (tmp_path / INDEX).write_bytes(b"{ torn")
    assert Store(tmp_path).rows == rows
    write_store(tmp_path / "other", [run(9)])
    shutil.copy(tmp_path / "other" / TRAJECTORIES, tmp_path / TRAJECTORIES)  # an index of other trajectories
    assert tuple(Store(tmp_path)) == (run(9),)


def test_frames_longer_than_a_chunk_are_walked(tmp_path: Path) -> None:
    noise = "".join(str(i * i % 9973) for i in range(200_000))
    write_store(tmp_path, [run(0, noise), run(1), run(2, noise)])
    rows = Store(tmp_path).rows
    (tmp_path / INDEX).unlink()
    assert Store(tmp_path).rows == rows


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    write_store(tmp_path, map(run, range(6)))
    store = Store(tmp_path, keep=2)
    first = store[0]
    assert store[0] is first
    for i in range(6):
        assert store[i] == run(i)
    assert len(store._cache) == 2


def test_what_is_no_store_or_a_damaged_one_is_said(tmp_path: Path) -> None:
    assert not is_store(tmp_path)
    with pytest.raises(DataError, match=r"no store.*swe-srl ingest"):
        Store(tmp_path)
    write_store(tmp_path, [run(1), run(2)])
    data = bytearray((tmp_path / TRAJECTORIES).read_bytes())
    store = Store(tmp_path)
    data[store.rows[1].offset + 4 :] = b"\0" * len(data[store.rows[1].offset + 4 :])
    (tmp_path / TRAJECTORIES).write_bytes(data)
    assert store[0] == run(1)
    with pytest.raises(DataError, match="damaged"):
        store[1]
    (tmp_path / INDEX).unlink()
    with pytest.raises(DataError, match="damaged"):
        Store(tmp_path)
