"""RLVR: rewards, one step's gradient, and a training whose attempts run in sandboxes, killed and left alone."""

from __future__ import annotations

import copy
import io
import itertools
import multiprocessing
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from kill_resume import Point, killer
from made import bash, make_qwen2, tiny_config, write_logs
from rich.console import Console
from test_gradient import BOUND, LARGE, SMALL, backward, gap, plain_log_probs

from swe_srl import progress
from swe_srl.data import load_dataset
from swe_srl.episodes import Cost, End, Episode, as_trajectory
from swe_srl.errors import ConfigError, TrainingError
from swe_srl.inspection import run_groups
from swe_srl.runs import read_events, read_rows
from swe_srl.train.ahead import Ahead
from swe_srl.train.arena import Tasks
from swe_srl.train.attempt_reward import credit, score, turns_of
from swe_srl.train.chain import train
from swe_srl.train.checkpoint import Progress
from swe_srl.train.kept import Kept
from swe_srl.train.measure import group_row
from swe_srl.train.objective import reinforced, rewards
from swe_srl.train.take import Draw, take
from swe_srl.train_config import RlvrStage, SrlStage, TrainConfig
from swe_srl.types import (
    Action,
    Completion,
    Group,
    Outcome,
    Provenance,
    Sample,
    Score,
    Task,
    TaskLink,
    Tokens,
    Trajectory,
    Turn,
    Verdict,
    VerdictKind,
)
from swe_srl.waves import Stopped

TASK = Task("t__1", "t", "It is 0.", "", "", ("a", "b", "c", "d"), ("e", "f"), "")


def stage(**changes: Any) -> RlvrStage:
    return RlvrStage(**{"name": "rlvr", "steps": 1, "batch": 1, "group_size": 2} | changes)


# --------------------------------------------------------------------------------------------- rewards


def episode(end: End = "submitted", patch: str | None = "+x", number: int = 0) -> Episode:
    return Episode(TASK.task_id, number, as_trajectory(TASK, number, (), end, patch, "persistent"), (), end)


def says(kind: VerdictKind, *failed: str) -> Verdict:
    resolved = None if kind == "infrastructure" else kind == "resolved"
    return Verdict(TASK.task_id, resolved, failed, kind=kind)


def reward(one: Episode, verdict: Verdict | None, **changes: Any) -> float | None:
    return score(stage(**changes), TASK, one, verdict).value


def test_the_reward_is_the_verdict() -> None:
    assert reward(episode(), says("resolved")) == 1
    assert reward(episode(), says("tests fail", "a")) == 0
    assert reward(episode(), says("regressions", "e")) == 0
    assert reward(episode(), says("does not apply")) == 0
    assert reward(episode(patch=""), None) == 0  # nothing was graded


def test_infrastructure_is_never_zero() -> None:
    assert score(stage(), TASK, episode("infrastructure", None), None) == Score(None)
    assert score(stage(), TASK, episode(), says("infrastructure")) == Score(None)


def test_format_errors_that_end_an_attempt_have_their_own_reward() -> None:
    """Whatever the patch: it is not graded, so that no grading can be lost either."""
    assert reward(episode("format errors"), None) == -1
    assert reward(episode("format errors", ""), None, format_penalty=-0.5) == -0.5
    assert reward(episode("format errors"), says("infrastructure")) == -1
    assert score(stage(), TASK, episode("format errors"), None).parts == {"resolved": 0}


@pytest.mark.parametrize(
    ("refused", "value"),
    [
        ((None, "truncated", "truncated"), 1.0),
        (("no think block", None, "truncated"), 1.0),
        ((None, "no think block", "truncated"), -1.0),
        (("truncated", "no think block"), -1.0),
    ],
)
def test_answers_that_were_all_cut_are_overlong(refused: tuple[str | None, ...], value: float) -> None:
    costs = tuple(Cost(1, 1, 0.0, 0.0, reason) for reason in refused)
    one = replace(episode("format errors"), costs=costs)
    assert reward(one, says("resolved")) == value
    assert reward(one, says("resolved"), overlong="mask") == (None if value == 1 else -1)
    if value == 1:
        assert score(stage(), TASK, one, says("infrastructure")) == Score(None)  # of one whose patch counts


@pytest.mark.parametrize("end", ["max steps", "token budget", "wall time", "context too long"])
def test_overlong_attempts_are_counted_or_left_out(end: End) -> None:
    counted = score(stage(), TASK, episode(end), says("resolved"))
    assert (counted.value, counted.parts) == (1, {"resolved": 1, "overlong": 1})
    assert reward(episode(end, ""), None) == 0
    masked = score(stage(overlong="mask"), TASK, episode(end), says("resolved"))
    assert (masked.value, masked.parts) == (None, {"resolved": 1, "overlong": 1})


@pytest.mark.parametrize(
    ("verdict", "value"),
    [
        (says("resolved"), 1.0),
        (says("tests fail", "a"), 0.75),
        (says("tests fail", "a", "b", "c", "d"), 0.0),
        (says("tests fail", "a", "e"), 0.0),  # one that passed before is lost
        (says("regressions", "e"), 0.0),
        (says("tests fail"), 0.0),  # no results in the log
        (says("tests timed out"), 0.0),
        (says("does not apply"), 0.0),
        (None, 0.0),
    ],
)
def test_partial_credit(verdict: Verdict | None, value: float) -> None:
    scored = score(stage(partial_credit=True), TASK, episode(patch="+x" if verdict else ""), verdict)
    assert (scored.value, scored.parts["partial"]) == (value, value)
    assert scored.parts["resolved"] == float(value == 1)


@pytest.mark.parametrize(("verdict", "value"), [(says("resolved"), 1.0), (says("tests fail", "e"), 0.0)])
def test_partial_credit_where_no_failing_test_is_named(verdict: Verdict, value: float) -> None:
    assert credit(replace(TASK, fail_to_pass=()), verdict) == value


def test_partial_credit_counts_a_test_that_is_named_twice_once() -> None:
    assert credit(replace(TASK, fail_to_pass=("a", "a", "b")), says("tests fail", "a")) == 0.5


def test_an_attempt_without_an_answer_still_has_its_reward() -> None:
    lost = turns_of(episode("infrastructure", None), Score(None), 0)
    none = turns_of(episode("context too long", ""), Score(0.0, {"resolved": 0.0}), 1)
    other = [Sample(Tokens((1,), (2, 3), (0.0, 0.0)), Score(1.0, {"resolved": 1.0}), "x", episode=2)]
    group = Group("t", 0, (*lost, *none, *other))
    assert rewards(group) == [0.0, 1.0]
    assert reinforced([group]).weight_N.tolist() == [0.25, 0.25]  # of two responses, of its two tokens


class Listed:
    """A source of these groups, live where two rewards are there and differ."""

    def __init__(self, found: list[Group]) -> None:
        self.found = found

    def groups(self, update: int, cursor: Any) -> Any:
        yield from self.found

    def is_live(self, group: Group) -> bool:
        return len(set(rewards(group))) > 1


def test_what_is_masked_is_not_lost() -> None:
    tokens = Tokens((1,), (2,), (0.0,))
    masked = Score(None, {"resolved": 0.0, "overlong": 1.0})
    group = Group("t", 0, tuple(Sample(tokens, one, episode=i) for i, one in enumerate((masked, masked, masked))))
    draw = take(Listed([group]), stage(), Progress())
    assert draw.converged
    assert group_row(draw, stage())["reward"] is None
    lost = Group("t", 0, tuple(Sample(tokens, Score(None), episode=i) for i in range(3)))
    with pytest.raises(TrainingError, match="3 of 3 answers could not be scored"):
        take(Listed([lost]), stage(), Progress())


def test_a_policy_that_resolves_nothing_is_told_so() -> None:
    tokens, failed = Tokens((1,), (2,), (0.0,)), Score(0.0, {"resolved": 0.0})
    group = Group("t", 0, tuple(Sample(tokens, failed, episode=i) for i in range(3)))
    assert "no attempt resolved its task" in str(take(Listed([group]), stage(), Progress()).converged)
    lost = Sample(Tokens((), (), ()), Score(None), episode=3)
    one_lost = replace(group, samples=(*group.samples, lost))
    told = take(Listed([one_lost]), stage(max_unscored=0.5), Progress()).converged
    assert "no attempt resolved its task" in str(told)


def test_the_row_counts_episodes_not_turns() -> None:
    tokens = [Tokens((1, n), (2,) * n, (0.0,) * n) for n in range(1, 5)]
    turns = [Sample(one, Score(1.0, {"resolved": 1.0}), "x", episode=0) for one in tokens[:3]]
    group = Group("t", 0, (*turns, Sample(tokens[3], Score(0.0, {"resolved": 0.0}, "no call"), "x", episode=1)))
    row = group_row(Draw((group,), (group,), None), stage())  # type: ignore[arg-type]
    assert row["reward"] == 0.5
    assert row["rlvr/format_error"] == 0.25
    assert row["tokens/prompts"] == 8
    assert row["rlvr/groups_kept_only_by_format"] == 1


# -------------------------------------------------------------------------------------------- gradient


def groups_of_episodes() -> list[Group]:
    """Episodes of one to three turns, whose prompts begin alike; one that was lost; answers of unequal lengths."""
    random = torch.Generator().manual_seed(3)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 97, (n,), generator=random).tolist())

    found = []
    for draw, values in enumerate([(1.0, 0.0, -1.0, None), (0.0, 1.0, 0.0)]):
        system, samples = ids(6), list[Sample]()
        for number, value in enumerate(values):
            for turn in range(number % 3 + 1):
                answer = ids(2 + turn + number)
                tokens = Tokens(system + ids(3 * turn), answer, (-1.0,) * len(answer))
                samples.append(Sample(tokens, Score(value), episode=number))
        found.append(Group(f"task {draw}", draw, tuple(samples)))
    return found


def typed_out(model: Any, found: list[Group], temperature: float) -> torch.Tensor:
    """− mean over episodes of (1 / its tokens) Σ over turns and tokens of ρA, each turn a sequence of its own."""
    episodes = []
    for group in found:
        numbers = sorted({sample.episode for sample in group.samples if sample.score.value is not None})
        turns = {n: [sample for sample in group.samples if sample.episode == n] for n in numbers}
        values = [turns[n][0].score.value for n in numbers]
        mean = sum(values) / len(values)
        std = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        for n, value in zip(numbers, values, strict=True):
            logps = [plain_log_probs(model, s.tokens.prompt_ids, s.tokens.ids, temperature) for s in turns[n]]
            every = torch.cat(logps)
            ratio = (every - every.detach()).exp()
            episodes.append((ratio * (value - mean) / std).sum() / len(every))
    return -torch.stack(episodes).mean()


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("budget", [SMALL, LARGE])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_gradient_of_a_step_over_episodes(
    share: bool, budget: int, temperature: float, record_property: Any
) -> None:
    found, ours = groups_of_episodes(), make_qwen2()
    theirs = copy.deepcopy(ours)
    settings = SrlStage(name="x", steps=1, temperature=temperature, prefix_sharing=share, token_budget=budget)
    loss, _ = backward(ours, reinforced(found), settings, None, None)
    expected = typed_out(theirs, found, temperature)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5, abs=1e-6)
    worst = gap(ours, theirs)
    record_property("relative_gradient_error", worst)
    print(f"T={temperature} share={share} budget={budget}: {worst:.1e}")
    assert worst <= BOUND


# ---------------------------------------------------------------------------------------------- on disk


def test_episodes_on_disk_are_the_episodes(tmp_path: Path) -> None:
    tokens = Tokens((1, 2), (3, 4), (-0.1, -1.2345678))
    made = replace(episode(patch="+caf\udce9\n", number=7), completions=(Completion("x", tokens=tokens),))
    kept = Kept(tmp_path)
    assert kept.take_up(3) == ({}, {})
    kept.add(3, made)
    kept.add(3, replace(made, sample=8, end="infrastructure"))
    path = tmp_path / "episodes" / "update_3.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": "to')
    found, scores = kept.take_up(3)
    assert (set(found), scores) == ({7}, {})  # what was lost is tried again …
    assert found[7].completions == made.completions
    assert found[7].trajectory.outcome == made.trajectory.outcome
    used = {7: Score(1.0, {"resolved": 1.0}), 8: Score(None)}
    kept.used(3, used)
    found, scores = kept.take_up(3)
    assert (set(found), scores) == ({7, 8}, used)  # … until something was learnt without it


# ---------------------------------------------------------------------------------------- a whole training

TESTS = "from mod import value\n\n\ndef test_value():\n    assert value() == 1\n\n\ndef test_other():\n    pass\n"
PATCH = """\
diff --git a/mod.py b/mod.py
--- a/mod.py
+++ b/mod.py
@@ -1,2 +1,2 @@
 def value():
-    return 0
+    return 1
"""


def write_suite(folder: Path) -> Path:
    """Tasks that `sh fix.sh` solves; nothing in them prints a time."""
    rows = []
    for name in ("alpha", "beta", "delta", "omega"):
        package = folder / "packages" / name
        (package / "tests").mkdir(parents=True)
        (package / "mod.py").write_text("def value():\n    return 1\n")
        (package / "fix.sh").write_text("printf 'def value():\\n    return 1\\n' >mod.py\n")
        (package / "tests" / "test_mod.py").write_text(TESTS)
        (package / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = -p no:cacheprovider\n")
        row = {"task_id": f"{name}__1", "repository": name, "issue": f"value() of {name} is 0, not 1."}
        row |= {"test_command": "python -m pytest -rA", "gold_patch": PATCH}
        row |= {"fail_to_pass": ["tests/test_mod.py::test_value"], "pass_to_pass": ["tests/test_mod.py::test_other"]}
        rows.append(orjson.dumps(row) + b"\n")
    (folder / "tasks.jsonl").write_bytes(b"".join(rows))
    return folder


def expert(number: int) -> Trajectory:
    """Every other one mends it; the others look and give up."""
    name = ("alpha", "beta", "delta", "omega")[number % 4]
    command = "sh fix.sh" if number // 4 % 2 else "cat mod.py"
    said = "" if number // 4 % 2 else "def value():\n    return 0\n"
    turns = (Turn("Do.", bash(command), said), Turn("Done.", Action("submit"), None))
    issue = f"value() of {name} is 0, not 1."
    return Trajectory(f"e{number}", issue, turns, Provenance("e", number + 1, "made"), TaskLink(f"{name}__1", name))


def rlvr_config(folder: Path, model: str | None, **changes: Any) -> TrainConfig:
    logs = write_logs(folder / "expert.jsonl", [expert(number) for number in range(8)])
    if not (folder / "suite").exists():
        write_suite(folder / "suite")
    one = {"name": "rlvr", "kind": "rlvr", "steps": 3, "batch": 2, "group_size": 4, "lr": 1e-3, "save_every": 2}
    tables: dict[str, Any] = {
        "data": {"path": str(logs), "validation": ["delta"], "test": ["omega"]},
        "sandbox": {"kind": "local"},
        "tasks": {"source": str(folder / "suite")},
        "rollout": {"max_steps": 3, "format_errors": 1, "workers": 2},
        "train": {"token_budget": 2048, "validate_every": 2},
        "stage": [one | changes.pop("stage", {})],
        "engine": {"max_tokens": 60},
    }
    if model is not None:
        tables["model"] = {"path": model}
    return tiny_config(folder, **tables | changes)


def warmed(folder: Path, **changes: Any) -> str:
    """A network that writes what the experts do, now this, now that."""
    sft = {"name": "warm", "kind": "sft", "steps": 80, "batch": 8, "lr": 1e-2, "warmup": 0.1, "validate_every": 80}
    logs = write_logs(folder / "expert.jsonl", [expert(number) for number in range(8)])
    data = {"path": str(logs), "validation": ["delta"], "test": ["omega"]}
    config = tiny_config(folder, data=data, engine={"max_tokens": 60}, stage=[sft], **changes)
    return str(train(config)["checkpoint"])


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return warmed(tmp_path_factory.mktemp("warm"))


LAG = {"max_lag": 1, "sampler_weight_cap": 2.0, "steps": 4, "save_every": 3, "validate_every": 4}


@pytest.fixture(scope="module")
def lagging(warm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lagging")
    train(rlvr_config(folder, warm, stage=LAG))
    return folder / "run"


@pytest.fixture(scope="module")
def left_alone(warm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left_alone")
    train(rlvr_config(folder, warm, stage={"metric": "resolved"}))
    return folder / "run"


def steps(run: Path) -> list[dict[str, Any]]:
    return [row for row in read_events(run) if row["kind"] == "step"]


def test_a_training_from_attempts(left_alone: Path) -> None:
    folder = left_alone / "stages" / "1-rlvr"
    rows = steps(left_alone)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        print({key: value for key, value in row.items() if key.startswith(("rlvr", "reward", "time"))})
        assert row["rlvr/kept_groups"] == 2
        assert 0 < row["rlvr/resolved"] < 1
        assert row["sampling/sampling_logp_difference/max"] < 1e-4
        assert row["rlvr/infrastructure"] == row["rlvr/flagged"] == 0
        made = read_rows(folder / "rollouts" / f"episodes_{row['step']}.jsonl.zst")
        assert len(made) == row["rlvr/episodes"] == 4 * row["rlvr/seen_groups"]
        assert all(one["flags"] == [] for one in made)
        assert {one["task"]["task_id"] for one in made} <= {"alpha__1", "beta__1"}  # what is held out is not learnt
        assert sum(one["outcome"]["resolved"] for one in made) / len(made) == pytest.approx(row["rlvr/resolved"])
        answers = read_rows(folder / "rollouts" / f"step_{row['step']}.jsonl.zst")
        assert len(answers) == sum(len(one["completions"]) for one in made)
        assert row["rlvr/tasks_always_0"] + row["rlvr/tasks_always_1"] + row["rlvr/tasks_mixed"] <= 2
    found = orjson.loads((folder / "tasks.json").read_bytes())
    assert {name: len(tasks) for name, tasks in found.items()} == {
        name: rows[-1][f"rlvr/tasks_{name}"] for name in ("always_0", "always_1", "mixed")
    }
    assert not list(folder.glob("episodes/*"))  # a state covers them
    validations = [row for row in read_events(left_alone) if row["kind"] == "validation"]
    assert all(0 <= row["resolved"] <= 1 and row["resolved_n"] == 1 for row in validations)
    lineage = orjson.loads((folder / "checkpoints" / "best" / "trained_on.json").read_bytes())
    assert lineage["instances"] == ["alpha__1", "beta__1"]
    assert lineage["stages"] == ["warm", "rlvr"]


def test_inspect_shows_attempts_turn_by_turn(left_alone: Path) -> None:
    found, shown = run_groups(left_alone, 1)
    made = read_rows(left_alone / "stages" / "1-rlvr" / "rollouts" / "episodes_1.jsonl.zst")
    asked = {(row["draw"] * 4 + row["episode"], row["turn"]): row for row in found["rows"]}
    assert len(asked) == len(found["rows"])
    for one in made:
        before = None
        for number, (turn, answer) in enumerate(zip(one["turns"], one["completions"], strict=True), 1):
            row = asked[one["sample"], number]
            assert (row["text"], row["observation"], row["end"]) == (answer["text"], before, one["end"])
            before = turn["observation"]
    written = io.StringIO()
    Console(width=140, file=written).print(shown)
    text = written.getvalue()
    for words in ("attempt", "after it had seen", "(the issue)", "0: submitted"):
        assert words in text


def test_what_is_said_of_other_prompts_and_of_a_validation(
    warm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    prompt = {"system": "brief", "issue_tokens": 50, "observation_tokens": 60, "action_tokens": 60, "window": 1}
    train(rlvr_config(tmp_path, warm, stage={"steps": 1, "metric": "resolved"}, prompt=prompt))
    told = capsys.readouterr().err
    assert "its own were prompt.window=2 prompt.issue_tokens=60\n" in told
    for line in ("validation: answers: 2/2", "validation: attempts: 1/1", "rlvr: 1/1"):
        assert line in told


def test_what_infrastructure_takes_is_left_out(warm: str, tmp_path: Path) -> None:
    """No sandbox can be opened on one of two tasks: its attempts are lost, the other's are learnt from."""
    config = rlvr_config(tmp_path, warm, stage={"steps": 1, "max_draws": 1})
    (tmp_path / "suite" / "packages" / "beta" / "broken").symlink_to("/proc/self/mem")  # an input/output error
    train(config)
    (row,) = steps(tmp_path / "run")
    assert (row["rlvr/infrastructure"], row["rlvr/unscored"], row["rlvr/unscored_groups"]) == (4, 4, 1)
    assert (row["rlvr/seen_groups"], row["rlvr/kept_groups"], row["rlvr/fill"]) == (2, 1, 0.5)
    made = read_rows(tmp_path / "run" / "stages" / "1-rlvr" / "rollouts" / "episodes_1.jsonl.zst")
    lost = [one for one in made if one["task"]["task_id"] == "beta__1"]
    assert [(one["end"], one["reward"], one["attempts"], one["live"]) for one in lost] == [
        ("infrastructure", None, 2, False)
    ] * 4
    tasks = orjson.loads((tmp_path / "run" / "stages" / "1-rlvr" / "tasks.json").read_bytes())
    assert {name for names in tasks.values() for name in names} == {"alpha__1"}  # nobody knows of the other


def test_the_best_checkpoint_is_not_chosen_by_what_was_not_lost(warm: str, tmp_path: Path) -> None:
    """One of two validation attempts has no sandbox: the other says too little of the weights."""
    changes = {"steps": 1, "metric": "resolved", "max_unscored": 0.4}
    config = rlvr_config(
        tmp_path,
        warm,
        stage=changes,
        data={"path": str(tmp_path / "expert.jsonl"), "validation": ["delta", "omega"], "test": []},
    )
    (tmp_path / "suite" / "packages" / "omega" / "broken").symlink_to("/proc/self/mem")
    with pytest.raises(TrainingError, match="1 of 2 attempts at the validation tasks could not be scored"):
        train(config)


POINTS = [
    Point("a group is whole, others are under way", "_group", "rlvr.py", "take", "rlvr", 3),
    Point("grading is waited for", "verdict", "judging.py", "take", "rlvr", 11),
    Point("the update, its rewards noted", "_logits", "head.py", "backward", "rlvr", 3),
    Point("validation's attempts are graded", "verdict", "judging.py", "_greedy", "rlvr", 2),
]


def start(folder: Path, warm: str, point: Point | None, **changes: Any) -> bool:
    """Train in a process of its own; whether it died."""

    def run() -> None:
        sys.stderr = (folder / "log.txt").open("a", buffering=1)
        if point is not None:
            sys.setprofile(killer(point))
        train(rlvr_config(folder, warm, stage=changes or {"metric": "resolved"}))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), (folder / "log.txt").read_text()
    return process.exitcode != 0


def told(run: Path) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key.startswith(("rlvr", "reward"))} for row in steps(run)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    (state,) = run.glob("stages/1-rlvr/trainer_state/*/state.pt")
    found: dict[str, torch.Tensor] = torch.load(state, weights_only=True)["weights"]
    return found


@pytest.mark.parametrize(
    "point",
    [POINTS[0], *(pytest.param(point, marks=pytest.mark.slow) for point in POINTS[1:])],
    ids=lambda point: point.name,
)
def test_a_killed_training_runs_no_episode_twice(left_alone: Path, warm: str, tmp_path: Path, point: Point) -> None:
    assert start(tmp_path, warm, point)
    folder = tmp_path / "run" / "stages" / "1-rlvr"
    before = {}
    for path in folder.glob("episodes/*_*.jsonl"):
        what, number = path.stem.split("_")
        shown = f"episodes_{int(number) + 1}" if what == "update" else path.stem
        lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        before |= {(shown, row["sample"]): row["seconds"] for row in lines if "sample" in row}
    assert before
    assert not start(tmp_path, warm, None)
    after = {}
    for path in (path for word in ("episodes", "validation") for path in folder.glob(f"rollouts/{word}_*")):
        made = read_rows(path)
        assert len({row["sample"] for row in made}) == len(made)
        after |= {(path.name.split(".")[0], row["sample"]): row["seconds"] for row in made}
    reused = before.keys() & after.keys()
    assert reused
    assert point.under != "_greedy" or any(shown.startswith("validation") for shown, _ in reused)
    assert all(before[key] == after[key] for key in reused)
    expected, found = weights(left_alone), weights(tmp_path / "run")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert told(left_alone) == told(tmp_path / "run")


# -------------------------------------------------------------------------------------------------- lag


class Endless(Listed):
    """Groups that teach nothing, as many as are asked for; told of the first."""

    drawn = 0

    def __init__(self) -> None:
        self.began = threading.Event()

    def groups(self, update: int, cursor: Any) -> Any:
        for draw in itertools.count():
            self.drawn = draw + 1
            self.began.set()
            yield Group("t", draw, ())


class Unloaded:
    def load_weights(self, weights: Any) -> None:
        pass


def test_who_leaves_waits_for_no_more_than_the_group_under_way() -> None:
    source = Endless()
    ahead = Ahead(source, stage(max_lag=1, sampler_weight_cap=2.0), Unloaded(), 3, Progress(), {})  # type: ignore[arg-type]
    ahead.publish(0, [])
    with ahead:
        assert source.began.wait(20)
    ahead._thread.join(20)
    assert not ahead._thread.is_alive()
    with pytest.raises(Stopped):
        ahead.take()


def test_batches_that_are_drawn_ahead(lagging: Path, left_alone: Path) -> None:
    """Batch u is of the weights after u − 1 updates: its log-probabilities differ from the trainer's."""
    rows = steps(lagging)
    assert [row["rlvr/lag"] for row in rows] == [0, 1, 1, 1]
    assert all(list(row["rlvr/lag_histogram"].values()) == [8] for row in rows)
    gaps = [row["sampling/sampling_logp_difference/max"] for row in rows]
    print("sampler and trainer differ by", gaps)
    assert gaps[0] < 1e-4
    assert min(gaps[1:]) > 1e-3
    first = "stages/1-rlvr/rollouts/step_1.jsonl.zst"
    assert [row["ids"] for row in read_rows(lagging / first)] == [row["ids"] for row in read_rows(left_alone / first)]


def test_a_killed_training_that_lags_goes_on(lagging: Path, warm: str, tmp_path: Path) -> None:
    """It is killed after a state: the batch to come is of weights that are older than the state's."""
    assert start(tmp_path, warm, Point("the fourth update", "learn", "loop.py", "train_stage", "rlvr", 4), **LAG)
    shutil.rmtree(tmp_path / "run" / "stages" / "1-rlvr" / "episodes")  # it has to be drawn again
    assert not start(tmp_path, warm, None, **LAG)
    assert "going on after step 3" in (tmp_path / "log.txt").read_text()
    last = "stages/1-rlvr/rollouts/step_4.jsonl.zst"
    assert [row["ids"] for row in read_rows(lagging / last)] == [
        row["ids"] for row in read_rows(tmp_path / "run" / last)
    ]
    assert told(lagging) == told(tmp_path / "run")
    # Others shared the calls that sampled them again, and importance weights learn from the last digits.
    expected, found = weights(lagging), weights(tmp_path / "run")
    assert all(torch.allclose(expected[name], found[name], rtol=0, atol=1e-4) for name in expected)


# ---------------------------------------------------------------------------------------------- configs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sandbox": {"kind": "local", "workers": 3}}, "rollout.workers"),
        ({"images": {"prune": True}}, "next epoch"),
        ({"stage": {"kind": "srl"}, "sandbox": None}, "tasks, rollout: of attempts"),
        ({"stage": {"max_lag": 1}}, "set sampler_weight_cap"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rlvr_config(tmp_path, None, **changes)


def test_what_is_named_is_held_out_whatever_is_left_of_its_logs(tmp_path: Path) -> None:
    """Every log of delta fails: with `resolved_only` no step of it is kept, and yet nobody learns from its task."""
    config = rlvr_config(tmp_path, None)
    data = config.data.model_copy(update={"resolved_only": True})
    logs = [replace(expert(n), outcome=Outcome(expert(n).task.repository != "delta")) for n in range(8)]
    write_logs(tmp_path / "expert.jsonl", logs)
    dataset = load_dataset(data)
    assert not len(dataset.splits["validation"])
    found = Tasks.of(config, dataset)
    assert [task.task_id for task in found.train] == ["alpha__1", "beta__1"]
    assert [task.task_id for task in found.validation] == ["delta__1"]
    by_share = config.model_copy(update={"data": data.model_copy(update={"validation": 0.25, "test": 0.25})})
    dataset = load_dataset(by_share.data)
    held_out = {dataset.trajectories[i].task.repository for n in ("test", "validation") for i in dataset.positions[n]}
    assert {task.repository for task in Tasks.of(by_share, dataset).train}.isdisjoint(held_out)


def test_held_out_tasks_are_needed_where_they_choose(tmp_path: Path) -> None:
    config = rlvr_config(tmp_path, None, tasks={"source": str(tmp_path / "suite"), "repositories": ["alpha"]})
    asked = config.model_copy(update={"stage": [config.stage[0].model_copy(update={"metric": "resolved"})]})
    with pytest.raises(ConfigError, match=r"data\.validation: \[tasks\] has none"):
        train(asked)
