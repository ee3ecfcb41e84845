"""Dynamic sampling: what forms a batch, what is drawn again, and when a stage has converged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from made import ScriptedEngine, bash, make_group, make_tokenizer, make_trajectory

from swe_srl.engines import Request
from swe_srl.errors import TrainingError
from swe_srl.policies.engine import EnginePolicy
from swe_srl.prompts import PromptSettings
from swe_srl.render import Renderer
from swe_srl.rewards import Scorer
from swe_srl.steps import StepSet
from swe_srl.train.checkpoint import Progress
from swe_srl.train.measure import Meter, group_row
from swe_srl.train.objective import reinforced, reward_std, supervised
from swe_srl.train.pieces import pack
from swe_srl.train.sources import Cursor, SftSource, SrlSource, teaches
from swe_srl.train.take import Draw, refuse_unscored, take
from swe_srl.train_config import SftStage, SrlStage
from swe_srl.types import Group, Sample, Score, Tokens

Values = Sequence[float | None]
LIVE, DEAD = (0.2, 0.8), (0.5, 0.5)


@dataclass
class Listed:
    """A source of groups with given rewards; draw d has the d-th of them, again and again."""

    rewards: Sequence[Values]
    bound: int = 1000
    epoch: int = 1

    def groups(self, update: int, cursor: Cursor) -> Iterator[Group]:
        for draw in range(cursor.draw, cursor.draw + self.bound):
            values = self.rewards[draw % len(self.rewards)]
            yield make_group(f"step {draw}", draw, (1, 2), [(3, 4)] * len(values), values)

    def is_live(self, group: Group) -> bool:
        return reward_std(group) > 1e-6


def srl(**changes: Any) -> SrlStage:
    return SrlStage(**{"name": "srl", "steps": 1, "batch": 4, "group_size": 2} | changes)


def test_the_first_live_groups_in_draw_order() -> None:
    progress = Progress()
    drawn = take(Listed([LIVE, DEAD, DEAD, LIVE, LIVE, DEAD, LIVE, LIVE]), srl(), progress)
    assert [group.draw for group in drawn.live] == [0, 3, 4, 6]
    assert [group.draw for group in drawn.seen] == list(range(7))
    assert drawn.cursor == Cursor(7, 4 / 7)
    assert drawn.converged is None
    assert progress == Progress()  # the cursor moves when the update is done


def test_batches_follow_one_another_without_gap_or_repeat() -> None:
    source, progress, seen = Listed([LIVE, DEAD, LIVE]), Progress(), []
    for _ in range(5):
        drawn = take(source, srl(), progress)
        progress.cursor = drawn.cursor
        seen += [group.draw for group in drawn.seen]
    assert seen == list(range(len(seen)))


def test_with_a_quarter_the_step_goes_on() -> None:
    drawn = take(Listed([LIVE, *[DEAD] * 99], bound=40), srl(), Progress())
    assert len(drawn.live) == 1
    assert len(drawn.seen) == 40
    assert drawn.converged is None
    assert group_row(drawn, srl())["srl/fill"] == 0.25


@pytest.mark.parametrize(("batch", "live"), [(4, 0), (8, 1), (9, 2), (1, 0)])
def test_below_a_quarter_the_stage_has_converged(batch: int, live: int) -> None:
    drawn = take(Listed([*[LIVE] * live, *[DEAD] * 99], bound=80), srl(batch=batch), Progress())
    assert drawn.converged is not None
    assert f"{live} of 80 groups" in drawn.converged


def test_an_answer_without_a_reward_is_left_out_of_its_group() -> None:
    drawn = take(Listed([(0.2, None, 0.8), (None, 0.3), (None, None)]), srl(batch=2), Progress())
    assert [group.draw for group in drawn.live] == [0, 3]  # one reward is no group
    batch = reinforced(drawn.live)
    assert [len(strands) for strands in batch.strands] == [2, 2]
    assert batch.advantage_N.tolist() == pytest.approx([-1, -1, 1, 1] * 2)
    row = group_row(drawn, srl(batch=2))
    assert row["srl/unscored"] == 5
    assert row["srl/unscored_groups"] == 2
    assert row["srl/seen_groups"] == 4


def test_too_many_without_a_reward_stop_the_run() -> None:
    source = Listed([(None, None, 0.1, 0.9)])
    assert take(source, srl(max_unscored=0.5), Progress()).converged is None  # at the bound, not over it
    with pytest.raises(TrainingError, match="8 of 16 answers could not be scored, over the bound of 49%"):
        take(source, srl(max_unscored=0.49), Progress())


def test_where_all_answers_are_lost_no_bound_allows_it() -> None:
    refuse_unscored(3, 4, 1.0)
    refuse_unscored(0, 0, 0.0)
    with pytest.raises(TrainingError, match="4 of 4 walks could not be scored"):
        refuse_unscored(4, 4, 1.0, "walks")


def test_without_dynamic_sampling_the_first_groups_are_the_batch() -> None:
    """A dead group takes its place in the batch and its weight, and teaches nothing."""
    settings = srl(dynamic_sampling=False)
    alike = (0.1, 0.1, 0.1)  # the std of these is not quite 0
    found = [make_group(str(n), n, (1, 2), [(3, 4)] * len(v), v) for n, v in enumerate([alike, (None, 0.3), LIVE])]
    assert [teaches(group, settings) for group in found] == [True, False, True]  # one reward is no group
    batch = reinforced([found[0], found[2]])
    assert batch.advantage_N.tolist() == [0.0] * 6 + [-1.0, -1.0, 1.0, 1.0]
    assert batch.weight_N.tolist() == pytest.approx([1 / 10] * 10)
    row = group_row(Draw(tuple(found), (found[0], found[2]), Cursor(3)), settings)
    assert row["frac_reward_zero_std"] == pytest.approx(2 / 3)
    assert row["srl/groups_kept_only_by_format"] == 0


def test_groups_that_only_the_format_kept() -> None:
    def group(draw: int, *scores: tuple[float, str | None]) -> Group:
        samples = (Sample(Tokens((1,), (2,), (0.0,)), Score(value, {}, error)) for value, error in scores)
        return Group(str(draw), draw, tuple(samples))

    bad = (-1.0, "no call")
    groups = [
        group(0, bad, (0.5, None), (0.5, None)),  # well-formed answers are alike
        group(1, bad, (0.5, None), (0.6, None)),
        group(2, bad, bad, (0.9, None)),  # a single one
        group(3, (0.1, None), (0.9, None)),
    ]
    row = group_row(Draw(tuple(groups), tuple(groups), Cursor(4)), srl())
    assert row["srl/groups_kept_only_by_format"] == 2
    assert row["srl/format_error"] == pytest.approx(4 / 11)


# ------------------------------------------------------------------- the whole way, from an engine's ids


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(make_tokenizer(), PromptSettings(system="brief"))


def test_surplus_draws_come_again(renderer: Renderer) -> None:
    """An engine whose answers to step `made-0` never differ: that step is replaced, and what was drawn beyond
    the batch begins the next one."""
    trajectories = [make_trajectory(number) for number in range(3)]
    steps = StepSet(trajectories, [(i, k) for i in range(3) for k in range(1, 5)])
    same = {renderer.prompt_ids(step.trajectory.issue, step.history) for step in steps[:4]}
    right, wrong = renderer.target_ids("", bash("cat b.py")), renderer.target_ids("", bash("ls"))

    asked: Counter[tuple[int, ...]] = Counter()

    def answers(request: Request) -> tuple[int, ...]:
        asked[request.prompt_ids] += 1
        return right if request.prompt_ids in same or asked[request.prompt_ids] % 2 else wrong

    engine = ScriptedEngine(answers)
    settings = srl(batch=4)
    source = SrlSource(steps, EnginePolicy(renderer, engine, 300), Scorer(), settings, seed=0)
    progress, seen, live = Progress(cursor=Cursor(0, 0.3)), [], []
    for step in range(4):
        progress.step = step
        drawn = take(source, settings, progress)
        assert drawn.converged is None
        assert len(drawn.live) == 4
        progress.cursor = drawn.cursor
        seen += drawn.seen
        live += drawn.live
    assert [group.draw for group in seen] == list(range(len(seen)))  # none twice, none left out
    assert [group.key for group in seen] == [steps[source.order[draw]].id for draw in range(len(seen))]
    assert [group.draw for group in live] == [g.draw for g in seen if not g.key.startswith("made-0#")]
    assert len(engine.seen) > 2 * len(seen)  # there was a surplus, and it was discarded


def test_an_sft_batch_is_whole(renderer: Renderer) -> None:
    steps = StepSet([make_trajectory(0)], [(0, k) for k in range(1, 5)])
    settings = SftStage(name="sft", steps=1, batch=6)
    drawn = take(SftSource(steps, renderer, settings, seed=0), settings, Progress(cursor=Cursor(3)))
    assert [group.draw for group in drawn.live] == list(range(3, 9))
    assert drawn.cursor == Cursor(9, 1.0)


def test_the_loss_of_several_updates_is_their_mean() -> None:
    batch = supervised([make_group("a", 0, [1], [[2, 3]], [None])])
    (piece,) = pack(batch.strands, 64, share=False)
    meter = Meter()
    for value in (1.0, 3.0):
        logp_N = torch.full((2,), -value)
        meter.tokens(batch, piece, logp_N, torch.zeros(2), -logp_N, None, None)
        meter.update(1e-3, 1.0)
    meter.groups(Draw((), (), Cursor()), SftStage(name="sft", steps=1))
    assert meter.row()["loss"] == 2.0
