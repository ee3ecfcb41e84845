"""Recording: the same bytes each time, short and foreseeable steps, whole files only."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from swe_srl.actions import is_target, render_call
from swe_srl.formats import read_document
from swe_srl.formats.document import Dropped
from swe_srl.record import FORMATS, demonstrate, record
from swe_srl.sandboxes import BACKENDS, TREE
from swe_srl.tasks.bugfix import load_task, load_tasks, task_sandbox
from swe_srl.tools import execute
from swe_srl.types import Trajectory

ROOT = Path(__file__).parent.parent
SUITE = ROOT / "environments" / "bugfix"
COMMITTED = ROOT / "trajectories"


def read(folder: Path) -> list[Trajectory]:
    found: list[Trajectory] = []
    for path in sorted(folder.glob("*/*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for _, format, item in read_document(json.loads(line), str(path), number):
                assert not isinstance(item, Dropped), item
                assert format == path.parent.name
                found.append(item)
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    for name in ("a", "b"):
        result = record(
            SUITE,
            tmp_path / name,
            copies=2,
            seed=3,
            sandbox_kind="local",
            limit=2,
            progress=lambda done, total: told.append((done, total)),
        )
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2
    trajectories = read(tmp_path / "b")
    assert result["tasks"] == 2
    assert result["trajectories"] == len(trajectories) == 4
    assert result["steps"] == sum(len(trajectory.acted) for trajectory in trajectories)
    assert {file["path"] for file in result["files"]} == {str(p) for p in (tmp_path / "b").glob("*/*.jsonl")}


def test_an_interrupted_run_leaves_whole_files_only(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(SUITE, tmp_path, copies=1, seed=0, sandbox_kind="local", limit=1, progress=interrupt)
    assert files(tmp_path) == {}


@pytest.mark.parametrize("format", FORMATS)
def test_a_log_gives_the_trajectory_back(format: str, tmp_path: Path) -> None:
    record(SUITE, tmp_path, copies=3, seed=0, sandbox_kind="local", limit=1)
    (found,) = [trajectory for trajectory in read(tmp_path) if trajectory.provenance.format == format]
    again = demonstrate(load_task(SUITE, found.id), format, seed=0, sandbox_kind="local")
    assert (found.id, found.issue, found.turns, found.outcome, found.task, found.shell) == (
        again.id,
        again.issue,
        again.turns,
        again.outcome,
        again.task,
        again.shell,
    )


# ---------------------------------------------------------------------------------- what is committed


def test_the_committed_demonstrations_are_three_a_task_and_each_its_own() -> None:
    trajectories = read(COMMITTED)
    assert Counter(trajectory.task.task_id for trajectory in trajectories) == Counter(
        f"{task.task_id}~{copy}" for task in load_tasks(SUITE) for copy in range(3)
    )
    paths = {tuple((turn.thought, str(turn.action)) for turn in trajectory.turns) for trajectory in trajectories}
    assert all(trajectory.id == trajectory.task.task_id for trajectory in trajectories)
    assert len(paths) == len({trajectory.id for trajectory in trajectories}) == 483
    assert all(trajectory.outcome.resolved for trajectory in trajectories)
    assert sum(len(data) for data in files(COMMITTED).values()) < 6_000_000


def test_the_committed_demonstrations_are_short_and_targets() -> None:
    words = []
    for trajectory in read(COMMITTED):
        assert 5 <= len(trajectory.acted) <= 14
        for turn in trajectory.acted:
            assert turn.action is not None
            assert is_target(turn.action)
            words.append(len(turn.thought.split()))
            assert len(render_call(turn.action)) < 400
        for turn in trajectory.acted[:-1]:
            assert turn.observation is not None
            assert len(turn.observation.split()) <= 100
    assert max(words) <= 20
    assert sorted(words)[len(words) * 9 // 10] <= 12


def test_what_is_edited_was_seen_in_the_last_two_observations() -> None:
    for trajectory in read(COMMITTED):
        for place, turn in enumerate(trajectory.acted):
            assert turn.action is not None
            if turn.action.arguments.get("command") == "str_replace":
                last_two = trajectory.acted[place - 2 : place]
                assert turn.action.arguments["old_str"] in "\n".join(earlier.observation or "" for earlier in last_two)
                assert turn.action.arguments["path"].removeprefix(f"{TREE}/") in str(last_two)


def test_each_function_that_is_looked_for_was_named_before() -> None:
    for trajectory in read(COMMITTED):
        assert trajectory.task.task_id
        vague = load_task(SUITE, trajectory.task.task_id).clarity == "vague"
        commands = [turn.action.arguments.get("command", "") for turn in trajectory.acted if turn.action]
        begun = [command for command in commands if command not in ("ls", "git ls-files")]
        assert begun[0].startswith("python -m pytest" if vague else "grep")
        for place, command in enumerate(commands):
            if command.startswith("grep"):
                function = command.partition("def ")[2].partition('"')[0]
                told = [turn.observation or "" for turn in trajectory.acted[max(place - 2, 0) : place]]
                assert function in trajectory.issue + "\n".join(told)


def test_a_fix_that_is_told_is_written_at_once(tmp_path: Path) -> None:
    found = record(
        SUITE / "told.jsonl", tmp_path, copies=2, seed=0, sandbox_kind="local", limit=2, formats=["openai-chat"]
    )
    assert [Path(row["path"]).parent.name for row in found["files"]] == ["openai-chat"]
    for trajectory in read(tmp_path):
        first = next(turn.action for turn in trajectory.acted if turn.action and "old_str" in turn.action.arguments)
        assert trajectory.acted.index(next(t for t in trajectory.acted if t.action == first)) <= 1
        for name in ("old_str", "new_str"):
            assert f"`{first.arguments[name]}`" in trajectory.issue
        assert first.arguments["path"].removeprefix(f"{TREE}/") in trajectory.issue


def test_a_spot_that_is_told_is_changed_at_once(tmp_path: Path) -> None:
    record(SUITE / "spots.jsonl", tmp_path, copies=1, seed=0, sandbox_kind="local", limit=2)
    for trajectory in read(tmp_path):
        function, path, wrong, right = re.findall(r"`([^`]*)`", trajectory.issue)
        edits = [turn.action.arguments.get("command") for turn in trajectory.acted if turn.action]
        assert f"sed -i '/def {function}(/,/^$/s/{wrong}/{right}/' {path}" in edits[:2]


@pytest.mark.parametrize("kind", list(BACKENDS))
@pytest.mark.parametrize("place", [0, 100, 482])
def test_a_committed_demonstration_replays(place: int, kind: str) -> None:
    trajectory = read(COMMITTED)[place]
    assert trajectory.task.task_id
    task = load_task(SUITE, trajectory.task.task_id)
    with task_sandbox(task, kind) as sandbox:
        for turn in trajectory.acted:
            assert turn.action is not None
            assert execute(turn.action, sandbox, 60) == turn.observation


@pytest.mark.slow
def test_recording_again_gives_what_is_committed(tmp_path: Path) -> None:
    """The first copy of each task; with three it is ten minutes."""
    record(SUITE, tmp_path, copies=1, seed=0, sandbox_kind="runc", workers=os.cpu_count() or 1)
    committed = {name: set(data.splitlines()) for name, data in files(COMMITTED).items()}
    again = {name: data.splitlines() for name, data in files(tmp_path).items()}
    assert sum(map(len, again.values())) == len(load_tasks(SUITE))
    for name, lines in again.items():
        assert set(lines) <= committed[name], name
