"""Offline evaluation: checkpoints answer the same held-out steps, greedily and at T = 1, beside the floors."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from swe_srl.config import EvaluateConfig, LiveSandbox
from swe_srl.data import load_dataset, require
from swe_srl.disk import write_aside
from swe_srl.errors import SandboxError
from swe_srl.evaluate.floors import floors
from swe_srl.evaluate.metrics import Answer, Mode
from swe_srl.evaluate.plots import plot
from swe_srl.evaluate.report import Comparison, as_json, compare
from swe_srl.lineage import read_lineage
from swe_srl.live_view import working
from swe_srl.policies import seed_of
from swe_srl.policies.engine import open_policy
from swe_srl.progress import bar
from swe_srl.rewards import Scorer
from swe_srl.runs import write_rows
from swe_srl.steps import StepSet
from swe_srl.tasks.variants import instance_of
from swe_srl.train.own import Walking, walkable
from swe_srl.types import Went

CHUNK = 32  # steps between two ticks of the bar


def evaluate_steps(
    config: EvaluateConfig, checkpoints: Mapping[str, str], baseline: str | None = None
) -> tuple[Comparison, dict[str, Any]]:
    """Compare named checkpoints (name → folder) on the split that `config.evaluate` names.

    Returns the comparison, and the JSON object of `swe-srl evaluate` for the last of them. Every answer is
    kept in `answers.jsonl.zst`. Raises DataError and ConfigError.
    """
    wanted = config.evaluate
    folder = Path(wanted.out or "runs/evaluate")
    folder.mkdir(parents=True, exist_ok=True)  # first, so that nothing is computed for a place that cannot be written
    dataset = load_dataset(config.data)
    train = require(dataset, "train", config.data.path)
    steps = require(dataset, wanted.split, config.data.path)
    walking = _walking(config) if wanted.walks else None
    if walking is None:
        steps = steps.choose(wanted.steps, seed_of("evaluate"))
    else:
        steps = walkable(steps, walking.sandbox, config.data.path, wanted.split)
        steps = steps.choose_whole(wanted.steps, seed_of("evaluate"))
    known = floors(train, steps, config.seed)
    found: dict[str, list[Answer]] = {}
    went: dict[str, Counter[Went]] = {}
    for name, path in checkpoints.items():
        found[name], went[name] = _answers(config, name, path, steps, walking)
        gc.collect()  # one model at a time
    comparison = compare(known, found, baseline=baseline, seed=config.seed)

    write_rows(folder / "answers.jsonl.zst", _rows(found))
    plot(comparison, folder / "report.png")
    name, path = list(checkpoints.items())[-1]
    carried = read_lineage(path)
    instances = {instance_of(step.trajectory) for step in steps}
    asked: Mode = "own" if wanted.history == "own" else "greedy"
    summary = comparison.policies[name][asked]
    similarity = summary["similarity"]
    assert similarity is not None
    reasons = Counter(one.score.format_error for one in found[name] if one.mode == asked and one.score.format_error)
    result = {
        "n": len(steps),
        "n_scored": summary.n_steps,
        "n_infra": len(steps) - summary.n_steps,
        "resolved": None,  # a measure of whole episodes, and these are single steps
        "resolved_rate": None,
        "similarity": similarity.value,
        "interval": [similarity.low, similarity.high],
        **({"own_history": _own_json(comparison, went)} if walking else {}),
        "failures": dict(reasons),
        "trained_on": {
            "repositories": list(carried.repositories),
            "instances": len(carried.instances),
            "evaluated": len(instances),
            "evaluated_and_trained_on": len(instances & set(carried.instances)),
        },
        "report": str(folder / "report.json"),
        "plot": str(folder / "report.png"),
    }
    full = {**result, "config": config.model_dump(), "comparison": as_json(comparison)}
    write_aside(folder / "report.json", orjson.dumps(full, option=orjson.OPT_INDENT_2))
    return comparison, result


def _walking(config: EvaluateConfig) -> Walking:
    """Where policies walk. Raises ConfigError."""
    return Walking(working(config.sandbox or LiveSandbox(), 'history = "own"'), config.evaluate.own_threshold)


def _answers(
    config: EvaluateConfig, name: str, path: str, steps: StepSet, walking: Walking | None
) -> tuple[list[Answer], Counter[Went]]:
    """A checkpoint's answers in every mode that is asked for; and how its walks went on. Raises SandboxError."""
    from swe_srl.train.validate import answers, own_answers

    policy = open_policy(path, config.model, config.prompt, config.engine)
    samples, history = config.evaluate.samples, config.evaluate.history
    found: list[Answer] = []
    went = Counter[Went]()
    with Scorer(config.reward.kind, config.reward.workers) as scorer:
        if walking is not None:
            found, went = own_answers(policy, scorer, steps, walking, config.seed)
            if went["lost"]:  # whole measures are paired by step: one that lacks some is compared with nothing
                raise SandboxError(f"{name}: {went['lost']} of {len(steps)} steps had no sandbox, tried twice")
        with bar(f"evaluate {name}", len(steps)) as tick:
            for first in range(0, len(steps), CHUNK):
                part = steps[first : first + CHUNK]
                if history != "own":
                    found += answers(policy, scorer, part, "greedy", 1, config.seed)
                if samples:
                    found += answers(policy, scorer, part, "t1", samples, config.seed)
                tick(min(first + CHUNK, len(steps)), "")
    policy.engine.close()
    return found, went


def _own_json(comparison: Comparison, went: Mapping[str, Counter[Went]]) -> dict[str, Any]:
    """By policy: similarity after what it had really done, and how often it went on how."""
    found = {}
    for name, counts in went.items():
        similarity = comparison.policies[name]["own"]["similarity"]
        assert similarity is not None
        value = {"similarity": similarity.value, "interval": [similarity.low, similarity.high]}
        found[name] = {**value, "put_back": counts["put back"] / counts.total(), "went": dict(counts)}
    return found


def _rows(found: Mapping[str, list[Answer]]) -> list[dict[str, Any]]:
    return [
        {
            "policy": name,
            "step_id": one.step_id,
            "mode": one.mode,
            "kind": one.kind,
            "text": one.text,
            "reward": one.score.value,
            "format_error": one.score.format_error,
        }
        for name, answers in found.items()
        for one in answers
    ]
