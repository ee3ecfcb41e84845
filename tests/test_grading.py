"""What tests say of a patch: the same from Docker, from runc and from the official command."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import swebench_rows
from docker.errors import ImageNotFound
from swebench_rows import ELSEWHERE, GOLD, NOOP, REGRESSION, SLEEPS

from swe_srl.agent_config import GradeConfig, TasksConfig
from swe_srl.errors import ConfigError, SandboxError
from swe_srl.evaluate.grading import APPLY, grade
from swe_srl.evaluate.official import grade_officially
from swe_srl.sandboxes import changes
from swe_srl.sandboxes.daemon import daemon
from swe_srl.sandboxes.namespace import namespace
from swe_srl.sandboxes.pool import Pool
from swe_srl.tasks import images, load
from swe_srl.tasks.opening import opened
from swe_srl.tasks.swebench import task_of
from swe_srl.types import Task

CONFIG = GradeConfig(timeout_s=120, attempts=1)
FAILED, REGRESSED = ("test_sums.py::test_mean",), ("test_sums.py::test_top",)
# patch → resolved, kind, failed
CASES: dict[str, tuple[str, bool, str, tuple[str, ...]]] = {
    "gold": (GOLD, True, "resolved", ()),
    "noop": (NOOP, False, "tests fail", FAILED),
    "empty": ("", False, "no patch", ()),
    "elsewhere": (ELSEWHERE, False, "does not apply", ()),
    "regression": (REGRESSION, False, "regressions", REGRESSED),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    namespace()  # this process's own is mounted in the cache that stays
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWE_SRL_CACHE", str(cache))
        with swebench_rows.image() as commit:
            yield commit
            task = task_of(swebench_rows.row(commit), "here")
            images.behind(task)
    shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture(scope="module")
def task(base: str) -> Task:
    return task_of(swebench_rows.row(base), "here")


@pytest.fixture(scope="module", params=["docker", "runc"])
def pool(request: pytest.FixtureRequest, base: str) -> Iterator[Pool]:
    with Pool(request.param, max_open=2) as made:
        yield made


# --------------------------------------------------------------------------------------------------- rows of SWE-bench


@pytest.mark.parametrize("case", CASES)
def test_each_patch_has_its_verdict(pool: Pool, task: Task, case: str) -> None:
    patch, resolved, kind, failed = CASES[case]
    verdict = grade(task, patch, pool, CONFIG)
    assert (verdict.resolved, verdict.kind, verdict.failed) == (resolved, kind, failed), verdict
    assert verdict.offline == (pool.kind == "runc" and kind not in ("no patch", "does not apply"))
    assert (verdict.seconds > 0) == (case != "empty")


def test_tests_that_take_too_long_are_not_infrastructure(pool: Pool, task: Task) -> None:
    verdict = grade(task, SLEEPS, pool, CONFIG.model_copy(update={"timeout_s": 8.0}))
    assert (verdict.resolved, verdict.kind) == (False, "tests timed out")


def test_a_log_of_any_length_is_read_whole(pool: Pool, base: str) -> None:
    script = swebench_rows.row(base)["eval_script"]
    noise = "yes 'a line of noise, as a verbose test suite prints it' | head -n 1500000\n"
    long = task_of(swebench_rows.row(base, eval_script=script.replace(": '>>>>> Start", f"{noise}: '>>>>> Start")), "")
    assert grade(long, GOLD, pool, CONFIG).resolved


def test_what_an_agent_did_to_the_tests_is_undone(pool: Pool, task: Task) -> None:
    spoilt = "diff --git a/test_sums.py b/test_sums.py\ndeleted file mode 100644\n--- a/test_sums.py\n+++ /dev/null\n"
    spoilt += "@@ -1,4 +0,0 @@\n-import sums\n-\n-def test_top():\n-    assert sums.top([1, 3]) == 3\n"
    assert grade(task, GOLD + spoilt, pool, CONFIG).resolved


def test_a_missing_image_is_a_row_with_its_name(pool: Pool, base: str) -> None:
    lost = task_of(swebench_rows.row(base, image="swe-srl.invalid/nowhere:1"), "here")
    verdict = grade(lost, GOLD, pool, CONFIG)
    assert (verdict.resolved, verdict.kind) == (None, "infrastructure")
    assert "image missing: swe-srl.invalid/nowhere:1" in str(verdict.reason)
    with pytest.raises(SandboxError, match="image missing"), opened(lost, pool):
        pass


def test_patches_are_applied_as_the_official_harness_does() -> None:
    from swebench.harness.run_evaluation import GIT_APPLY_CMDS

    assert list(APPLY) == GIT_APPLY_CMDS


@pytest.mark.slow
def test_the_official_command_says_the_same_docker(base: str, tmp_path: Path) -> None:
    """One run over a row for each case."""
    cases = CASES | {"sleeps": (SLEEPS, False, "tests timed out", ())}
    tasks = {case: task_of(swebench_rows.row(base, instance_id=f"swe-srl__sums-{case}"), "here") for case in cases}
    patches = {task.task_id: cases[case][0] for case, task in tasks.items()}
    config = GradeConfig(timeout_s=20, workers=3)
    verdicts = grade_officially(list(tasks.values()), patches, tmp_path, config)
    for case, (_, resolved, kind, failed) in cases.items():
        verdict = verdicts[tasks[case].task_id]
        assert (verdict.resolved, verdict.kind, verdict.failed) == (resolved, kind, failed), verdict


def test_the_official_command_takes_rows_of_swe_bench_alone(tmp_path: Path) -> None:
    ours = load(TasksConfig(source="bugfix"), 1)
    with pytest.raises(ConfigError, match="rows alone"):
        grade_officially(ours, {}, tmp_path, CONFIG)


# ------------------------------------------------------------------------------------------ what an agent begins with


def test_nothing_of_the_future_is_in_reach(pool: Pool, task: Task) -> None:
    with opened(task, pool) as box:
        ask: Callable[[str], str] = lambda command: box.exec(command, 60).output.strip()  # noqa: E731
        assert ask("git rev-list --all --not HEAD") == ""
        assert ask("git reflog; git stash list; git remote; git branch -r; git fsck --unreachable --no-reflogs") == ""
        assert ask("git tag") == "v1"
        objects = "git cat-file --batch-all-objects --batch-check='%(objectname)'"
        assert "len(xs)" not in ask(f"{objects} | git cat-file --batch | strings; cat sums.py; ls -R .git")
        assert ask("git log --format=%s") == "base"
        assert ask(f"git cat-file -t {task.base_commit}") == "commit"
        assert ask("git status --short") == "?? left.txt"
        assert "test_mean" not in ask("cat test_sums.py; ls / /tmp")


def test_what_the_image_left_uncommitted_is_in_no_patch(pool: Pool, task: Task) -> None:
    with opened(task, pool) as box:
        assert changes(box) == ""
        box.write("sums.py", box.read("sums.py").replace(b"/ 2", b"/ len(xs)"))
        patch = changes(box)
    assert "left.txt" not in patch
    assert grade(task, patch, pool, CONFIG).resolved


def test_an_image_that_holds_the_hidden_tests_is_refused(pool: Pool, base: str) -> None:
    there = "diff --git a/test_sums.py b/test_sums.py\n--- a/test_sums.py\n+++ b/test_sums.py\n@@ -1,2 +1,4 @@\n"
    there += " import sums\n \n+def test_top():\n+    assert sums.top([1, 3]) == 3\n"
    spoilt = task_of(swebench_rows.row(base, test_patch=there), "here")
    with pytest.raises(SandboxError, match="holds the hidden tests"), opened(spoilt, pool):
        pass


def test_an_image_is_looked_at_once_docker(base: str, task: Task) -> None:
    with Pool("docker", max_open=1) as pool:
        with opened(task, pool):
            pass
        first = daemon().client.inspect_image(images.without_future(swebench_rows.NAME, "docker"))
        with opened(task, pool):
            pass
    again = daemon().client.inspect_image(images.without_future(swebench_rows.NAME, "docker"))
    assert first["Id"] == again["Id"] != daemon().client.inspect_image(swebench_rows.NAME)["Id"]
    assert first["Config"]["WorkingDir"] == "/testbed/"


def test_images_are_pulled_ahead_and_pruned_behind_docker(base: str) -> None:
    other = "swe-srl.invalid/other:1"
    daemon().client.tag(swebench_rows.NAME, *other.rsplit(":", 1))
    one, two = (task_of(swebench_rows.row(base, instance_id=f"swe-srl__o-{n}", image=other), "") for n in (1, 2))
    over = images.Behind([one, two], samples=2)
    for task in (one, two, one):
        over(task)
        assert daemon().client.inspect_image(other)
    assert images.ahead([one, two], prune=False) == {}  # it is here
    over(two)
    with pytest.raises(ImageNotFound):
        daemon().client.inspect_image(other)
    assert daemon().client.inspect_image(swebench_rows.NAME)
    assert images.ahead([one, two], prune=True) == {}  # each comes when it is needed
    assert images.ahead([one, two], prune=False)[other].startswith(f"image missing: {other} (")
    assert images.ahead(load(TasksConfig(source="bugfix"), 2), prune=False) == {}
    assert images.ahead([one, two], prune=False, pull=False) == {}  # who opens it says so
    missing = f"image missing: {other} is not here, and images.pull is false"
    with Pool("docker", max_open=1, pull=False) as pool:
        with pytest.raises(SandboxError, match=missing), opened(one, pool):
            pass
        assert grade(one, GOLD, pool, CONFIG).reason == missing


def test_images_that_do_not_fit_are_refused_before_one_is_pulled_docker(base: str) -> None:
    many = [task_of(swebench_rows.row(base, image=f"swe-srl.invalid/n{n}:1"), "") for n in range(100_000)]
    with pytest.raises(
        ConfigError, match=r"100000 images are absent and take about 250000 GB; at .* free\. images\.prune"
    ):
        images.refuse_what_does_not_fit(images.needed(many))


# ------------------------------------------------------------------------------------------------- the bug-fix suite


@pytest.fixture(scope="module")
def local() -> Iterator[Pool]:
    with Pool("local", max_open=1) as made:
        yield made


def test_the_bug_fix_suite_goes_the_same_way(local: Pool) -> None:
    ours = load(TasksConfig(source="bugfix"), 1)[0]
    assert grade(ours, ours.gold_patch, local, CONFIG).kind == "resolved"
    noop = grade(ours, NOOP, local, CONFIG)
    assert (noop.resolved, noop.kind, set(noop.failed)) == (False, "tests fail", set(ours.fail_to_pass))
    assert grade(ours, "", local, CONFIG).kind == "no patch"
    assert grade(ours, "no patch at all\n", local, CONFIG).kind == "does not apply"


@pytest.mark.parametrize("kind", ["runc"])
def test_a_patch_that_no_sandbox_takes_is_its_makers_doing(kind: str) -> None:
    with Pool(kind, max_open=1) as pool:
        verdict = grade(load(TasksConfig(source="bugfix"), 1)[0], "x" * (65 << 20), pool, CONFIG)
    assert (verdict.kind, verdict.resolved) == ("does not apply", False)


def test_a_fix_that_breaks_something_else_is_a_regression(local: Pool) -> None:
    ours = load(TasksConfig(source="bugfix"), 1)[0]
    spoilt = replace(ours, fail_to_pass=ours.pass_to_pass, pass_to_pass=ours.fail_to_pass)
    assert grade(spoilt, NOOP, local, CONFIG).kind == "regressions"


# ------------------------------------------------------------------------------------------------ a real instance


REAL = Path(__file__).parents[2] / "shared" / "data" / "swebench" / "flask-5014.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["docker", "runc"])
def test_a_real_instance(kind: str) -> None:
    if not REAL.is_file():
        pytest.skip(f"{REAL} is absent")
    real = load(TasksConfig(source=str(REAL)))[0]
    if subprocess.run(["docker", "image", "inspect", str(real.image)], capture_output=True).returncode:
        pytest.skip(f"there is no image {real.image}: environments/images/swebench/prepare.sh makes it")
    with Pool(kind, max_open=1) as pool:
        assert grade(real, real.gold_patch, pool, GradeConfig()).resolved
        noop = grade(real, NOOP, pool, GradeConfig())
    assert (noop.resolved, noop.failed) == (False, real.fail_to_pass)
