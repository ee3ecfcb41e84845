"""Which groups are drawn, in what order, and what each of them holds."""

from __future__ import annotations

from typing import Any

import pytest
from made import ScriptedEngine, bash, make_tokenizer, make_trajectory

from swe_srl.engines import Request
from swe_srl.policies.engine import EnginePolicy
from swe_srl.prompts import PromptSettings
from swe_srl.render import Renderer
from swe_srl.rewards import Scorer
from swe_srl.steps import StepSet
from swe_srl.train.sources import WAVE, Cursor, Order, SftSource, SrlSource
from swe_srl.train_config import SftStage, SrlStage
from swe_srl.types import Group

TRAJECTORIES = [make_trajectory(number, steps=4) for number in range(3)]
STEPS = StepSet(TRAJECTORIES, [(i, k) for i in range(3) for k in range(1, 5)])


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(make_tokenizer(), PromptSettings(system="brief"))


def srl(renderer: Renderer, answers: Any, workers: int = 0, **changes: Any) -> tuple[SrlSource, ScriptedEngine]:
    engine = ScriptedEngine(answers)
    policy = EnginePolicy(renderer, engine, 200)
    stage = SrlStage(**{"name": "srl", "steps": 1, "batch": 3, "group_size": 2} | changes)
    return SrlSource(STEPS, policy, Scorer("similarity", workers), stage, seed=5), engine


def drawn(source: Any, update: int = 0, cursor: Cursor | None = None) -> list[Group]:
    return list(source.groups(update, cursor or Cursor()))


# --------------------------------------------------------------------------------------------------- order


def test_each_epoch_visits_everything_once() -> None:
    order = Order(12, seed=3)
    epochs = [[order[draw] for draw in range(12 * e, 12 * e + 12)] for e in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [Order(12, seed=3)[draw] for draw in range(36)] == [*epochs[0], *epochs[1], *epochs[2]]
    assert [Order(12, seed=4)[draw] for draw in range(12)] != epochs[0]


# ----------------------------------------------------------------------------------------------------- SFT


def test_sft_groups_are_the_experts_turns(renderer: Renderer) -> None:
    source = SftSource(STEPS, renderer, SftStage(name="sft", steps=1, batch=12), seed=5)
    groups = drawn(source)
    assert sorted(group.key for group in groups) == sorted(step.id for step in STEPS)
    assert [group.draw for group in groups] == list(range(12))
    for group in groups:
        (sample,) = group.samples
        step = next(step for step in STEPS if step.id == group.key)
        assert sample.tokens.prompt_ids == renderer.prompt_ids(step.trajectory.issue, step.history)
        assert sample.tokens.ids == renderer.target_ids(step.expert.thought, step.action)
        assert source.is_live(group)


def test_sft_goes_on_where_the_cursor_is(renderer: Renderer) -> None:
    source = SftSource(STEPS, renderer, SftStage(name="sft", steps=1, batch=5), seed=5)
    keys = [group.key for draw in (0, 5, 10) for group in drawn(source, cursor=Cursor(draw))]
    assert keys == [STEPS[source.order[draw]].id for draw in range(15)]


# ----------------------------------------------------------------------------------------------------- SRL


def answering(renderer: Renderer, good: Any) -> Any:
    """The expert-like answer where `good(request)` says so, text without a call elsewhere."""
    right, wrong = renderer.target_ids("", bash("cat a.py")), (*renderer.encode("I do not know"), renderer.end_id)
    return lambda request: right if good(request) else wrong


def test_srl_groups_are_scored_against_their_own_step(renderer: Renderer) -> None:
    source, _ = srl(renderer, answering(renderer, lambda request: request.seed % 2), batch=12, max_draws=1)
    groups = drawn(source)
    assert len(groups) == 12
    for group in groups:
        step = next(step for step in STEPS if step.id == group.key)
        assert len(group.samples) == 2
        for sample in group.samples:
            if "cat a.py" not in sample.text:
                assert (sample.score.value, sample.score.format_error) == (-1.0, "no think block")
            elif step.k == 1:
                assert sample.score.value == 1.0
            else:
                assert 0 <= sample.score.value < 1
            assert sample.tokens.prompt_ids == renderer.prompt_ids(step.trajectory.issue, step.history)


def test_draws_come_in_order_until_there_are_enough(renderer: Renderer) -> None:
    """All alive: exactly the batch. Half alive: rounds follow, in draw order, until the batch is full."""
    source, engine = srl(renderer, answering(renderer, lambda request: request.seed % 2), min_group_std=0.0)
    groups = drawn(source)
    live = [source.is_live(group) for group in groups]
    assert [group.draw for group in groups] == list(range(len(groups)))
    assert sum(live) >= 3
    assert len(engine.seen) == 2 * len(groups)


def test_the_bound_on_draws(renderer: Renderer) -> None:
    source, engine = srl(renderer, answering(renderer, lambda _: True), max_draws=4)
    assert len(drawn(source)) == 12  # 4 · batch, none of them alive
    assert len(engine.seen) == 24


def test_the_last_share_of_live_groups_sizes_the_first_round(renderer: Renderer) -> None:
    source, engine = srl(renderer, answering(renderer, lambda _: True))
    rounds = source.groups(0, Cursor(0, 0.25))
    next(rounds)
    assert len(engine.seen) == 2 * 12  # batch 3 at a quarter alive


def test_seeds_name_the_sample(renderer: Renderer) -> None:
    """No two samples share a seed; another update of the same draw has others; the same one has the same."""
    good = answering(renderer, lambda _: True)

    def seeds(update: int, first: int) -> list[Request]:
        source, engine = srl(renderer, good)
        drawn(source, update, Cursor(first))
        return engine.seen

    once = seeds(0, 0)
    assert len({request.seed for request in once}) == len(once)
    assert seeds(0, 0) == once
    assert not {r.seed for r in seeds(1, 0)} & {r.seed for r in once}
    assert seeds(0, 3)[: len(once) - 6] == once[6:]  # a draw is itself whatever was drawn before it


def test_waves_and_workers_change_nothing(renderer: Renderer) -> None:
    """More draws than a wave, scored in this process or beside it: the same groups."""
    assert WAVE < 90
    odd = answering(renderer, lambda request: request.seed % 2)
    found = []
    for workers in (0, 1):
        source, _ = srl(renderer, odd, workers, batch=30, max_draws=3, min_group_std=10.0)
        with source.scorer:
            found.append(drawn(source))
    assert len(found[0]) == 90
    assert found[0] == found[1]
