"""Which turns become steps, and that training and held-out steps share no repository and no issue."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Sequence

import pytest

from swe_srl.errors import DataError
from swe_srl.steps import SPLITS, StepFilter, StepSet, _near_duplicates, kind, split, step_set
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory, Turn

LS = Action("bash", {"command": "ls"})
VIEW = Action("str_replace_editor", {"command": "view", "path": "/a.py"})
BROWSE = Action("browse", {"url": "http://x"})
SUBMIT = Action("submit")


def trajectory(
    name: str,
    actions: Sequence[Action | None] = (LS, SUBMIT),
    *,
    repository: str | None = "owner/one",
    issue: str = "It fails.",
    resolved: bool | None = None,
) -> Trajectory:
    return Trajectory(
        id=name,
        issue=issue,
        turns=tuple(Turn("", action, "ok") for action in actions),
        provenance=Provenance(f"{name}.json", 1, "made"),
        task=TaskLink(repository=repository),
        outcome=Outcome(resolved=resolved),
    )


# ---------------------------------------------------------------------------------------------- filters


def test_a_step_counts_turns_with_an_action_from_one() -> None:
    (one,) = step_set([trajectory("t", [None, LS, None, VIEW])], [0], StepFilter(), Counter())[1:]
    assert (one.id, one.k, one.action) == ("t#2", 2, VIEW)
    assert [turn.action for turn in one.history] == [LS]


def test_what_our_tools_cannot_write_is_history_but_no_target() -> None:
    skipped: Counter[str] = Counter()
    steps = step_set([trajectory("t", [BROWSE, LS])], [0], StepFilter(), skipped)
    assert [step.k for step in steps] == [2]
    assert [turn.action for turn in steps[0].history] == [BROWSE]
    assert skipped == {"no tool of ours: browse": 1}


def test_only_the_tools_that_were_asked_for() -> None:
    skipped: Counter[str] = Counter()
    steps = step_set([trajectory("t", [LS, VIEW, SUBMIT])], [0], StepFilter(tools=("bash",)), skipped)
    assert [step.action for step in steps] == [LS]
    assert skipped == {"tool left out by data.tools": 2}


def test_the_papers_n_minus_one_steps() -> None:
    skipped: Counter[str] = Counter()
    steps = step_set([trajectory("t", [LS, VIEW, SUBMIT])], [0], StepFilter(include_last=False), skipped)
    assert [step.k for step in steps] == [1, 2]
    assert skipped == {"last step left out by data.include_last": 1}


def test_why_an_action_is_no_target() -> None:
    skipped: Counter[str] = Counter()
    actions = [Action("bash", {"command": "echo '</function>'"}), Action("browse", {"url": "x"})]
    assert not len(step_set([trajectory("t", actions)], [0], StepFilter(), skipped))
    assert skipped == {"not expressible in the policy's form: bash": 1, "no tool of ours: browse": 1}


@pytest.mark.parametrize(("resolved", "n"), [(True, 2), (False, 0), (None, 0)])
def test_resolved_only_takes_what_the_log_calls_resolved(resolved: bool | None, n: int) -> None:
    skipped: Counter[str] = Counter()
    steps = step_set([trajectory("t", resolved=resolved)], [0], StepFilter(resolved_only=True), skipped)
    assert len(steps) == n
    assert skipped == ({"not resolved": 2} if n == 0 else {})


def test_a_log_without_its_issue_teaches_nothing() -> None:
    skipped: Counter[str] = Counter()
    assert StepFilter().targets(trajectory("t"), skipped) == [1, 2]
    assert StepFilter().targets(trajectory("t", issue=""), skipped) == []
    assert skipped == {"the log does not hold the issue": 2}


def test_choosing_is_seeded_and_keeps_the_order() -> None:
    steps = step_set([trajectory("t", [LS] * 50)], [0], StepFilter(), Counter())
    chosen = steps.choose(10, seed=1)
    ks = [step.k for step in chosen]
    assert len(set(ks)) == 10
    assert ks == sorted(ks) == [step.k for step in steps.choose(10, seed=1)]
    assert ks != [step.k for step in steps.choose(10, seed=2)]
    assert steps.choose(None, 0) is steps
    assert steps.choose(50, 0) is steps
    assert isinstance(steps[:3], StepSet)


KINDS = {
    "python": Action("bash", {"command": "python run.py"}),
    "grep": Action("bash", {"command": "cd /testbed && /usr/bin/grep -n x a.py"}),
    "bash": Action("bash", {"command": "  "}),
    "edit:view": VIEW,
    "submit": SUBMIT,
}


@pytest.mark.parametrize(("name", "action"), KINDS.items())
def test_the_kind_of_a_step(name: str, action: Action) -> None:
    assert kind(action) == name


# ----------------------------------------------------------------------------------------------- splits


def of_repositories(sizes: Sequence[int]) -> list[Trajectory]:
    return [trajectory(f"{r}-{i}", repository=f"owner/{r}") for r, n in enumerate(sizes) for i in range(n)]


def repositories(trajectories: Sequence[Trajectory], positions: Sequence[int]) -> set[str | None]:
    return {trajectories[i].task.repository for i in positions}


@pytest.mark.parametrize("seed", range(20))
def test_no_repository_is_in_two_splits(seed: int) -> None:
    logs = of_repositories([10, 7, 5, 5, 4, 3, 3, 2, 1, 1, 1])
    found = split(logs, validation=0.2, test=0.2, seed=seed)
    assert sorted(i for name in SPLITS for i in found[name]) == list(range(len(logs)))
    seen = [repositories(logs, found[name]) for name in SPLITS]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 11
    assert all(found.values())


def test_a_share_never_takes_what_is_named() -> None:
    logs = of_repositories([3] * 10)
    for named in range(10):
        found = split(logs, validation=[f"owner/{named}"], test=0.2)
        assert repositories(logs, found["validation"]) == {f"owner/{named}"}
        assert len(found["test"]) == 6


def test_a_repository_named_for_two_splits_is_refused() -> None:
    with pytest.raises(DataError, match="owner/1: named in data"):
        split(of_repositories([1, 1, 1]), validation=["owner/1"], test=["owner/1", "owner/2"])


def test_a_share_is_met_as_nearly_as_whole_repositories_allow() -> None:
    logs = of_repositories([1] * 100)
    found = split(logs, validation=0.1, test=0.25)
    assert {name: len(found[name]) for name in SPLITS} == {"train": 65, "validation": 10, "test": 25}


def test_repositories_by_name() -> None:
    logs = of_repositories([3, 2, 2])
    found = split(logs, validation=["owner/1"], test=["owner/2"])
    assert found == {"train": [0, 1, 2], "validation": [3, 4], "test": [5, 6]}


def test_a_split_depends_on_names_and_seed_alone() -> None:
    logs = of_repositories([4, 3, 3, 2, 2, 1])
    backwards = logs[::-1]
    for seed in range(5):
        one, other = (split(some, validation=0.2, test=0.2, seed=seed) for some in (logs, backwards))
        for name in SPLITS:
            assert {logs[i].id for i in one[name]} == {backwards[i].id for i in other[name]}
    assert len({tuple(split(logs, validation=0.2, test=0.2, seed=seed)["test"]) for seed in range(10)}) > 1


# Issues of logs without a repository; they differ by more than a tenth of their letters.
ISSUES = [" ".join(f"{word}{i}" for word in ("crash", "parser", "value", "table", "index")) * (i + 1) for i in range(8)]


@pytest.mark.parametrize("seed", range(10))
def test_near_duplicates_stay_together_where_the_repository_is_unknown(seed: int) -> None:
    issues = [text for issue in ISSUES for text in (issue, issue.replace("crash0", "Crash0"), f"{issue} ")]
    logs = [trajectory(str(i), repository=None, issue=issue) for i, issue in enumerate(issues)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = split(logs, validation=0.25, test=0.25, seed=seed)
    place = {i: name for name in SPLITS for i in found[name]}
    assert all(place[i] == place[i + 1] == place[i + 2] for i in range(0, len(logs), 3))
    assert len(set(place.values())) == 3


def test_only_issues_that_share_a_rare_word_are_compared() -> None:
    """Each of 2,000 issues and its spoilt copy are one group, in a moment: all with all would be half a minute."""
    letters = random.Random(0)
    words = ["".join(letters.choices("abcdefghij", k=5)) for _ in range(20_000)]
    texts: dict[int, str] = {}
    for number in range(0, 4000, 2):
        text = " ".join(letters.choices(words, k=80))
        texts[number], texts[number + 1] = text, text.replace("a", "A", 3).replace("b", "", 2)
    found = _near_duplicates(texts)
    assert all(found[number] == found[number + 1] == number for number in range(0, 4000, 2))


def test_too_few_repositories_are_split_by_trajectory_with_a_warning() -> None:
    logs = of_repositories([6, 6])
    with pytest.warns(UserWarning, match="may share code"):
        found = split(logs, validation=0.25, test=0.25)
    assert {name: len(found[name]) for name in SPLITS} == {"train": 6, "validation": 3, "test": 3}


def test_named_repositories_are_held_out_however_few_there_are() -> None:
    logs = of_repositories([3, 2])
    assert split(logs, validation=0.0, test=["owner/1"]) == {"train": [0, 1, 2], "validation": [], "test": [3, 4]}


def test_a_repository_that_is_not_there_is_no_silent_empty_split() -> None:
    with pytest.raises(DataError, match=r"test repositories owner/9.*owner/0, owner/1, owner/2"):
        split(of_repositories([1, 1, 1]), validation=0.0, test=["owner/9"])
