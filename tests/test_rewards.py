"""The similarity reward is difflib's, and says why an answer is worth −1."""

from __future__ import annotations

import difflib
import json
import random
from pathlib import Path

import pytest

from swe_srl import actions
from swe_srl.actions import canonical, read_call, render_completion
from swe_srl.errors import FormatError
from swe_srl.rewards import FORMAT_PENALTY, Attempt, Scorer, similarity, similarity_reward
from swe_srl.types import Action

TRAJECTORIES = Path(__file__).resolve().parents[2] / "shared" / "data" / "trajectories"
EXPERT = Action("bash", {"command": "cd /testbed && ls"})


def by_difflib(proposed: str, expert: str) -> float:
    return difflib.SequenceMatcher(None, proposed, expert, autojunk=False).ratio()


def edited(text: str, rng: random.Random) -> str:
    """The text with a few spans left out, replaced or moved."""
    for _ in range(rng.randint(1, 4)):
        i, j = sorted(rng.randint(0, len(text)) for _ in range(2))
        j = min(j, i + 20)
        text = text[:i] + rng.choice(["", text[i:j] * 2, text[i:j][::-1], "é\n"]) + text[j:]
    return text


def assert_equal_to_difflib(pairs: list[tuple[str, str]]) -> None:
    different = [pair for pair in pairs if similarity(*pair) != by_difflib(*pair)]
    assert different == []


ALPHABETS = {
    "few letters, so long runs match by chance": "ab",
    "code": "abcdefghij _=().,\n    ",
    "unicode, some of it outside the basic plane": "aé√日本🐍\u0301\u200d\r\n",
}


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS.keys())
def test_random_texts_score_as_in_difflib(alphabet: str) -> None:
    rng = random.Random(alphabet)
    texts = ["".join(rng.choices(alphabet, k=rng.randint(0, 60))) for _ in range(2500)]
    assert_equal_to_difflib([(text, rng.choice(texts)) for text in texts])


def test_edited_texts_score_as_in_difflib() -> None:
    rng = random.Random(1)
    texts = ["".join(rng.choices(ALPHABETS["code"], k=rng.randint(0, 120))) for _ in range(1500)]
    assert_equal_to_difflib([(edited(text, rng), text) for text in texts])


def test_texts_longer_than_difflibs_junk_threshold_score_without_it() -> None:
    rng = random.Random(2)
    text = "".join(rng.choices("ab \n", k=400))  # over 200 characters each of these is "popular"
    assert_equal_to_difflib([(edited(text, rng), text) for _ in range(50)])
    proposed = edited(text, rng)
    assert similarity(proposed, text) != difflib.SequenceMatcher(None, proposed, text).ratio()


def real_actions() -> list[str]:
    logs = json.loads((TRAJECTORIES / "swe_smith_xml" / "adp_swe-smith_sample_raw.json").read_text())
    texts = []
    for log in logs:
        for message in log["messages"]:
            if message["role"] == "assistant":
                try:
                    texts.append(canonical(read_call(message["content"])[0]))
                except FormatError:
                    continue  # a turn that only talked
    return texts


@pytest.mark.skipif(not TRAJECTORIES.exists(), reason=f"no real logs: {TRAJECTORIES} is absent")
def test_real_actions_score_as_in_difflib() -> None:
    rng = random.Random(3)
    texts = [text[:400] for text in real_actions()]
    assert len(texts) > 100
    others = [(rng.choice(texts), rng.choice(texts)) for _ in range(700)]
    close = [(edited(text, rng), text) for text in rng.choices(texts, k=300)]
    assert_equal_to_difflib(others + close)


def test_empty_texts() -> None:
    assert similarity("", "") == 1.0
    assert similarity("", "ls") == similarity("ls", "") == 0.0


def test_the_proposed_text_comes_first() -> None:
    one, other = "tide", "diet"
    assert by_difflib(one, other) != by_difflib(other, one), "the example must tell the two orders apart"
    assert similarity(one, other) == by_difflib(one, other)
    attempt = Attempt(
        render_completion("", Action("bash", {"command": one})), False, Action("bash", {"command": other})
    )
    assert similarity_reward(attempt).value == by_difflib(f"bash\n{one}", f"bash\n{other}")


# --------------------------------------------------------------------------------------------- scores


def test_the_experts_own_action_is_worth_one_whatever_the_thought() -> None:
    for thought in ("", "I should look around.", "cd /testbed && rm -rf everything"):
        score = similarity_reward(Attempt(render_completion(thought, EXPERT), False, EXPERT))
        assert score.value == 1.0
        assert score.parts == {"similarity": 1.0, "same_tool": 1.0}
        assert score.format_error is None


def test_keys_and_markup_earn_nothing() -> None:
    score = similarity_reward(Attempt(render_completion("", Action("submit")), False, EXPERT))
    assert score.value == by_difflib("submit", "bash\ncd /testbed && ls")
    assert score.parts["same_tool"] == 0.0


CALL = "<function=bash>\n<parameter=command>cd /testbed && ls</parameter>\n</function>"
TWO_PARAMETERS = CALL.replace("</function>", "<parameter=cwd>/</parameter>\n</function>")
MALFORMED = {
    actions.NO_THINK: CALL,
    actions.TEXT_BEFORE: f"<think></think>\nSo:\n{CALL}",
    actions.NO_CALL: "<think>ls</think>",
    actions.SEVERAL_CALLS: f"<think></think>{CALL}\n{CALL}",
    actions.UNKNOWN_TOOL: "<think></think><function=shell>\n</function>",
    actions.MISSING_PARAMETER: "<think></think><function=bash>\n</function>",
    actions.UNKNOWN_PARAMETER: f"<think></think>{TWO_PARAMETERS}",
    actions.TEXT_AFTER: f"<think></think>{CALL}\nDone.",
    actions.TRUNCATED: f"<think></think>\n{CALL}",
}


@pytest.mark.parametrize("reason", actions.REASONS)
def test_each_format_error_is_worth_minus_one(reason: str) -> None:
    score = similarity_reward(Attempt(MALFORMED[reason], reason == actions.TRUNCATED, EXPERT))
    assert (score.value, score.format_error, score.parts) == (FORMAT_PENALTY, reason, {})


def test_two_workers_score_as_none() -> None:
    texts = [
        *MALFORMED.values(),
        *(render_completion("", Action("bash", {"command": "ls" * n})) for n in range(40)),
    ]
    attempts = [Attempt(text, False, EXPERT) for text in texts]
    with Scorer() as inline, Scorer(workers=2) as pooled:
        halves = [pooled.start(attempts[:20]), pooled.start(attempts[20:])]
        assert [score for half in halves for score in half.result()] == inline.start(attempts).result()
