"""Sandboxes on the nodes of a Ray cluster: what a lost node costs, what is told, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cluster import add_node, cluster
from made import bash

from swe_srl import episodes
from swe_srl.actions import render_completion
from swe_srl.agent_config import AgentConfig, EpisodeLimits, GradeConfig
from swe_srl.config import Spread
from swe_srl.errors import ConfigError, NodeLostError, SandboxError
from swe_srl.evaluate.grading import grade
from swe_srl.fleet import Fleet, reach
from swe_srl.fleet.trees import Packed
from swe_srl.loading import check
from swe_srl.places import patient, placed, together
from swe_srl.policies import State
from swe_srl.replay import replay
from swe_srl.rollout import Job, rollout
from swe_srl.rollouts import roll
from swe_srl.runs import read_events
from swe_srl.sandboxes.pool import Pool
from swe_srl.sandboxes.worktree import digest
from swe_srl.tasks.bugfix import load_tasks
from swe_srl.tasks.opening import opened
from swe_srl.tries import Tries
from swe_srl.types import Action, Completion

SUITE = Path(__file__).parents[1] / "environments" / "bugfix"
SUBMIT = render_completion("", Action("submit"))
NOOP = "diff --git a/new b/new\nnew file mode 100644\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+1\n"
SLOTS = 4  # of `ray_cluster`'s node


def says(*texts: str) -> Callable[[Sequence[State]], list[Any]]:
    """A policy whose k-th answer is the k-th text."""
    return lambda states: [Completion(texts[min(len(state.turns), len(texts) - 1)]) for state in states]


def sleeps(seconds: float, count: int) -> Callable[[Sequence[State]], list[Any]]:
    return says(*[render_completion("", bash(f"sleep {seconds}"))] * count, SUBMIT)


@pytest.fixture
def fleet(ray_cluster: Any) -> Iterator[Fleet]:
    """On one node. Tests that lose a node add one."""
    with reach("local", ray_cluster.address) as found:
        yield found


def attempts(policy: Any, jobs: Sequence[Job], pool: Pool, **limits: Any) -> list[episodes.Episode]:
    asked = patient(EpisodeLimits(**{"workers": len(jobs), **limits}), pool)
    return list(rollout(policy, jobs, partial(opened, pool=pool), asked, 30, seed=0))


def jobs(count: int) -> list[Job]:
    return [Job(task, 0) for task in load_tasks(SUITE)[:count]]


def in_flight(fleet: Fleet) -> dict[str, int]:
    """Open sandboxes by node."""
    return {name: sum(node["open"].values()) for name, node in fleet.row()["time/fleet/nodes"].items()}


def wait_for(what: Callable[[], Any], limit_s: float = 120) -> Any:
    end = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)
    return found


@contextmanager
def lost_when(node: Any, ray_cluster: Any, ready: Callable[[], Any]) -> Iterator[None]:
    """Kill a node as soon as something is so."""

    def lose() -> None:
        wait_for(ready)
        ray_cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        yield
    finally:
        thread.join()


# -------------------------------------------------------------------------------------------- without a cluster


def test_a_lost_node_is_one_try_more_once() -> None:
    tries, lost = Tries(1), NodeLostError("gone")
    tries.begin()
    assert tries.again(lost)
    tries.begin()
    assert not tries.again(lost)
    assert tries.made == 2

    tries = Tries(2)
    for error, again in ((SandboxError("gone"), True), (lost, True), (SandboxError("gone"), False)):
        tries.begin()
        assert tries.again(error) is again


def test_a_tree_arrives_as_it_left(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "run.sh").write_bytes(b"\xff\0")
    (source / "run.sh").chmod(0o4755)
    (source / "link").symlink_to("/nowhere")
    (source / "__pycache__").mkdir()
    arrived = Packed.of(source).unpack(tmp_path / "arrived")
    assert digest(arrived) == digest(source)
    assert not (arrived / "__pycache__").exists()
    with pytest.raises(SandboxError, match="is no folder"):
        Packed.of(source / "run.sh")


@pytest.mark.parametrize(
    ("sandbox", "told"),
    [
        ({"ray_address": "head:6379"}, "ray_address is of fleet"),
        ({"fleet": "ray", "ray_address": "ray://head:10001"}, "let this machine join the cluster"),
        ({"fleet": "slurm"}, "fleet"),
    ],
)
def test_keys_that_mean_nothing_are_refused(sandbox: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check(AgentConfig, {"sandbox": sandbox}, "test")


def test_which_cluster_is_no_part_of_a_run() -> None:
    here, there = (
        AgentConfig.model_validate({"agent": "gold", "sandbox": {"fleet": "ray", "ray_address": f"{host}:6379"}})
        for host in ("here", "there")
    )
    assert here.folder() == there.folder()
    assert here.folder() != AgentConfig(agent="gold").folder()


def test_this_machine_is_a_place_without_rows() -> None:
    with placed(Spread(kind="local")) as place:
        assert (place.kind, place.words, place.row()) == ("local", "", {})


def test_what_several_processes_see_is_summed() -> None:
    def row(name: str, **open: int) -> dict[str, Any]:
        nodes = {name: {"open": open, "closed": {}, "lost": 1, "per_minute": 0.1}}
        return {"time/fleet/nodes": nodes, "time/fleet/open": sum(open.values())}

    found = together([row("here", attempts=2), row("here", attempts=1, grading=1), row("there", grading=4)])
    assert found["time/fleet/open"] == 8
    here, there = found["time/fleet/nodes"].values()
    assert here == {"open": {"attempts": 3, "grading": 1}, "closed": {}, "lost": 2, "per_minute": 0.2}
    assert there["open"] == {"grading": 4}
    assert together([{}, {}]) == {}


# ------------------------------------------------------------------------------------------------- a cluster


def test_a_cluster_that_is_not_there_is_told() -> None:
    nowhere = Spread(kind="local", fleet="ray", ray_address="127.0.0.1:1")
    told = pytest.raises(ConfigError, match=r"sandbox\.ray_address = '127\.0\.0\.1:1'.*ray start --head")
    with told, placed(nowhere):
        pass


def test_a_node_that_cannot_hold_sandboxes_is_named(fleet: Fleet, ray_cluster: Any) -> None:
    told = pytest.raises(ConfigError, match=r"node [\d.]+/\w{6} cannot hold sandboxes: .*'cloud' is none of docker")
    with told, reach("cloud", ray_cluster.address):
        pass


def test_attempts_are_those_of_this_machine(fleet: Fleet) -> None:
    policy = says(*[render_completion("", bash(f"ls; echo {n} >> told; cat told")) for n in range(3)], SUBMIT)
    with fleet.pool("attempts", max_open=3, pull=False) as there, Pool("local", max_open=3) as here:
        found, wanted = (attempts(policy, jobs(3), pool) for pool in (there, here))
    key = lambda one: one.key  # noqa: E731
    for one, other in zip(sorted(found, key=key), sorted(wanted, key=key), strict=True):
        assert one.trajectory == other.trajectory
        assert (one.end, one.attempts) == ("submitted", 1)


def test_grading_and_replays_are_those_of_this_machine(fleet: Fleet) -> None:
    task = load_tasks(SUITE)[0]
    with fleet.pool("grading", max_open=1, pull=False) as there:
        assert grade(task, task.gold_patch, there, GradeConfig()).resolved
        assert grade(task, NOOP, there, GradeConfig()).kind == "tests fail"
        job = attempts(says(render_completion("", bash("ls; echo 1 > new")), SUBMIT), jobs(1), there)[0]
        report = replay([job.trajectory], "local", opened=partial(opened, pool=there))
    assert (report.steps, report.observations_equal, report.patches_equal) == (2, 2, 1)  # submit's is the patch


def test_who_waits_for_room_is_not_late(fleet: Fleet) -> None:
    """Attempts that wait longer than `open_s` for others to end are not lost."""
    with fleet.pool("attempts", max_open=3 * SLOTS, pull=False) as pool:
        made = attempts(sleeps(1, 2), jobs(2 * SLOTS), pool, open_s=0.5)
    assert {(one.end, one.attempts) for one in made} == {("submitted", 1)}


def test_who_leaves_waits_for_no_room(fleet: Fleet) -> None:
    with fleet.pool("attempts", max_open=2 * SLOTS, pull=False) as pool:
        made = rollout(
            sleeps(60, 1), jobs(2 * SLOTS), partial(opened, pool=pool), EpisodeLimits(workers=2 * SLOTS), 60, seed=0
        )
        waiting = threading.Thread(target=lambda: next(made, None), daemon=True)
        waiting.start()
        wait_for(lambda: sum(in_flight(fleet).values()) == SLOTS)
        began = time.monotonic()
    assert time.monotonic() - began < 30
    waiting.join(30)
    assert sum(in_flight(fleet).values()) == 0


def test_a_lost_node_s_attempts_are_made_once_more_elsewhere(fleet: Fleet, ray_cluster: Any) -> None:
    """With `attempts = 1`, too: that a node goes says nothing of the attempt."""
    node = add_node(ray_cluster, SLOTS)

    policy, at_work = sleeps(1, 20), set[str]()

    def watched(states: Sequence[State]) -> list[Any]:
        at_work.update(state.task.task_id for state in states if state.turns)
        return policy(states)

    def all_are_at_work() -> bool:  # and so as many on this node as it holds
        return len(at_work) == sum(in_flight(fleet).values()) == 2 * SLOTS

    with (
        fleet.pool("attempts", max_open=2 * SLOTS, pull=False) as pool,
        lost_when(node, ray_cluster, all_are_at_work),
    ):
        made = attempts(watched, jobs(2 * SLOTS), pool, attempts=1)
    assert Counter(one.end for one in made) == {"submitted": 2 * SLOTS}
    assert len({one.key for one in made}) == len(made)
    assert {one.attempts for one in made} == {1, 2}
    nodes = fleet.row()["time/fleet/nodes"]
    assert sum(one["lost"] for one in nodes.values()) == sum(one.attempts == 2 for one in made)


def test_a_lost_node_takes_its_empty_rooms_with_it(fleet: Fleet, ray_cluster: Any) -> None:
    """Long before the cluster knows: whoever wants a sandbox loses one of them at most."""
    with fleet.pool("attempts", max_open=3 * SLOTS, pull=False) as pool, ExitStack() as here, ExitStack() as there:
        for _ in range(SLOTS):
            here.enter_context(pool.open(SUITE))
        node = add_node(ray_cluster, 2 * SLOTS)
        for _ in range(2 * SLOTS):
            there.enter_context(pool.open(SUITE))
        there.close()  # and are taken first
        here.close()
        ray_cluster.remove_node(node, allow_graceful=False)
        for _ in range(SLOTS):
            assert here.enter_context(pool.open(SUITE)).exec("echo 1", 30).output == "1\n"
        assert sorted(one["lost"] for one in fleet.row()["time/fleet/nodes"].values()) == [0, 1]


def test_a_process_that_is_killed_alone_is_no_lost_node(fleet: Fleet, capfd: pytest.CaptureFixture[str]) -> None:
    """By the kernel, say, for its memory. Its attempt is made once more."""
    others = running("ray::Room")
    policy = sleeps(1, 5)

    def watched(states: Sequence[State]) -> list[Any]:
        if states[0].turns and not killed:
            killed.extend(running("ray::Room") - others)
            for number in killed:
                os.kill(int(number), signal.SIGKILL)
        return policy(states)

    killed: list[str] = []
    with fleet.pool("attempts", max_open=1, pull=False) as pool:
        (made,) = attempts(watched, jobs(1), pool, attempts=1)
    assert len(killed) == 1
    assert (made.end, made.attempts) == ("submitted", 2)
    said = capfd.readouterr().err
    assert re.search(
        r"swe-srl: a sandbox's process on node [\d.]+/\w{6} ended; what was open there is done again", said
    )
    assert "was lost" not in said


def test_a_full_cluster_is_told_once(fleet: Fleet, capfd: pytest.CaptureFixture[str]) -> None:
    with fleet.pool("attempts", max_open=3 * SLOTS, pull=False) as pool, ExitStack() as held:
        for _ in range(SLOTS):
            held.enter_context(pool.open(SUITE))
        waiting = [pool.ask(SUITE) for _ in range(2)]
        said = f"swe-srl: 2 wait for room: all {SLOTS} sandboxes that the fleet's nodes may hold are taken, {SLOTS} of"
        found = ""

        def told() -> bool:
            nonlocal found
            found += capfd.readouterr().err
            return said in found

        wait_for(told)
        held.close()
        for one in waiting:
            assert one.result(60).exec("echo 1", 30).output == "1\n"
            pool.give_back(one.result())
    assert (found + capfd.readouterr().err).count("wait for room") == 1


def test_images_are_removed_where_a_cluster_is_left(fleet: Fleet) -> None:
    task = load_tasks(SUITE)[0]
    fleet.behind(task)
    fleet.close()
    fleet.behind(task)  # nobody waits for Ray any more


def test_a_run_tells_of_its_fleet(ray_cluster: Any, tmp_path: Path) -> None:
    config = config_of(ray_cluster, tmp_path / "run", limit=4, samples=1, workers=4)
    found, _ = roll(config)
    assert (found["episodes"], found["resolved"]) == (4, 4)
    last = [row for row in read_events(tmp_path / "run") if row["event"] == "fleet"][-1]
    assert all(key == "event" or key.startswith("time") for key in last)
    assert last["time/fleet/lost"] == 0
    assert not any("attempts" in one["open"] for one in last["time/fleet/nodes"].values())  # graders may go on
    closed = sum((Counter(one["closed"]) for one in last["time/fleet/nodes"].values()), Counter())
    assert closed["attempts"] == 4
    assert last["time/fleet/per_minute"] > 0


DRIVER = """
import signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests are run in the background
from swe_srl.fleet import reach
with reach(sys.argv[1], sys.argv[2]) as fleet, fleet.pool("attempts", max_open=1, pull=False) as pool:
    with pool.open(sys.argv[3]) as box:
        box.exec("sleep 98761 & sleep 0.1", 20)
        print("open", flush=True)
        box.exec("sleep 98762", 98762)
"""


@pytest.mark.parametrize(
    ("kind", "how"),
    [("local", signal.SIGINT), ("runc", signal.SIGINT), ("runc", signal.SIGKILL)],  # `local` isolates nothing
    ids=["local-interrupted", "runc-interrupted", "runc-killed"],
)
def test_nothing_stays_of_a_driver_that_ends(ray_cluster: Any, tmp_path: Path, kind: str, how: signal.Signals) -> None:
    from swe_srl.sandboxes.reaper import sweep

    others = running("ray::Room")
    (tmp_path / "tree").mkdir()
    command = [sys.executable, "-c", DRIVER, kind, ray_cluster.address, str(tmp_path / "tree")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "open\n"
        assert running("sleep 9876")
        driver.send_signal(how)
    wait_for(lambda: not running("sleep 9876"), 60)
    wait_for(lambda: running("ray::Room") <= others, 60)
    left = sweep(with_docker=False)  # as the next room on that node does
    assert how == signal.SIGKILL or not (left.folders or left.mounts)
    again = sweep(with_docker=False, dry=True)
    assert again.folders == again.mounts == again.trouble == []


def running(words: str) -> set[str]:
    """Numbers of this machine's processes whose command line begins with these words."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        found |= {path.parent.name} if line.startswith(words) else set()
    return found


# ------------------------------------------------------------------------------------------------ acceptance


def config_of(ray_cluster: Any, folder: Path, *, limit: int, samples: int, workers: int) -> AgentConfig:
    values = {
        "run": str(folder),
        "agent": "gold",
        "limit": limit,
        "sandbox": {"kind": "local", "fleet": "ray", "ray_address": ray_cluster.address},
        "rollout": {"samples": samples, "workers": workers, "attempts": 1},
        "grade": {"workers": 2, "attempts": 1},
    }
    return check(AgentConfig, values, "test")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_episodes_and_a_lost_node(tmp_path: Path) -> None:
    """All are done once, none is lost, whatever was under way on a node that was killed."""
    with cluster(nodes=3, slots=4) as found:
        config = config_of(found, tmp_path / "run", limit=40, samples=5, workers=10)
        path = tmp_path / "run" / "rollouts" / episodes.FILE
        node = next(iter(found.worker_nodes))  # no head
        with lost_when(node, found, lambda: path.exists() and path.read_bytes().count(b"\n") >= 80):
            told, _ = roll(config)
    assert (told["episodes"], told["resolved"], told["failures"]) == (200, 200, {})
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    keys = Counter((row["task"]["task_id"], row["sample"]) for row in rows)
    assert len(keys) == 200
    assert set(keys.values()) == {1}
    # An attempt, a grading, or a sandbox that was just being opened: which of them is chance.
    assert [row for row in read_events(tmp_path / "run") if row["event"] == "fleet"][-1]["time/fleet/lost"] > 0
    verdicts = [json.loads(line) for line in (tmp_path / "run" / "verdicts.jsonl").read_bytes().splitlines()]
    assert len({(row["task_id"], row["patch"]) for row in verdicts}) == len(verdicts)
