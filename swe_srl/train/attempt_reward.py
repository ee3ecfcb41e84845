"""What a whole attempt at a task is worth, and which samples it gives: the hidden tests' word, or the attempt's end."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from swe_srl.actions import TRUNCATED
from swe_srl.episodes import End, Episode
from swe_srl.evaluate.outcomes import RESOLVED, result
from swe_srl.train_config import RlvrStage
from swe_srl.types import Sample, Score, Task, Tokens, Verdict

OVERLONG: frozenset[End] = frozenset({"max steps", "token budget", "wall time", "context too long"})


def score(stage: RlvrStage, task: Task, episode: Episode, verdict: Verdict | None) -> Score:
    """An episode's reward. Without one it has no parts if it was lost to infrastructure; else it was left out.

    `verdict` is None where there was no patch to grade.
    """
    end = ended_by(episode)
    if end == "format errors":
        return Score(stage.format_penalty, {"resolved": 0.0} | ({"partial": 0.0} if stage.partial_credit else {}))
    word = result(end, episode.trajectory.outcome.patch, verdict)
    if word == "infrastructure":
        return Score(None)
    parts = {"resolved": float(word == RESOLVED)}
    if stage.partial_credit:
        parts["partial"] = credit(task, verdict)
    if end in OVERLONG:
        parts["overlong"] = 1.0
        if stage.overlong == "mask":
            return Score(None, parts)
    return Score(parts.get("partial", parts["resolved"]), parts)


def ended_by(episode: Episode) -> End:
    """How it ended. Refused answers that were all cut at `engine.max_tokens` are over-length, and no format errors."""
    if episode.end != "format errors":
        return episode.end
    last = takewhile(lambda cost: cost.format_error is not None, reversed(episode.costs))
    return "token budget" if {cost.format_error for cost in last} == {TRUNCATED} else "format errors"


def credit(task: Task, verdict: Verdict | None) -> float:
    """The share of FAIL_TO_PASS that pass, if every PASS_TO_PASS still does; 0 where the tests gave no results.

    Where nothing has to pass that failed, all or nothing.
    """
    if verdict is None or verdict.kind not in ("resolved", "tests fail"):
        return 0.0
    failed = set(verdict.failed)
    if not verdict.resolved and (not failed or failed & set(task.pass_to_pass)):
        return 0.0
    wanted = set(task.fail_to_pass)
    return 1 - len(failed & wanted) / len(wanted) if wanted else float(bool(verdict.resolved))


def turns_of(episode: Episode, scored: Score, place: int) -> list[Sample]:
    """Every answered turn as a sample; one without tokens where none was answered, so that its reward is there."""
    answered = zip(episode.completions, episode.costs, strict=True)
    turns = [
        Sample(one.tokens, replace(scored, format_error=cost.format_error), one.text, episode=place)
        for one, cost in answered
        if one.tokens is not None  # an engine's always has them
    ]
    return turns or [Sample(Tokens((), (), ()), scored, episode=place)]
