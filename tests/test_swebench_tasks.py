"""Rows of SWE-bench become tasks or are refused with a reason; a repository loses its future and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import swebench_rows

from swe_srl.agent_config import TasksConfig
from swe_srl.errors import ConfigError, DataError
from swe_srl.tasks import BUGFIX, load
from swe_srl.tasks.future import clean

SHARED = Path(__file__).parents[2] / "shared" / "data" / "swebench"
ROWS = [
    swebench_rows.row("c" * 40),
    swebench_rows.row("c" * 40, instance_id="swe-srl__sums-2", repo="swe-srl/other"),
]
CLASSIC = {
    key: value for key, value in ROWS[0].items() if key not in ("image", "eval_script", "log_parser", "eval_type")
}


def written(folder: Path, name: str, rows: list[dict[str, object]]) -> str:
    path = folder / name
    if path.suffix == ".parquet":
        text = [row | {"PASS_TO_PASS": json.dumps(row["PASS_TO_PASS"])} for row in rows]
        pq.write_table(pa.Table.from_pylist(text), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return str(path)


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.parquet"])
def test_each_kind_of_file(tmp_path: Path, name: str) -> None:
    tasks = load(TasksConfig(source=written(tmp_path, name, ROWS)))
    assert [task.task_id for task in tasks] == ["swe-srl__sums-1", "swe-srl__sums-2"]
    first = tasks[0]
    assert first.fail_to_pass == ("test_sums.py::test_mean",)  # a list as JSON text in the row
    assert first.pass_to_pass == ("test_sums.py::test_top",)
    assert (first.repository, first.image, first.base_commit) == ("swe-srl/sums", swebench_rows.NAME, "c" * 40)
    assert (first.source, first.gold_patch) == ("", swebench_rows.GOLD)
    assert load(TasksConfig(source=str(tmp_path))) == tasks  # its folder


def test_an_object_by_instance_is_a_list_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({row["instance_id"]: row for row in ROWS}))
    assert len(load(TasksConfig(source=str(path)))) == 2


def test_ids_repositories_and_a_limit_choose(tmp_path: Path) -> None:
    source = written(tmp_path, "rows.jsonl", ROWS)
    swapped = ["swe-srl__sums-2", "swe-srl__sums-1"]
    assert [task.task_id for task in load(TasksConfig(source=source, ids=swapped))] == swapped
    assert [task.task_id for task in load(TasksConfig(source=source), 1)] == ["swe-srl__sums-1"]
    only = load(TasksConfig(source=source, repositories=["swe-srl/other"]))
    assert [task.task_id for task in only] == ["swe-srl__sums-2"]
    with pytest.raises(DataError, match=r"no task 'swe-srl__sum-2' \(did you mean 'swe-srl__sums-2'\?\)"):
        load(TasksConfig(source=source, ids=["swe-srl__sum-2"]))
    with pytest.raises(DataError, match=r"no task of 'swe-srl/sum'"):
        load(TasksConfig(source=source, repositories=["swe-srl/sum"]))


def test_the_suite_by_its_name_its_folder_or_its_file() -> None:
    tasks = load(TasksConfig(source="bugfix", split="test"))
    assert tasks == load(TasksConfig(source=str(BUGFIX), split="test"))
    assert tasks == load(TasksConfig(source=str(BUGFIX / "tasks.jsonl"), split="test"))
    assert all(task.image is None for task in tasks)
    assert load(TasksConfig(source="bugfix", ids=["spans__1~3"]))[0].task_id == "spans__1~3"


def test_a_suite_under_other_names(tmp_path: Path) -> None:
    own = load(TasksConfig(source="bugfix", split="validation"))
    renamed = load(TasksConfig(source="bugfix", split="validation", variants=2))
    assert [task.task_id for task in renamed] == [f"{task.task_id}~{number}" for task in own for number in (0, 1)]
    assert renamed[0].issue != own[0].issue
    chosen = ["spans__1~1", "spans__1~5"]
    assert [task.task_id for task in load(TasksConfig(source="bugfix", variants=2, ids=chosen))] == chosen
    with pytest.raises(ConfigError, match=r"tasks\.variants: only a bug-fix suite's tasks have other names"):
        load(TasksConfig(source=written(tmp_path, "rows.jsonl", ROWS), variants=2))


def test_a_classic_row_is_completed_or_refused(tmp_path: Path) -> None:
    classic = written(tmp_path, "classic.json", [CLASSIC])
    with pytest.raises(DataError, match=r"sums-1 lacks image, eval_script, log_parser: a classic row.*tasks\.complete"):
        load(TasksConfig(source=classic))
    full = written(tmp_path, "full.jsonl", ROWS)
    assert load(TasksConfig(source=classic, complete=full)) == load(TasksConfig(source=full), 1)


def test_a_row_that_names_only_its_image_is_refused_with_the_reason(tmp_path: Path) -> None:
    smith = written(tmp_path, "smith.json", [CLASSIC | {"image_name": "jyangballin/swesmith.x86_64.sums"}])
    with pytest.raises(DataError, match="its image is named, but not how its tests are run"):
        load(TasksConfig(source=smith))
    graded = ROWS[0] | {"image": None, "image_name": "other/image:1", "eval_type": None, "version": None}
    task = load(TasksConfig(source=written(tmp_path, "gym.json", [graded])))[0]
    assert (task.image, task.record["eval_type"]) == ("other/image:1", "pass_and_fail")


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "no tasks can be read"), ('[{"a": 1}]', "row 1 has no instance_id"), ("[]", "holds no task")],
)
def test_files_that_hold_no_rows(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=why):
        load(TasksConfig(source=str(path)))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"there is no rows\.parquet"):
        load(TasksConfig(source="rows.parquet"))


def without_a_network(data_set: str) -> str:
    """What is said on stderr."""
    program = (
        "from swe_srl.agent_config import TasksConfig; from swe_srl.tasks import load; "
        f"load(TasksConfig(source={data_set!r}))"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": "/nowhere"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env).stderr


def test_a_data_set_without_a_network_says_what_to_do() -> None:
    told = without_a_network("SWE-bench/SWE-bench_Verified")
    assert told.startswith("swe-srl: looking for the data set SWE-bench/SWE-bench_Verified\n")
    assert "DataError: the data set SWE-bench/SWE-bench_Verified cannot be had here" in told
    assert "hf download --repo-type dataset SWE-bench/SWE-bench_Verified" in told


def test_a_name_that_is_nearly_a_data_set_s_gets_no_advice_with_the_wrong_one() -> None:
    told = without_a_network("SWE-bench/SWE-bench_Verifed")
    assert "(did you mean 'SWE-bench/SWE-bench_Verified'?)" in told
    assert "hf download --repo-type dataset NAME" in told


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_every_real_row_is_a_task_or_is_refused_with_a_reason(tmp_path: Path) -> None:
    given = {key: ROWS[0][key] for key in ("image", "eval_script", "log_parser")}
    complete = []
    for path in sorted(SHARED.glob("*.json*")):
        text = path.read_text()
        for row in json.loads(text) if path.suffix == ".json" else map(json.loads, text.splitlines()):
            one = written(tmp_path, "one.json", [row])
            if "eval_script" in row:
                complete.append(load(TasksConfig(source=one))[0])
                continue
            with pytest.raises(
                DataError, match=f"{row['instance_id']} lacks image, eval_script, log_parser: a classic"
            ):
                load(TasksConfig(source=one))
            other = written(tmp_path, "other.json", [given | {"instance_id": row["instance_id"]}])
            task = load(TasksConfig(source=one, complete=other))[0]
            assert task.fail_to_pass
            assert task.issue
    assert [task.task_id for task in complete] == ["pallets__flask-5014"]


# -------------------------------------------------------------------------------------------------------- the future


def git(tree: Path, *words: str) -> str:
    env = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    return subprocess.run(["git", *who, *words], cwd=tree, env=env, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clone as it may lie in an image: HEAD in the middle of a history, the rest by all sorts of names, and none."""
    tree = tmp_path / "testbed"
    tree.mkdir()
    git(tree, "init", "-q", "-b", "main")
    for number in range(4):
        (tree / "code.py").write_text(f"# version {number}\n")
        (tree / ".gitignore").write_text("*.pyc\n")
        git(tree, "add", "-A")
        git(tree, "commit", "-qm", f"version {number}")
        git(tree, "tag", "-am", "x", f"v{number}")
    git(tree, "branch", "later")
    git(tree, "notes", "add", "-m", "the fix is in version 3")
    git(tree, "gc", "-q")
    for pack in (tree / ".git/objects/pack").glob("*.pack"):
        pack.with_suffix(".keep").touch()
    git(tree, "remote", "add", "origin", "/nowhere")
    git(tree, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(tree, "update-ref", "refs/replace/" + git(tree, "rev-parse", "HEAD").strip(), "HEAD~1")
    git(tree, "reset", "-q", "--hard", "v1")
    (tree / "code.py").write_text("# version stashed\n")
    git(tree, "stash", "-q")
    git(tree, "worktree", "add", "-q", str(tmp_path / "elsewhere"), "later")
    (tree / "loose.py").write_text("# version loose\n")
    git(tree, "hash-object", "-w", "loose.py")
    (tree / "loose.py").unlink()
    (tree / ".git/FETCH_HEAD").write_text(git(tree, "rev-parse", "later"))
    return tree


def everything(tree: Path) -> str:
    """Every object's content."""
    names = git(tree, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return "".join(git(tree, "cat-file", "-p", name) for name in names.split())


def clean_it(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", clean(str(tree))], capture_output=True, text=True)


def test_a_repository_loses_its_future_and_keeps_its_past(tree: Path) -> None:
    head = git(tree, "rev-parse", "HEAD")
    assert "version 3" in everything(tree)
    done = clean_it(tree)
    assert done.returncode == 0, done
    assert git(tree, "rev-parse", "HEAD") == head
    assert git(tree, "log", "--format=%s").split("\n")[:2] == ["version 1", "version 0"]
    assert git(tree, "tag").split() == ["v0", "v1"]
    assert git(tree, "for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/main",
        "refs/tags/v0",
        "refs/tags/v1",
    ]
    assert git(tree, "rev-list", "--all", "--not", "HEAD") == ""
    assert git(tree, "remote") + git(tree, "reflog") + git(tree, "stash", "list") == ""
    assert git(tree, "fsck", "--unreachable", "--no-reflogs") == ""
    found = everything(tree)
    assert "version 1" in found
    assert not any(f"version {name}" in found for name in ("2", "3", "stashed", "loose"))
    assert not any((tree / ".git" / name).exists() for name in ("FETCH_HEAD", "ORIG_HEAD", "logs", "worktrees"))
    assert git(tree, "status", "--short") == ""


def test_a_detached_head_and_a_second_time(tree: Path) -> None:
    git(tree, "checkout", "-q", "--detach")
    assert clean_it(tree).returncode == 0
    before = sorted(path.name for path in (tree / ".git/objects").rglob("*"))
    assert git(tree, "for-each-ref", "--format=%(refname)").split() == ["refs/tags/v0", "refs/tags/v1"]
    assert clean_it(tree).returncode == 0
    assert sorted(path.name for path in (tree / ".git/objects").rglob("*")) == before  # nothing to do: nothing is done


def test_borrowed_objects_go_too(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", "--shared", str(tree), str(copy))
    assert (copy / ".git/objects/info/alternates").exists()
    assert clean_it(copy).returncode == 0
    assert "version 3" not in everything(copy)
    assert "version 1" in everything(copy)


def test_files_that_the_image_left_are_the_start(tree: Path) -> None:
    (tree / "built.txt").write_text("left\n")
    (tree / "code.py").write_text("# patched by the image\n")
    assert clean_it(tree).returncode == 0
    kept = git(tree, "ls-tree", "-r", "--name-only", "refs/swe-srl/tree").split()
    assert kept == [".gitignore", "built.txt", "code.py"]
    assert git(tree, "rev-list", "--all", "--not", "HEAD") == ""
    assert "version 3" not in everything(tree)


def test_no_repository_is_said(tmp_path: Path) -> None:
    assert clean_it(tmp_path).returncode != 0
