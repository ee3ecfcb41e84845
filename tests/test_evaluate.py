"""Known values: what floors do, what the measures of known policies are, and how intervals behave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from swe_srl.actions import NO_CALL, NO_THINK, canonical, render_completion
from swe_srl.errors import DataError
from swe_srl.evaluate import floors, plots, report
from swe_srl.evaluate.metrics import (
    MEASURES,
    OTHERS,
    Answer,
    Interval,
    Mode,
    answer,
    bootstrap,
    other_steps,
    paired,
    summarise,
)
from swe_srl.rewards import Attempt, similarity, similarity_reward
from swe_srl.steps import StepFilter, StepSet, step_set
from swe_srl.types import Action, Provenance, Step, TaskLink, Trajectory, Turn


def bash(command: str) -> Action:
    return Action("bash", {"command": command})


def view(path: str) -> Action:
    return Action("str_replace_editor", {"command": "view", "path": path})


def trajectory(name: str, actions: Sequence[Action], task_id: str | None = None) -> Trajectory:
    turns = tuple(Turn("", action, "ok") for action in actions)
    return Trajectory(name, "It fails.", turns, Provenance("f", 1, "made"), TaskLink(task_id=task_id))


def steps_of(*trajectories: Trajectory) -> StepSet:
    return step_set(trajectories, range(len(trajectories)), StepFilter(), Counter())


def many_steps(n_trajectories: int = 12) -> StepSet:
    """Trajectories of 3 to 7 steps, each with its own file."""
    return steps_of(
        *(
            trajectory(
                f"t{t}",
                [
                    bash(f"ls dir{t}"),
                    *(bash(f"sed -n '{k},90p' pkg{t}/mod{t}.py") for k in range(1 + t % 5)),
                    bash("pytest"),
                ],
            )
            for t in range(n_trajectories)
        )
    )


def answered(steps: StepSet, policy: Callable[[Step], Action | str], mode: Mode = "greedy") -> list[Answer]:
    """A policy's answers; a text in place of an action is written as it is."""
    found = []
    for step in steps:
        proposed = policy(step)
        text = proposed if isinstance(proposed, str) else render_completion("", proposed)
        found.append(answer(step, mode, text, similarity_reward(Attempt(text, False, step.action))))
    return found


def oracle(step: Step) -> Action:
    return step.action


def constant(step: Step) -> Action:
    return bash("python reproduce_issue.py")


def value(interval: Interval | None) -> float:
    assert interval is not None
    return interval.value


# ----------------------------------------------------------------------------------------------- floors

EXPERT = trajectory(
    "expert",
    [
        bash("ls"),
        bash("cat src/a.py | head -5"),
        bash("cd src && python -m pytest"),
        view("/testbed/src/b.py"),
        bash("cat <<'EOF' > fix.py\nopen('c.py')\nEOF\npython fix.py"),
        Action("submit"),
    ],
)


def test_floors_on_a_small_trajectory() -> None:
    train = steps_of(trajectory("train", [bash("ls"), bash("pytest -x"), bash("pytest -q"), bash("pytest -x")]))
    answers = floors.floors(train, steps_of(EXPERT), seed=0)
    commands = {
        name: [canonical(one.proposed).removeprefix("bash\n") for one in found if one.proposed]
        for name, found in answers.items()
    }
    assert list(commands) == [
        "best constant",
        "repeat previous",
        "cat F",
        'grep -n "def" F',
        "nl -ba F | sed",
        "view F",
    ]
    assert commands["best constant"] == ["pytest -x"] * 6
    assert (
        commands["repeat previous"]
        == ["ls -la", *(canonical(s.action).removeprefix("bash\n") for s in steps_of(EXPERT))][:6]
    )
    assert commands["cat F"] == [
        "ls -la",  # nothing was done yet
        "ls -la",  # `ls` names no file
        "cat src/a.py",
        "cat src/a.py",  # the previous command names none: the one before it
        "cat /testbed/src/b.py",  # an editor's path
        "cat fix.py",  # not c.py, which is in the text of a file
    ]
    assert commands['grep -n "def" F'][-1] == 'grep -n "def" fix.py'
    assert commands["nl -ba F | sed"][-1] == "nl -ba fix.py | sed -n '1,100p'"
    assert commands["view F"][-1] == "str_replace_editor\nview\nfix.py"


FILES = {
    "grep -n 'self.value' sklearn/base.py": "sklearn/base.py",
    "cp a.py lib/b.cfg": "lib/b.cfg",
    'sed -i "s/a.b/c.d/" ./x.rst && git diff': "./x.rst",
    "ls -R": None,
    "python -m pkg.module": "pkg.module",  # looks like a file; harmless
    "find . -name *.py": None,
    "cat > new.py <<'EOF'\nx = open('in.txt')\nEOF": "new.py",
    "sed -n '1,40p' /testbed/a/b.py | grep \"x.y\"": "/testbed/a/b.py",
    "pytest tests/test_a.py::test_b": "tests/test_a.py",
}


@pytest.mark.parametrize(("command", "file"), FILES.items())
def test_the_file_that_a_command_names(command: str, file: str | None) -> None:
    assert floors.named_file(bash(command)) == file


def test_the_file_that_an_editor_names() -> None:
    assert floors.named_file(view("/testbed/a.py")) == "/testbed/a.py"
    assert floors.named_file(view("/testbed")) is None
    assert floors.named_file(Action("submit")) is None


def test_the_best_constant_is_chosen_by_similarity_among_training_actions_alone() -> None:
    train = steps_of(
        trajectory("a", [*(bash(f"cat pkg/file{i}.py") for i in range(8)), Action("submit")]),
        trajectory("b", [*(bash(f"cat pkg/file{i}.py") for i in range(8, 16)), Action("submit")]),
    )
    assert floors.best_constant(train, seed=0).arguments["command"].startswith("cat pkg/file"), "submit is the mode"
    with pytest.raises(DataError, match="training steps"):
        floors.best_constant(train[:0], seed=0)


def test_a_floor_repeats_only_what_a_policy_could_write() -> None:
    steps = steps_of(trajectory("t", [Action("browse", {"url": "x"}), bash("ls")]))
    assert [step.k for step in steps] == [2]
    (one,) = floors.floors(steps, steps, seed=0)[floors.REPEAT_PREVIOUS]
    assert one.proposed == bash("ls -la")


# -------------------------------------------------------------------------------------------- measures


def test_an_oracle_is_right_everywhere_and_gains_from_context() -> None:
    summary = summarise(answered(many_steps(), oracle))
    for measure in ("similarity", "well_formed_similarity", "reward", "exact", "same_tool"):
        assert summary[measure] == Interval(1.0, 1.0, 1.0)
    assert summary["format_error"] == Interval(0.0, 0.0, 0.0)
    assert value(summary["context_gain"]) > 0.3
    assert summary.format_errors == {}


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_gains_nothing_from_context(seed: int) -> None:
    summary = summarise(answered(many_steps(), constant), seed)
    gain = summary["context_gain"]
    assert gain is not None
    assert gain.value == pytest.approx(0, abs=1e-12)
    assert gain.low < 0 < gain.high
    assert value(summary["similarity"]) > 0.2
    assert value(summary["most_common"]) == 1.0


def test_a_policy_that_reads_only_the_last_file_gains_less_than_an_oracle_and_more_than_a_constant() -> None:
    steps = many_steps()
    cat = floors.policies(steps, 0)["cat F"]
    gains = [value(summarise(answered(steps, policy))["context_gain"]) for policy in (constant, cat, oracle)]
    assert gains == sorted(gains)
    assert gains[0] < 0.01 < gains[1] < gains[2]


def test_other_steps_are_of_other_clusters_and_each_is_used_equally_often() -> None:
    clusters = [f"c{c}" for c, size in enumerate((9, 5, 4, 4, 1, 1, 1)) for _ in range(size)]
    ids = [f"s{i}" for i in range(len(clusters))]
    others = other_steps(ids, clusters, seed=0)
    assert all(clusters[i] != clusters[j] for i, found in enumerate(others) for j in found)
    used = np.bincount([j for found in others for j in found], minlength=len(ids))
    assert set(used) == {len(found) for found in others} == {OTHERS}
    assert others != other_steps(ids, clusters, seed=1)


def test_a_constant_gains_nothing_where_one_cluster_is_most_of_the_steps() -> None:
    clusters = ["big"] * 8 + ["small"] * 2
    others = other_steps([str(i) for i in range(10)], clusters, seed=0)
    assert all(clusters[i] != clusters[j] for i, found in enumerate(others) for j in found)
    assert [sum(bool(found) for found in part) for part in (others[:8], others[8:])] == [2, 2]
    big = trajectory("big", [bash(f"python reproduce_issue{k}.py") for k in range(9)])
    steps = steps_of(big, trajectory("small", [bash("ls"), bash("cat a"), bash("vi b")]))
    assert value(summarise(answered(steps, constant))["context_gain"]) == pytest.approx(0, abs=1e-12)
    assert value(summarise(answered(steps, oracle))["context_gain"]) > 0.3


def test_format_failures_count_zero_in_similarity_and_minus_one_in_reward() -> None:
    steps = steps_of(*(trajectory(f"t{t}", [bash(f"ls {t}"), bash(f"cat {t}")]) for t in range(4)))
    summary = summarise(answered(steps, lambda step: "no block" if step.k == 1 else step.action))
    assert value(summary["similarity"]) == 0.5
    assert value(summary["well_formed_similarity"]) == 1.0
    assert value(summary["reward"]) == 0.0
    assert value(summary["exact"]) == value(summary["same_tool"]) == value(summary["format_error"]) == 0.5
    assert summary.format_errors == {NO_THINK: 0.5}
    assert summary.kinds["ls"].format_error == 1.0
    assert summary.kinds["cat"].similarity == Interval(1.0, 1.0, 1.0)
    assert summary.kinds["cat"].n_steps == 4
    assert summary.most_common == "no block"
    assert value(summary["most_common"]) == 0.5


def test_several_samples_of_a_step_are_averaged_first() -> None:
    steps = steps_of(trajectory("a", [bash("ls")]), trajectory("b", [bash("cat x.py")]))
    first, second = steps
    answers = [
        *answered(steps, oracle, "t1"),
        *(one for one in answered(steps, lambda _: "<think></think>", "t1") * 3 if one.step_id == first.id),
    ]
    summary = summarise(answers)
    assert (summary.n_steps, summary.n_samples, summary.mode) == (2, 5, "t1")
    assert value(summary["similarity"]) == (0.25 + 1) / 2, "not 2 of 5"
    assert value(summary["reward"]) == ((1 - 3) / 4 + 1) / 2
    assert summary.format_errors == {NO_CALL: 0.6}
    assert second.id in summary.steps.step_ids


def test_similarity_is_that_of_the_reward() -> None:
    steps = many_steps()
    answers = answered(steps, constant)
    expected = [similarity("bash\npython reproduce_issue.py", canonical(step.action)) for step in steps]
    assert [one.score.value for one in answers] == expected
    assert value(summarise(answers)["similarity"]) == pytest.approx(np.mean(expected))


def test_no_well_formed_answer() -> None:
    summary = summarise(answered(many_steps(), lambda _: ""))
    assert summary["well_formed_similarity"] is None
    assert summary["similarity"] == Interval(0.0, 0.0, 0.0)
    assert summary["reward"] == Interval(-1.0, -1.0, -1.0)
    assert value(summary["context_gain"]) == 0.0
    json.dumps(report.summary_json(summary), allow_nan=False)


def test_one_cluster_has_intervals_over_its_steps_and_no_context_gain() -> None:
    steps = steps_of(EXPERT)
    summary = summarise(answered(steps, constant))
    assert summary.n_clusters == 1
    interval = summary["similarity"]
    assert interval is not None
    assert interval.low < interval.value < interval.high
    assert summary["context_gain"] is None


def test_trajectories_of_one_task_are_one_cluster() -> None:
    steps = steps_of(*(trajectory(f"t{t}", [bash("ls")], task_id=f"task{t // 2}") for t in range(6)))
    assert summarise(answered(steps, oracle)).n_clusters == 3


def test_what_could_not_be_scored_counts_nowhere() -> None:
    answers = answered(many_steps(), oracle)
    lost = replace(answers[0], score=replace(answers[0].score, value=None))
    summary = summarise([lost, *answers[1:]])
    assert (summary.n_unscored, summary.n_steps) == (1, len(answers) - 1)
    with pytest.raises(DataError, match="1 answers, none of them scored"):
        summarise([lost])


def test_nothing_to_summarise_and_mixed_modes_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to summarise"):
        summarise([])
    with pytest.raises(DataError, match="one mode"):
        summarise([*answered(steps_of(EXPERT), oracle), *answered(steps_of(EXPERT), oracle, "t1")])


# -------------------------------------------------------------------------------------------- intervals


def test_clustered_intervals_are_wider_where_clusters_agree() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=20), 10)
    clustered = bootstrap(values, [str(i // 10) for i in range(200)], seed=0)
    naive = bootstrap(values, [str(i) for i in range(200)], seed=0)
    assert clustered is not None
    assert naive is not None
    assert clustered.value == naive.value == pytest.approx(values.mean())
    # ten equal values are worth one: √10 times as wide
    assert (clustered.high - clustered.low) / (naive.high - naive.low) == pytest.approx(10**0.5, rel=0.15)


def test_an_interval_is_about_two_standard_errors_wide_on_each_side() -> None:
    values = np.random.default_rng(1).normal(size=400)
    interval = bootstrap(values, [str(i) for i in range(400)], seed=0)
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    assert interval == bootstrap(values, [str(i) for i in range(400)], seed=0)
    assert interval != bootstrap(values, [str(i) for i in range(400)], seed=1)


def test_values_that_are_not_there_are_left_out() -> None:
    assert bootstrap(np.array([np.nan, 2.0, 2.0]), ["a", "b", "c"], seed=0) == Interval(2.0, 2.0, 2.0)
    assert bootstrap(np.array([np.nan, np.nan]), ["a", "b"], seed=0) is None


def test_paired_differences_are_sharper_than_their_parts_and_do_not_care_for_order() -> None:
    steps = many_steps()
    cat = floors.policies(steps, 0)["cat F"]
    one = summarise(answered(steps, cat))
    worse = summarise(answered(steps, lambda step: bash(cat(step).arguments["command"] + "x"))[::-1])
    difference, alone = paired(one, worse)["similarity"], one["similarity"]
    assert difference is not None
    assert alone is not None
    assert difference.value == pytest.approx(value(alone) - value(worse["similarity"]))
    assert difference.low > 0
    assert difference.high - difference.low < 0.3 * (alone.high - alone.low)
    same = paired(one, summarise(answered(steps, cat)[::-1]))
    assert all(value(same[measure]) == 0 for measure in MEASURES)


def test_a_paired_difference_needs_the_same_steps() -> None:
    answers = answered(many_steps(), oracle)
    with pytest.raises(DataError, match="2 steps were answered by one of the two"):
        paired(summarise(answers), summarise(answers[2:]))


# --------------------------------------------------------------------------------------------- reports


def drifting(step: Step) -> Action | str:
    """Reads its context, but with half of its answers too far from it to be like anything."""
    return step.action if step.k == 1 else bash("@" * 40)


def test_a_report_says_where_a_policy_drifts_and_what_does_not_beat_the_floors() -> None:
    steps = many_steps(40)
    made = report.compare(
        {
            "always pytest": answered(steps, lambda _: bash("pytest")),
            "cat F": answered(steps, floors.policies(steps, 0)["cat F"]),
        },
        {
            "before": [*answered(steps, drifting), *answered(steps, drifting, "t1")],
            "after": [*answered(steps, lambda _: bash("sed -n '1,90p' pkg/mod.py")), *answered(steps, oracle, "t1")],
        },
        baseline="before",
    )
    assert made.best_floor == "cat F"
    assert list(made.differences) == ["after"]
    drifts = [remark for remark in made.remarks if "drift" in remark]
    assert len(drifts) == 1
    assert drifts[0].startswith("after (greedy): similarity rose by 0.")
    assert "drift towards a constant, not better use of the context." in drifts[0]
    assert any(remark.startswith("before (T=1) is below cat F") for remark in made.remarks)
    assert not any(remark.startswith("after (T=1)") for remark in made.remarks)


def test_mended_formats_do_not_hide_a_drift() -> None:
    rise, fall = Interval(0.1, 0.05, 0.15), Interval(-0.05, -0.08, -0.02)
    difference = {"similarity": rise, "context_gain": rise, "well_formed_context_gain": fall}
    (remark,) = report.drift("srl", "sft", difference)
    assert "of its well-formed answers fell by 0.050 [0.020, 0.080]: drift" in remark
    assert "perhaps" in report.drift("srl", "sft", {**difference, "similarity": Interval(0.1, -0.1, 0.3)})[0]
    assert report.drift("srl", "sft", {**difference, "well_formed_context_gain": rise}) == []
    assert report.drift("srl", "sft", {**difference, "similarity": fall}) == []
    assert report.drift("srl", "sft", {**difference, "context_gain": None, "well_formed_context_gain": None}) == []


@pytest.fixture(scope="module")
def comparison() -> report.Comparison:
    steps = many_steps()
    return report.compare(
        floors.floors(steps, steps, seed=0),
        {
            "sft [warm]": [
                *answered(steps, constant),
                *answered(steps, lambda step: "?" if step.k == 1 else step.action, "t1"),
            ],
            "silent": answered(steps, lambda _: "[/bold] [red]"),
        },
    )


def test_the_table_shows_floors_first_and_names_as_they_are(comparison: report.Comparison) -> None:
    written = StringIO()
    Console(width=140, file=written).print(report.table(comparison), report.difference_table(comparison))
    text = written.getvalue()
    rows = [line.strip() for line in text.splitlines()]
    first = [next(i for i, row in enumerate(rows) if row.startswith(name)) for name in ("best constant", "sft [warm]")]
    assert first == sorted(first)
    assert "minus" in text
    assert "[/bold] [red]" in text
    assert "best floor" in text


def test_json_holds_every_measure_with_its_interval(comparison: report.Comparison) -> None:
    made = json.loads(json.dumps(report.as_json(comparison), allow_nan=False))
    assert made["baseline"] == made["best_floor"]
    summary = made["policies"]["sft [warm]"]["greedy"]
    assert summary["interval"] == summary["measures"]["similarity"]["interval"]
    assert set(summary["measures"]) == set(MEASURES)
    assert made["policies"]["silent"]["greedy"]["measures"]["well_formed_similarity"] is None
    assert made["differences"]["sft [warm]"]["t1"]["similarity"]["interval"][0] > 0


def test_comparisons_that_mean_nothing_are_refused() -> None:
    steps = many_steps()
    known, policy = {"constant": answered(steps, constant)}, {"sft": answered(steps, oracle)}
    with pytest.raises(DataError, match="needs floors"):
        report.compare({}, policy)
    with pytest.raises(DataError, match="no policy or floor is called 'stf': there are constant, sft"):
        report.compare(known, policy, baseline="stf")
    with pytest.raises(DataError, match="name of a floor"):
        report.compare(known, {"constant": policy["sft"]})
    with pytest.raises(DataError, match="without an answer"):
        report.compare(known, {"sft": []})
    with pytest.raises(DataError, match="same steps"):
        report.compare(known, {"sft": policy["sft"][1:]})


PNG = b"\x89PNG"


def test_pictures(comparison: report.Comparison, tmp_path: Path) -> None:
    assert plots.plot(comparison, tmp_path / "comparison.png").read_bytes().startswith(PNG)
    rows: list[dict[str, object]] = [
        {"kind": "start"},
        *({"kind": "step", "stage": "sft", "step": i, "loss": 1 / i} for i in range(1, 5)),
        {"kind": "validation", "stage": "sft", "step": 4, "similarity": 0.3, "interval": [0.2, 0.4]},
        *(
            {"kind": "step", "stage": "srl", "step": i, "loss": 0.0, "reward": 0.1 * i, "srl/format_error": 0.1}
            for i in range(1, 5)
        ),
        {"kind": "validation", "stage": "srl", "step": 4, "similarity": 0.4},
    ]
    assert plots.learning_curve(rows, tmp_path / "curve.png").read_bytes().startswith(PNG)
    with pytest.raises(DataError, match="nothing to draw"):
        plots.learning_curve(rows[:1], tmp_path / "none.png")
