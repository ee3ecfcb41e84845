"""Semi-online SRL: the policy walks an expert's trajectory by its own commands, in real sandboxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import ScriptedEngine, bash, make_tokenizer, make_trajectory, tiny_config, write_logs
from test_cli import refused, swe_srl

from swe_srl.actions import canonical
from swe_srl.cli import stage_lines
from swe_srl.config import EvaluateConfig
from swe_srl.errors import DataError
from swe_srl.evaluate.offline import evaluate_steps
from swe_srl.ingest import open_data
from swe_srl.live_view import Settings
from swe_srl.policies.engine import EnginePolicy
from swe_srl.prompts import PromptSettings
from swe_srl.render import Renderer
from swe_srl.replay_rules import equal
from swe_srl.rewards import Scorer, similarity
from swe_srl.runs import read_events, read_rows
from swe_srl.steps import StepSet
from swe_srl.train.chain import train
from swe_srl.train.own import Asked, Walk, Walking, walkable, walked
from swe_srl.train.own_source import OwnSource, PathOrder
from swe_srl.train.sources import Cursor
from swe_srl.train.validate import own_answers
from swe_srl.train_config import SrlStage, TrainConfig
from swe_srl.types import Action, Group, Step, TaskLink, Trajectory, Turn

ROOT = Path(__file__).parents[1]
LOCAL = Walking(Settings("local", workers=2, timeout_s=20), 0.8)
SUBMIT = Action("submit")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(make_tokenizer(), PromptSettings(system="brief", window=None))


def expert(*actions: Action, name: str = "made", **changes: Any) -> Trajectory:
    """An expert's log at a task that can be opened; what its commands printed is not what they print."""
    turns = tuple(Turn("", action, f"logged {k}") for k, action in enumerate(actions, 1))
    return replace(make_trajectory(0), id=name, turns=turns, task=TaskLink("spans__1", "spans"), **changes)


class Answering(ScriptedEngine):
    """The expert's action at each step, or what `instead` has for k: seeds tell which step is asked."""

    def __init__(self, renderer: Renderer, instead: Mapping[int, Action | str] | None = None) -> None:
        super().__init__(self.answer)
        self.renderer, self.instead = renderer, instead or {}
        self.steps: dict[int, Step] = {}
        self.histories: dict[str, str] = {}

    def answer(self, request: Any) -> tuple[int, ...]:
        step = self.steps[request.seed]
        self.histories[step.id] = self.renderer.decode(request.prompt_ids)
        wanted = self.instead.get(step.k, step.action)
        if isinstance(wanted, str):
            return (*self.renderer.encode(wanted), self.renderer.end_id)
        return self.renderer.target_ids("", wanted)

    def walk(self, trajectory: Trajectory, ks: Sequence[int] | None = None) -> Walk:
        seeds = {}
        for k in ks or range(1, len(trajectory.acted) + 1):
            seeds[k] = (len(self.steps),)
            self.steps[len(self.steps)] = Step(trajectory, k)
        return Walk(trajectory, seeds)


def walk(engine: Answering, *trajectories: Trajectory, walking: Walking = LOCAL) -> list[list[Asked]]:
    walks = [engine.walk(one) for one in trajectories]
    return list(walked(walks, EnginePolicy(engine.renderer, engine, 500), Scorer(), 0.0, walking))


def ways(found: Sequence[Asked]) -> list[tuple[int, str]]:
    return [(one.step.k, one.went) for one in found]


# -------------------------------------------------------------------------------------------------- the walk


def test_the_expert_itself_has_the_expert_s_history(renderer: Renderer) -> None:
    """Of real demonstrations: nothing is put back, and what is in the prompts is what the logs say."""
    log = open_data(ROOT / "trajectories" / "openai-chat" / "spans.jsonl")[0]
    engine = Answering(renderer)
    (found,) = walk(engine, log)
    assert ways(found) == [(k, "own") for k in range(1, len(log.acted) + 1)]
    assert [one.scores[0].value for one in found] == [1.0] * len(found)
    last = Step(log, len(log.acted))
    assert equal(engine.histories[last.id], renderer.decode(renderer.prompt_ids(log.issue, last.history)))


def test_a_near_command_is_gone_on_from_and_all_else_is_put_back(renderer: Renderer) -> None:
    log = expert(bash("echo a > note.txt"), bash("cat note.txt tests"), bash("ls note.txt"), bash("pwd"), SUBMIT)
    near = bash("cat note.txt  tests")
    assert similarity(canonical(near), canonical(bash("cat note.txt tests"))) > 0.9
    instead = {2: near, 3: bash("touch mine.txt; rm note.txt"), 4: "no call at all"}
    engine = Answering(renderer, instead)
    (found,) = walk(engine, log)
    assert ways(found) == [(1, "own"), (2, "own"), (3, "put back"), (4, "put back"), (5, "own")]
    assert found[3].scores[0].value == -1.0
    last = engine.histories["made#5"]
    assert "cat note.txt  tests" in last  # its own words
    assert "tests: Is a directory" in last  # and what they really printed
    assert "logged" not in last
    assert "mine.txt" not in last  # what is not near is never run
    assert "ls note.txt" in last
    assert "/testbed" in last


def test_who_is_a_step_ahead_where_the_expert_only_looked_goes_on_from_there(renderer: Renderer) -> None:
    log = expert(bash("ls"), bash("cat pytest.ini"), bash("echo a > note.txt"), SUBMIT)
    engine = Answering(renderer, {1: bash("cat pytest.ini")})
    (found,) = walk(engine, log)
    assert ways(found) == [(1, "ahead"), (2, "done"), (3, "own"), (4, "own")]
    assert [one.scores[0].value == 1.0 for one in found] == [False, True, True, True]
    assert "made#2" not in engine.histories
    assert "<parameter=command>ls<" not in engine.histories["made#3"]
    assert "[pytest]" in engine.histories["made#3"]


@pytest.mark.parametrize("first", ["echo a > note.txt", "cd tests", "export A=1", "f() { ls; }", "set -f"])
def test_what_changes_files_or_the_shell_is_not_skipped(first: str, renderer: Renderer) -> None:
    log = expert(bash(first), bash("cat pytest.ini"), bash("pwd"), SUBMIT)
    engine = Answering(renderer, {1: bash("cat pytest.ini")})
    (found,) = walk(engine, log)
    assert ways(found)[:2] == [(1, "put back"), (2, "own")]
    assert first.split()[0] in engine.histories["made#2"]


def test_the_last_question_is_never_skipped(renderer: Renderer) -> None:
    (found,) = walk(Answering(renderer, {1: SUBMIT}), expert(bash("ls"), SUBMIT))
    assert ways(found) == [(1, "put back"), (2, "own")]


def test_steps_that_are_not_asked_are_the_expert_s(renderer: Renderer) -> None:
    log = expert(bash("echo a > note.txt"), bash("cat note.txt"), bash("pwd"))
    engine = Answering(renderer)
    policy = EnginePolicy(renderer, engine, 500)
    ((one,),) = walked([engine.walk(log, [3])], policy, Scorer(), 0.0, LOCAL)
    assert ways([one]) == [(3, "own")]
    assert "cat note.txt" in engine.histories["made#3"]


def test_what_a_command_leaves_decides_and_not_its_text_alone(renderer: Renderer) -> None:
    """A wrong edit is nearer by its text than the same command in other words."""
    write = bash("printf 'alpha\\nbeta\\n' > notes/long_name_of_a_file.txt")
    log = expert(bash("mkdir notes"), write, bash("cat notes/long_name_of_a_file.txt"), SUBMIT)
    command = write.arguments["command"]
    wrong, same = bash(command.replace("beta", "bets")), bash(f"cd /testbed && {command}")
    scores = [similarity(canonical(one), canonical(write)) for one in (wrong, same)]
    assert scores[0] > scores[1] > 0.8
    assert ways(walk(Answering(renderer, {2: wrong}), log)[0])[1] == (2, "put back")
    engine = Answering(renderer, {2: same})
    assert ways(walk(engine, log)[0])[1] == (2, "own")
    assert "cd /testbed" in engine.histories["made#3"]


def test_a_path_that_is_none(renderer: Renderer) -> None:
    """It ends as a step that was, or was not, gone on from: by no exception."""
    view = Action("str_replace_editor", {"command": "view", "path": "/testbed/" + "a" * 60})
    odd = replace(view, arguments={**view.arguments, "path": view.arguments["path"] + "\0"})
    (found,) = walk(Answering(renderer, {1: odd}), expert(view, SUBMIT))
    assert ways(found)[1] == (2, "own")


# ------------------------------------------------------------------------------------------ lost sandboxes


def test_a_lost_sandbox_is_made_again_from_the_walk_s_own_commands(renderer: Renderer, tmp_path: Path) -> None:
    once = f"[ -e {tmp_path}/lost ] || {{ touch {tmp_path}/lost; rm -rf /testbed; }}"
    log = expert(bash("echo a > note.txt"), bash(once), bash("cat note.txt"), SUBMIT)
    engine = Answering(renderer)
    (found,) = walk(engine, log)
    assert {went for _, went in ways(found)} == {"own"}
    assert "cat note.txt" in engine.histories["made#4"]
    assert "No such file" not in engine.histories["made#4"]


def test_a_walk_that_stays_lost_is_asked_on_and_counts_nowhere(renderer: Renderer) -> None:
    log = expert(bash("rm -rf /testbed"), bash("ls"), bash("pwd"), SUBMIT)
    other = expert(bash("ls"), SUBMIT, name="other")
    engine = Answering(renderer)
    found, beside = walk(engine, log, other)
    assert ways(found) == [(1, "own"), (2, "own"), (3, "lost"), (4, "lost")]
    assert [one.scores[0].value for one in found] == [1.0, 1.0, None, None]
    assert found[-1].why
    assert "logged 2" in engine.histories["made#3"]  # in the log's context: there is no other
    assert ways(beside) == [(1, "own"), (2, "own")]


def test_logs_whose_tasks_nobody_can_open(capsys: pytest.CaptureFixture[str]) -> None:
    good, strange = expert(bash("ls"), SUBMIT), make_trajectory(1, steps=2)
    foreign = expert(Action("browser"), SUBMIT, name="foreign")
    every = StepSet([good, strange, foreign], [(i, k) for i in range(3) for k in (1, 2)])
    kept = walkable(every, Settings("local"), "logs.jsonl", "training")
    assert kept.references == [(0, 1), (0, 2)]
    said = capsys.readouterr().err
    assert "2 training trajectories cannot be walked" in said
    assert "browser" in said
    with pytest.raises(DataError, match=r'history = "own", but no training trajectory of logs.jsonl'):
        walkable(StepSet([strange], [(0, 1)]), Settings("local"), "logs.jsonl", "training")


# ------------------------------------------------------------------------------------------------ groups

LOGS = [expert(bash("ls"), bash("cat pytest.ini"), bash(f"echo {n}"), SUBMIT, name=f"log{n}") for n in range(3)]
STEPS = StepSet(LOGS, [(i, k) for i in range(3) for k in range(1, 5)])


def source(renderer: Renderer, **changes: Any) -> tuple[OwnSource, ScriptedEngine]:
    """Answers `ls` or the like: never near but at the first step; rewards differ within each group."""
    answers = [renderer.target_ids("", bash(command)) for command in ("ls", "ls -la tests")]
    engine = ScriptedEngine(lambda request: answers[request.seed % 2])
    stage = SrlStage(**{"name": "srl", "steps": 1, "batch": 5, "group_size": 3, "history": "own"} | changes)
    return OwnSource(STEPS, EnginePolicy(renderer, engine, 500), Scorer(), stage, 5, LOCAL), engine


def test_an_epoch_is_every_trajectory_once_its_steps_in_order() -> None:
    order = PathOrder(STEPS, seed=3)
    for epoch in range(3):
        steps = [STEPS[order[draw]] for draw in range(12 * epoch, 12 * epoch + 12)]
        assert sorted(step.id for step in steps) == sorted(step.id for step in STEPS)
        assert [step.k for step in steps] == [1, 2, 3, 4] * 3
        assert [len({step.trajectory.id for step in steps[i : i + 4]}) for i in (0, 4, 8)] == [1, 1, 1]
    firsts = [tuple(order[draw] for draw in range(12 * e, 12 * e + 12, 4)) for e in range(6)]
    assert len(set(firsts)) > 1


def test_groups_come_in_draw_order_and_seeds_name_the_sample(renderer: Renderer) -> None:
    own, engine = source(renderer, max_draws=1, min_group_std=10.0)
    groups = list(own.groups(0, Cursor()))
    assert [group.draw for group in groups] == [0, 1, 2, 3, 4]
    assert [group.key for group in groups] == [own.step(draw).id for draw in range(5)]
    assert all(len(group.samples) == 3 for group in groups)
    assert len({request.seed for request in engine.seen}) == 15
    assert all(group.went in ("own", "put back") for group in groups)


def test_a_batch_that_begins_within_a_trajectory_walks_it_from_its_beginning(renderer: Renderer) -> None:
    """With one answer at the steps that are used up; and the same weights and seeds give the same groups."""

    def drawn(first: int, size: int) -> tuple[list[Group], int]:
        own, engine = source(renderer, batch=size, max_draws=1, min_group_std=10.0)
        return list(own.groups(7, Cursor(first))), len(engine.seen)

    whole, asked = drawn(0, 8)
    assert asked == 24
    rest, asked = drawn(6, 2)
    assert asked == 2 + 2 * 3
    assert rest == whole[6:]


def test_a_step_that_was_done_has_no_group(renderer: Renderer) -> None:
    """Its draw is used up: the cursor goes by the draws' numbers, not by how many groups there were."""
    cat = renderer.target_ids("", bash("cat pytest.ini"))
    own, engine = source(renderer, batch=4, max_draws=1, min_group_std=10.0)
    engine.answers = lambda _: cat
    groups = list(own.groups(0, Cursor()))
    assert [(group.draw, group.went) for group in groups] == [(0, "ahead"), (2, "put back"), (3, "put back")]


# --------------------------------------------------------------------------------- training and evaluation


def test_whole_trajectories_are_chosen() -> None:
    chosen = STEPS.choose_whole(9, 1)
    assert len(chosen) == 8
    assert chosen.references == sorted(chosen.references)
    assert len(STEPS.choose_whole(1, 1)) == 4
    assert STEPS.choose_whole(None, 1).references == STEPS.references


def test_own_answers_are_of_every_step(renderer: Renderer) -> None:
    engine = ScriptedEngine(lambda _: renderer.target_ids("", bash("cat pytest.ini")))
    answers, went = own_answers(EnginePolicy(renderer, engine, 500), Scorer(), STEPS, LOCAL, 0)
    assert [one.step_id for one in answers] == [step.id for step in STEPS]
    assert {one.mode for one in answers} == {"own"}
    assert went == {"ahead": 3, "done": 3, "put back": 6}
    assert [one.score.value == 1.0 for one in answers] == [False, True, False, False] * 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warm start, then two updates on the policy's own history; both kinds of validation."""
    folder = tmp_path_factory.mktemp("own")
    made = [make_trajectory(number) for number in range(6)]
    tasks = [replace(one.task, task_id=f"spans__{number}") for number, one in enumerate(made, 1)]
    write_logs(folder / "logs.jsonl", [replace(one, task=task) for one, task in zip(made, tasks, strict=True)])
    config = tiny_config(folder).model_dump()
    warm, srl = config["stage"]
    srl |= {"steps": 2, "history": "own", "own_threshold": 0.8, "metric": "own_similarity"}
    config |= {"stage": [warm, srl], "sandbox": {"kind": "local"}, "validation": {"steps": 4, "history": "both"}}
    train(TrainConfig.model_validate(config))
    return folder / "run"


def test_a_stage_on_its_own_history(run: Path) -> None:
    events = [event for event in read_events(run) if event["stage"] == "srl"]
    checked = [event for event in events if event["kind"] == "validation"]
    for event in checked:
        assert event["n"] == event["own_n"] == 4
        assert 0 <= event["own_put_back"] <= 1
        assert event["own_interval"][0] <= event["own_similarity"] <= event["own_interval"][1]
        assert event["own_lost"] == 0
    steps = [event for event in events if event["kind"] == "step"]
    assert len(steps) == 2
    assert all(event["own/own"] + event["own/ahead"] + event["own/put_back"] == pytest.approx(1) for event in steps)
    rows = read_rows(run / "stages" / "2-srl" / "rollouts" / "step_1.jsonl.zst")
    assert all(("went" in row) == (row["sample"] == 0) == ("prompt_ids" in row) for row in rows)
    shown = swe_srl("inspect", run, "--step", "1")
    assert "went on by" in shown.stdout


def test_evaluation_on_own_history(run: Path, tmp_path: Path) -> None:
    best = run / "stages" / "2-srl" / "checkpoints" / "best"
    data = {"path": str(run.parent / "logs.jsonl"), "validation": ["delta/delta"], "test": ["omega/omega"]}
    found = {}
    for history in ("both", "own", "expert"):
        wanted = {"history": history, "samples": 0, "out": str(tmp_path / history)}
        given: dict[str, Any] = {"model": {"path": str(best)}, "data": data, "evaluate": wanted}
        given |= {"engine": {"max_tokens": 90}} | ({} if history == "expert" else {"sandbox": {"kind": "local"}})
        _, found[history] = evaluate_steps(EvaluateConfig.model_validate(given), {"policy": str(best)})
    both = found["both"]["own_history"]["policy"]
    assert both == found["own"]["own_history"]["policy"]
    assert found["own"]["similarity"] == both["similarity"]
    assert found["both"]["similarity"] == found["expert"]["similarity"]
    assert sum(both["went"].values()) == found["own"]["n"] == 4
    assert "own_history" not in found["expert"]


def test_a_stage_s_end_in_words() -> None:
    found = {"name": "srl", "kind": "srl", "steps": 2, "ended": "all steps done"}
    log, own = {"similarity": 0.5, "interval": [0.4, 0.6]}, {"own_similarity": 0.3, "own_interval": [0.2, 0.4]}
    said = [
        stage_lines({"stages": [{**found, "validation": {"step": 2, **numbers}}]})[0].partition("similarity of ")[2]
        for numbers in (log, own, log | own)
    ]
    assert said[0] == "0.500 [0.400, 0.600]"
    assert said[1] == "0.300 [0.200, 0.400] after its own history"
    assert said[2] == f"{said[0]} and {said[1]}"
    resolved = {"resolved": 0.12, "resolved_interval": [0.05, 0.256]}
    (line,) = stage_lines({"stages": [{**found, "validation": {"step": 2, **resolved, **log}}]})
    assert "step 2, with a validation resolved rate of 12.0% [5.0, 25.6] and a similarity of 0.500 [" in line


def test_asked_wrongly(tmp_path: Path) -> None:
    given = ("train", "configs/quickstart.toml", f"run={tmp_path / 'run'}")
    assert "execute" in refused(swe_srl(*given, "stage.srl.history=own", "stage.srl.execute=true"))
    assert "own_threshold" in refused(swe_srl(*given, "stage.srl.own_threshold=0.5"))
    assert "own_threshold" in refused(swe_srl(*given, "validation.own_threshold=0.5"))
    assert "does not measure" in refused(swe_srl(*given, "stage.srl.metric=own_similarity"))
    assert "does not measure" in refused(swe_srl(*given, "validation.history=own"))
    evaluated = ("evaluate", "configs/eval_steps.toml", f"model.path={tmp_path}")
    assert "evaluate.history" in refused(swe_srl(*evaluated, "sandbox.kind=local"))


def test_own_history_without_a_task_is_told_before_training(tmp_path: Path) -> None:
    config = tiny_config(tmp_path).model_dump() | {"sandbox": {"kind": "local"}}
    config["stage"][1]["history"] = "own"
    with pytest.raises(DataError, match='history = "own"'):
        train(TrainConfig.model_validate(config))
    assert not (tmp_path / "run").exists()
