"""Ingest: golden counts of the collected logs, and that everything is accounted for."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from rich.console import Console

from swe_srl.containers import UNREADABLE, documents
from swe_srl.containers.text import EMPTY, NOT_JSON, NOT_UTF8
from swe_srl.errors import DataError
from swe_srl.formats import MALFORMED, NO_FORMAT, Dropped
from swe_srl.formats.turns import REJECTED, UNANSWERED
from swe_srl.ingest import DUPLICATE, ingest, open_data
from swe_srl.ingest_report import Report, table
from swe_srl.store import Store

DATA = Path(__file__).parents[2] / "shared" / "data"
LOGS, CORPUS = DATA / "trajectories", DATA / "corpus"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the corpus is not at {CORPUS}")

# file: (trajectories, steps, dropped by reason). SOURCES.md, which counts plainly, has the same steps except
# where a comment says why not.
GOLDEN: dict[str, tuple[int, int, dict[str, int]]] = {
    "mini_swe_agent_v1/gemini3pro__django__django-11163.traj.json": (1, 13, {}),
    "mini_swe_agent_v1/gemini3pro__django__django-16255.traj.json": (1, 17, {}),
    # SOURCES.md counts every answer; version 1 rejects those with two or more blocks, and they ran nothing.
    "mini_swe_agent_v1/gemini3pro__mwaskom__seaborn-3187.traj.json": (1, 42 - 2, {REJECTED: 2}),
    "mini_swe_agent_v1/gemini3pro__pallets__flask-5014.traj.json": (1, 20, {}),
    "mini_swe_agent_v1/gemini3pro__psf__requests-1142.traj.json": (1, 71 - 2, {REJECTED: 2}),
    "mini_swe_agent_v1/gemini3pro__psf__requests-1724.traj.json": (1, 32, {}),
    "mini_swe_agent_v1/gemini3pro__psf__requests-1766.traj.json": (1, 25, {}),
    "mini_swe_agent_v1/gemini3pro__psf__requests-1921.traj.json": (1, 40 - 4, {REJECTED: 4}),
    "mini_swe_agent_v1/gemini3pro__psf__requests-2317.traj.json": (1, 33 - 1, {REJECTED: 1}),
    "mini_swe_agent_v1/gemini3pro__psf__requests-5414.traj.json": (1, 50 - 3, {REJECTED: 3}),
    "mini_swe_agent_v1/gemini3pro__pylint-dev__pylint-4970.traj.json": (1, 43, {}),
    "mini_swe_agent_v1/gemini3pro__pytest-dev__pytest-7982.traj.json": (1, 57, {}),
    "mini_swe_agent_v1/gemini3pro__scikit-learn__scikit-learn-10908.traj.json": (1, 53 - 1, {REJECTED: 1}),
    "mini_swe_agent_v1/gemini3pro__sympy__sympy-12481.traj.json": (1, 41 - 2, {REJECTED: 2}),
    "mini_swe_agent_v1/github_issue_v1.8.0.traj.json": (1, 10, {}),
    "mini_swe_agent_v1/local_v1.8.0.traj.json": (1, 2, {}),
    "mini_swe_agent_v2/bench1__astropy__astropy-12907.traj.json": (1, 36, {}),
    "mini_swe_agent_v2/bench1__django__django-10914.traj.json": (1, 48, {}),
    "mini_swe_agent_v2/bench1__django__django-11099.traj.json": (1, 42, {}),
    "mini_swe_agent_v2/bench1__django__django-12497.traj.json": (1, 78, {}),
    "mini_swe_agent_v2/bench1__django__django-13710.traj.json": (1, 65, {}),
    "mini_swe_agent_v2/bench1__django__django-14580.traj.json": (1, 97, {}),
    "mini_swe_agent_v2/chat_dev_rerun__pydicom__pydicom-1694.traj.json": (1, 54, {}),
    "mini_swe_agent_v2/eval_example__astropy__astropy-12907.traj.json": (1, 64, {}),
    "mini_swe_agent_v2/github_issue.traj.json": (1, 10, {}),
    "mini_swe_agent_v2/local.traj.json": (1, 2, {}),
    # SOURCES.md counts the seven fenced blocks; the eighth action is an XML submit.
    "openai_chat/mini-coder_sample_raw.json": (1, 7 + 1, {}),
    # SOURCES.md counts answers (15 + 9 + 10 + 17 + 29); four have two calls and one has four, each its own
    # turn. One run was cut off before its last call was answered.
    "swe_gym_openhands/sample_raw.json": (5, 80 + 4 * 1 + 3 - 1, {UNANSWERED: 1}),
    "swe_smith_xml/adp_swe-smith_sample_raw.json": (5, 15 + 23 + 18 + 22 + 38, {}),
    "swe_smith_xml/ft_xml_example.jsonl": (3, 37 + 44 + 22, {}),
    "sweagent_demos/ctf_crypto_BabyEncryption.traj": (1, 16, {}),
    "sweagent_demos/ctf_misc_networking_1.traj": (1, 4, {}),
    "sweagent_demos/default_install_from_source__marshmallow-code__marshmallow-1867.traj": (1, 14, {}),
    "sweagent_demos/default_sys-env_cursors_window100__marshmallow-code__marshmallow-1867.traj": (1, 12, {}),
    "sweagent_demos/function_calling__marshmallow-code__marshmallow-1867.traj": (1, 11, {}),
    "sweagent_demos/function_calling_replace_from_source__marshmallow-code__marshmallow-1867.traj": (1, 13, {}),
    "sweagent_demos/function_calling_simple.traj": (1, 5, {}),
    "sweagent_demos/human_thought__humanevalfix-python-0.traj": (1, 5, {}),
    "sweagent_demos/xml_sys-env_window100__marshmallow-code__marshmallow-1867.traj": (1, 11, {}),
    "sweagent_new/pandas-dev__pandas.95280573.pr_53652.traj": (1, 37, {}),
    "sweagent_new/pandas-dev__pandas.95280573.pr_53856.traj": (1, 17, {}),
    "sweagent_old/commit0_97af1e.traj": (1, 2, {}),
    "sweagent_old/pydicom__pydicom-1458.traj": (1, 12, {}),
    "sweagent_old/swe-agent__test-repo-i1.traj": (1, 5, {}),
    # SOURCES.md does not count it: YAML.
    "sweagent_demos/str_replace_anthropic_demo.yaml": (1, 4, {}),
}
FOLDERS = sorted({name.split("/")[0] for name in GOLDEN})


# ------------------------------------------------------------------------------------------ the real logs


@needs_logs
def test_golden_counts(tmp_path: Path) -> None:
    report = ingest([LOGS / folder for folder in FOLDERS], tmp_path)
    counts = {
        str(Path(file.path).relative_to(LOGS)): (
            file.trajectories,
            file.steps,
            dict(Counter(drop.reason for drop in file.dropped)),
        )
        for file in report.logs
    }
    assert counts == GOLDEN
    store = Store(tmp_path)
    assert len(store) == report.trajectories == 55
    assert sum(row.steps for row in store.rows) == report.steps == 1511
    assert len({row.id for row in store.rows}) == 55


@needs_logs
def test_open_data_reads_logs_as_a_store_reads_them(tmp_path: Path) -> None:
    ingest([LOGS / "sweagent_demos"], tmp_path)
    raw, stored = open_data(LOGS / "sweagent_demos"), open_data(tmp_path)
    assert stored.folder == tmp_path
    assert tuple(stored) == tuple(raw)
    assert len(open_data(LOGS / "swe_smith_xml" / "ft_xml_example.jsonl")) == 3


@needs_corpus
def test_the_corpus(tmp_path: Path) -> None:
    started = time.perf_counter()
    report = ingest([CORPUS], tmp_path)
    assert time.perf_counter() - started < 20  # measured 0.7 s
    assert len(report.logs) == 1  # the verdicts and the description stand beside it
    assert (report.trajectories, report.steps, report.dropped) == (428, 16_158, 562)
    assert {drop.reason for drop in report.logs[0].dropped} == {REJECTED}
    resolved = [trajectory for trajectory in Store(tmp_path) if trajectory.outcome.resolved]
    assert len(resolved) == 320
    assert sum(len(trajectory.acted) for trajectory in resolved) == 11_538
    assert sum(sum(trajectory.dropped.values()) for trajectory in resolved) == 400
    assert all(trajectory.outcome.resolved is not None for trajectory in Store(tmp_path))


# --------------------------------------------------------------------------------------- containers, faults


def record(number: int, observation: str = "x") -> dict[str, Any]:
    """A record of XML messages with one step and a submit."""
    call = "<function=bash>\n<parameter=command>ls</parameter>\n</function>"
    said = ["Mend it.", call, f"OBSERVATION:\n{observation}", "<function=submit>\n</function>"]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    return {"messages": messages, "instance_id": f"a__b-{number}"}


def lines(*rows: dict[str, Any] | bytes, end: bytes = b"\n") -> bytes:
    return b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + end for row in rows)


def read_bytes(tmp_path: Path, content: bytes, name: str = "log") -> Report:
    (tmp_path / name).write_bytes(content)
    return ingest([tmp_path / name], tmp_path / "store")


def seen(report: Report) -> list[tuple[int, str]]:
    return [(drop.line, drop.reason) for file in report.logs for drop in file.dropped]


ROWS = lines(record(1), record(2))


@pytest.mark.parametrize(
    "content",
    [
        *(ROWS, ROWS.rstrip(b"\n"), b"\n\n" + ROWS, b"\xef\xbb\xbf" + ROWS, lines(record(1), record(2), end=b"\r\n")),
        *(orjson.dumps([record(1), record(2)]), json.dumps([record(1), record(2)], indent=2).encode()),
        *(gzip.compress(ROWS), zstandard.compress(ROWS), gzip.compress(ROWS) + gzip.compress(b"\n")),
        zstandard.compress(lines(record(1))) + zstandard.compress(lines(record(2))),
        ROWS.replace(b'"instance_id"', b'"cost": NaN, "instance_id"'),
    ],
)
def test_containers_are_told_by_content(tmp_path: Path, content: bytes) -> None:
    """No name says anything: the file is called `log` in each case."""
    report = read_bytes(tmp_path, content)
    assert (report.trajectories, report.steps, report.dropped) == (2, 4, 0)
    assert report.logs[0].format == "xml-messages"


def test_the_events_of_a_folder_are_one_log(tmp_path: Path) -> None:
    """In the order of their numbers, whatever lies beside them."""
    folder = tmp_path / "events"
    folder.mkdir()
    call = {"source": "agent", "action": "run", "args": {"command": "ls", "thought": "look"}}
    events: list[dict[str, Any]] = [{"source": "user", "action": "message", "args": {"content": "Mend it."}}]
    for id in range(1, 24, 2):
        events.append({"id": id, **call})
        events.append({"id": id + 1, "source": "agent", "observation": "run", "content": f"{id}", "cause": id})
    for number, event in enumerate(events):
        (folder / f"{number}.json").write_bytes(orjson.dumps({"id": number, "timestamp": "t", **event}))
    (folder / "99.json").write_bytes(b"{")
    (folder / "100.json").write_bytes(orjson.dumps(record(1)))
    report = ingest([tmp_path / "events"], tmp_path / "store")
    found = {
        file.path.removeprefix(str(tmp_path)): (file.format, file.steps, len(file.dropped)) for file in report.logs
    }
    assert found == {
        "/events/99.json": ("unknown", 0, 1),
        "/events/100.json": ("xml-messages", 2, 0),
        "/events": ("openhands", 12, 0),
    }
    (run,) = (one for one in Store(tmp_path / "store") if one.provenance.format == "openhands")
    assert [turn.observation for turn in run.turns] == [f"{id}" for id in range(1, 24, 2)]


def test_lines_in_a_numbered_file_are_all_read(tmp_path: Path) -> None:
    """A number in a name does not make a file one event: a session's rows may be in it."""
    folder = tmp_path / "logs"
    folder.mkdir()
    head = {"type": "session_meta", "payload": {"id": "x"}}
    call = {"type": "function_call", "name": "shell", "arguments": '{"command": ["ls"]}', "call_id": "1"}
    output = {"type": "function_call_output", "call_id": "1", "output": "a.py"}
    rows = [head, *({"type": "response_item", "payload": item} for item in (call, output))]
    (folder / "1.json").write_bytes(lines(*rows))
    report = ingest([folder], tmp_path / "store")
    assert [(log.path, log.format, log.steps) for log in report.logs] == [(str(folder / "1.json"), "codex", 1)]


def test_any_name_of_a_file(tmp_path: Path) -> None:
    """A byte that is no UTF-8 can be in a name, and cannot be written into a store."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "caf\udce9.json").write_bytes(lines(record(1)))
    report = ingest([folder], tmp_path / "store")
    assert orjson.loads(orjson.dumps(report.as_json()))["files"][0]["path"].endswith("/caf\\xe9.json")
    assert Store(tmp_path / "store")[0].provenance.file.endswith("/caf\\xe9.json")
    with tarfile.open(tmp_path / "long.tar", "w") as archive:
        member = tarfile.TarInfo("d/" * 2500 + "x.json")
        member.size = len(ROWS)
        archive.addfile(member, io.BytesIO(ROWS))
    assert ingest([tmp_path / "long.tar"], tmp_path / "store").trajectories == 2


def test_nothing_in_a_folder_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "good.json").write_bytes(ROWS)
    os.mkfifo(folder / "pipe")
    for name, target in {"a": "pipe", "b": "/dev/zero", "c": "c", "d": "nowhere", "e": "."}.items():
        (folder / name).symlink_to(target)
    report = ingest([folder], tmp_path / "store")
    assert {Path(log.path).name: [drop.reason for drop in log.dropped] for log in report.logs} == {
        "good.json": [],
        "c": [UNREADABLE],  # a link to itself
        "d": [UNREADABLE],
    }


def test_a_bare_list_of_messages_is_one_document(tmp_path: Path) -> None:
    report = read_bytes(tmp_path, orjson.dumps(record(1)["messages"]))
    assert report.trajectories == 1
    assert Store(tmp_path / "store")[0].id == "log"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"messages": [', NOT_JSON),
        (b"no JSON", NOT_JSON),
        (b'{"x": "\xff"}', NOT_UTF8),
        (b'{"x": "\\ud800"}', NO_FORMAT),  # half a character becomes "?": Python's own logs hold such
        (b"7", NO_FORMAT),
        (b'{"trajectory_format": "mini-swe-agent-1", "messages": 7}', MALFORMED),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_line_stops_nothing(tmp_path: Path, bad: bytes, reason: str, place: int) -> None:
    rows: list[dict[str, Any] | bytes] = [record(1), record(2)]
    rows.insert(place, bad)
    report = read_bytes(tmp_path, lines(*rows))
    assert report.trajectories == 2
    assert seen(report) == [(place + 1, reason)]


def test_several_bad_lines_at_the_start(tmp_path: Path) -> None:
    report = read_bytes(tmp_path, lines(b"{", b"{", record(1)))
    assert report.trajectories == 1
    assert seen(report) == [(1, NOT_JSON), (2, NOT_JSON)]


def test_broken_files_beside_a_good_one(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "deep").mkdir(parents=True)
    (logs / "deep" / "good.jsonl").write_bytes(ROWS)
    (logs / "cut.json").write_bytes(json.dumps([record(3)], indent=1).encode()[:-20])
    (logs / "cut.jsonl.gz").write_bytes(gzip.compress(lines(record(4)) + b" " * 10**6)[:-30])
    (logs / "cut.jsonl.zst").write_bytes(zstandard.compress(ROWS)[:-9])
    (logs / "empty.json").write_bytes(b"")
    (logs / "blank.json").write_bytes(b" \n \n")
    (logs / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    (logs / "other.json").write_bytes(b'{"some": "settings"}')
    for no_log in (".hidden.json", "README.md", "LICENSE", "good.verdicts.json"):
        (logs / no_log).write_bytes(b"no log")
    report = ingest([logs], tmp_path / "store")
    reasons = {Path(file.path).name: [drop.reason for drop in file.dropped] for file in report.logs}
    assert reasons == {
        "good.jsonl": [],
        "cut.json": [NOT_JSON],
        "cut.jsonl.gz": [UNREADABLE],
        "cut.jsonl.zst": [UNREADABLE],
        "empty.json": [EMPTY],
        "blank.json": [EMPTY],
        "image.png": [NOT_UTF8],
        "other.json": [NO_FORMAT],
    }
    assert {file.path: file.trajectories for file in report.logs}[str(logs / "deep" / "good.jsonl")] == 2


def test_a_huge_line_and_any_character(tmp_path: Path) -> None:
    text = "ünï\x00\x1b[31m 中文 🐛 \r\n" + "x" * 5_000_000
    report = read_bytes(tmp_path, lines(record(1, text), record(2)))
    assert (report.trajectories, report.dropped) == (2, 0)
    assert Store(tmp_path / "store")[0].turns[0].observation == text


def test_lines_are_read_one_at_a_time(tmp_path: Path) -> None:
    """The file's end is not looked at before its beginning is used."""
    path = tmp_path / "log"
    path.write_bytes(ROWS + b"\xff")
    stream = documents(path)
    assert next(stream)[0] == 1
    assert next(stream)[0] == 2
    (line, last), *rest = stream
    assert (line, rest) == (3, [])
    assert isinstance(last, Dropped)


@pytest.mark.parametrize("frames", [1, 40])
def test_no_cut_of_an_archive_is_silent(tmp_path: Path, frames: int) -> None:
    rows = [lines(record(i, str(i) * 3000)) for i in range(40)]
    content = zstandard.compress(b"".join(rows)) if frames == 1 else b"".join(map(zstandard.compress, rows))
    path = tmp_path / "log"
    for cut in range(5, len(content), 37):
        path.write_bytes(content[:cut])
        found = [document for _, document in documents(path)]
        whole = sum(not isinstance(document, Dropped) for document in found)
        assert isinstance(found[-1], Dropped) or (frames > 1 and whole < 40)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    (reason,) = [document for _, document in documents(gone)]
    assert isinstance(reason, Dropped)
    assert reason.reason == UNREADABLE


# --------------------------------------------------------------------------------------------- the report


def test_the_same_run_twice_is_kept_once(tmp_path: Path) -> None:
    report = read_bytes(tmp_path, lines(record(1), record(1), record(1, "another run of the same task")))
    assert (report.trajectories, seen(report)) == (2, [(2, DUPLICATE)])
    assert [row.id for row in Store(tmp_path / "store").rows] == ["a__b-1", "a__b-1-2"]


def test_the_json_has_the_promised_keys(tmp_path: Path) -> None:
    report = read_bytes(tmp_path, lines(record(1), b"{"))
    assert report.as_json() == {
        "files": [
            {
                "path": str(tmp_path / "log"),
                "format": "xml-messages",
                "trajectories": 1,
                "steps": 2,
                "dropped": [{"line": 2, "reason": NOT_JSON, "detail": report.logs[0].dropped[0].detail}],
            }
        ],
        "trajectories": 1,
        "steps": 2,
        "dropped": 1,
        "sensitive": {},
        "redacted": False,
        "without_issue": 0,
    }


def test_the_table_groups_what_was_dropped(tmp_path: Path) -> None:
    report = read_bytes(tmp_path, lines(record(1), b"{", b"{", b"7"))
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table(report))
    text = console.export_text()
    assert "2 × not JSON (first: line 2:" in text
    assert "1 × no known format (first: line 4: saw int)" in text


def test_progress_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS)
    told: list[tuple[int, int, str]] = []
    ingest([tmp_path], tmp_path / "out", lambda *read: told.append(read))
    size = len(ROWS)
    assert told == [(size, size, str(tmp_path / "a.jsonl"))] * 2 or told[0][0] < told[1][0] <= size


def test_verdicts_beside_a_log_say_what_was_resolved(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl.gz").write_bytes(gzip.compress(lines(record(1), record(2), record(3) | {"resolved": True})))
    verdicts = tmp_path / "runs.verdicts.json"
    verdicts.write_text('{"a__b-1": true, "a__b-2": false, "a__b-3": false}')
    data = open_data(tmp_path)
    assert [trajectory.outcome.resolved for trajectory in data] == [True, False, True]  # the log's own word first
    verdicts.write_text('["a__b-1"]')
    with pytest.raises(DataError, match="does not map instance ids"):
        open_data(tmp_path)


def test_a_store_can_be_ingested_again(tmp_path: Path) -> None:
    read_bytes(tmp_path, ROWS)
    report = ingest([tmp_path / "store"], tmp_path / "again")
    assert [(file.format, file.trajectories) for file in report.logs] == [("swe-srl", 2)]
    assert tuple(Store(tmp_path / "again")) == tuple(Store(tmp_path / "store"))


def test_a_store_among_the_logs_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(record(1), record(1, "another run")))
    first = ingest([tmp_path], tmp_path / "store").as_json()
    assert ingest([tmp_path], tmp_path / "store").as_json() == first


# ------------------------------------------------------------------------------------------- asked wrongly


def test_nothing_usable_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_data(tmp_path / "nowhere")
    with pytest.raises(DataError, match="No log file under"):
        open_data(tmp_path)
    (tmp_path / "other.json").write_bytes(b'{"some": "settings"}')
    with pytest.raises(DataError, match=r"(?s)1 × no known format .*some.*mini-swe-agent, swe-agent"):
        open_data(tmp_path)
    with pytest.raises(DataError, match="no trajectory in 1 file"):
        ingest([tmp_path], tmp_path / "store")
    assert not (tmp_path / "store").exists()
    with pytest.raises(DataError, match="is a file"):
        ingest([tmp_path], tmp_path / "other.json")


def test_an_ingest_that_was_killed_can_be_done_again(tmp_path: Path) -> None:
    """It leaves what it had written: nobody has to clear it away."""
    (tmp_path / "log.jsonl").write_bytes(ROWS)
    store = tmp_path / "store"
    store.mkdir()
    for name in (".trajectories.jsonl.zst.part", ".index.jsonl.part"):
        (store / name).write_bytes(b"half")
    assert ingest([tmp_path / "log.jsonl"], store).trajectories == 2
    assert sorted(path.name for path in store.iterdir()) == ["index.jsonl", "trajectories.jsonl.zst"]


def test_a_pipe_is_read_with_its_progress(tmp_path: Path) -> None:
    """As the shell's <(…) gives one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(ROWS,))
    writer.start()
    told: list[int] = []
    report = ingest([pipe], tmp_path / "store", lambda read, total, name: told.append(read))
    writer.join()
    assert (report.trajectories, told) == (2, [0, 0])


def test_a_failed_ingest_leaves_the_store_that_was_there(tmp_path: Path) -> None:
    read_bytes(tmp_path, ROWS)
    with pytest.raises(DataError):
        read_bytes(tmp_path, b"{}", "other")
    assert len(Store(tmp_path / "store")) == 2
