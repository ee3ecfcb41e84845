"""`swe-srl evaluate` of whole attempts: tasks → episodes → predictions → verdicts → report.

    evaluation = evaluate_agent(config)

All that is made is kept in the run's folder as it is made: killed, and started again, it goes on. What infrastructure
ended is tried again by the next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from swe_srl import episodes
from swe_srl.agent_config import AgentConfig
from swe_srl.attempts import episodes_path, refuse_what_cannot_act, with_served
from swe_srl.disk import write_aside
from swe_srl.episodes import Episode, episode_id
from swe_srl.errors import ConfigError, DataError
from swe_srl.evaluate.agent_plots import plot
from swe_srl.evaluate.agent_report import Report, markdown
from swe_srl.evaluate.facts import facts_of, sha256
from swe_srl.evaluate.judging import Judging
from swe_srl.evaluate.official import grade_officially, refuse_what_is_not_swe_bench
from swe_srl.evaluate.policy_facts import PolicyFacts, policy_facts
from swe_srl.evaluate.rates import paired
from swe_srl.evaluate.repeat import attempts_of, compared
from swe_srl.evaluate.rows import Row, row, whole_tasks
from swe_srl.evaluate.trained_on import trained_on
from swe_srl.places import placed
from swe_srl.predictions import Prediction
from swe_srl.predictions import read as read_predictions
from swe_srl.predictions import write as write_predictions
from swe_srl.rollouts import attempted
from swe_srl.runs import Run
from swe_srl.tasks import digest, load
from swe_srl.tasks.images import Behind
from swe_srl.types import Outcome, Provenance, Task, TaskLink, Trajectory, Verdict
from swe_srl.words import counted


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report, and where it lies; `found` is the JSON object of the command."""

    report: Report
    folder: Path
    found: Mapping[str, Any]


def evaluate_agent(
    config: AgentConfig,
    predictions: Path | None = None,
    *,
    official: bool = False,
    repeated: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Run the agent on every task, or take predictions; grade, and write the report.

    `official` grades by the official harness in processes of its own. `repeated` is the report that this repeats.
    Raises UserErrors, and PolicyError where an endpoint does not answer at all; what else fails is a row.
    """
    _refuse_two_agents(config, predictions)
    tasks = load(config.tasks, config.limit)
    if official:
        refuse_what_is_not_swe_bench(tasks)
    config = with_served(config) if predictions is None else config
    foreign = None if predictions is None else read_predictions(predictions)
    protocol = config.mode if foreign is None else "predictions"
    before = None if config.baseline is None else _baseline(Path(config.baseline), protocol, tasks)
    notes = [*(_unasked(tasks, foreign) if foreign is not None else _alike(config))]
    policy = policy_facts(config) if foreign is None else PolicyFacts.of_predictions(foreign.values())
    grading = None if official else config.grade
    named = None if predictions is None else f"predictions-{predictions.stem}"
    folder = config.folder(*_also(predictions, official), named=named)
    run = Run(folder, config.model_copy(update={"baseline": None}))
    asked = config.model_copy(update={"prompt": policy.prompt}) if policy.prompt is not None else config
    prune = config.images.prune and not official
    here = tasks if foreign is None or not official else ()
    with placed(config.sandbox, here) as place, run.held():
        # What is missing is a row: who opens it says so.
        place.ahead(tasks, prune=config.images.prune, pull=config.images.pull)
        over = Behind(tasks, config.rollout.samples if foreign is None else 1, place.behind) if prune else None
        with (
            place.pool("grading", max_open=config.grade.workers, pull=config.images.pull) as pool,
            Judging(run.folder, pool, grading, over) as judging,
        ):
            if foreign is None:
                made = attempted(asked, tasks, place, run, judging)
            else:
                run.begin(tasks=digest(tasks), predictions=predictions and sha256(predictions))
                made = _told(tasks, foreign, judging)
            _write_predictions(run.folder, made, policy.who)
            verdicts = judging.finish(made) if not official else _officially(tasks, made, run.folder, config)
        rows = _rows(tasks, made, verdicts)
        if foreign is None:
            words = {(one.instance_id, one.sample): one for one in rows}
            episodes.judge(episodes_path(run), lambda one: _resolved(words[one.key]))
        report = Report(
            protocol=protocol,
            tasks=_named(config),
            who=policy.who,
            samples=1 if foreign is not None else config.rollout.samples,
            rows=rows,
            trained_on=trained_on(policy.lineage, tasks),
            facts=facts_of(asked, tasks, policy, place.kind, predictions, official=official),
            paired=None if before is None else paired(before, whole_tasks(rows)),
            baseline=config.baseline,
            notes=(*notes, *_offline(verdicts)),
        )
        if repeated is not None:
            report = replace(report, repeat=compared(repeated, report.facts, rows))
        return _written(report, run.folder)


# --------------------------------------------------------------------------------------- episodes, patches


def _told(tasks: Sequence[Task], predictions: Mapping[str, Prediction], judging: Judging) -> list[Episode]:
    """Predictions as episodes without turns: a task without one has no patch."""
    made = []
    for task in tasks:
        one = predictions.get(task.task_id)
        trajectory = Trajectory(
            id=episode_id(task.task_id, 0),
            issue=task.issue,
            turns=(),
            provenance=Provenance("predictions", 1, "swe-srl"),
            task=TaskLink(task.task_id, task.repository, task.base_commit, task.image),
            outcome=Outcome(None, "submitted", one.patch if one is not None else None),
        )
        detail = None if one is not None else "the predictions have none for it"
        made.append(Episode(task.task_id, 0, trajectory, (), "submitted", detail))
        judging.take(task, made[-1])
    return made


def _write_predictions(folder: Path, made: Sequence[Episode], who: str) -> None:
    """Sample 0's in the run's folder, as graders want one patch an instance; the others' in folders of their own."""
    for sample in sorted({one.sample for one in made}):
        rows = [
            Prediction(one.task_id, one.trajectory.outcome.patch or "", who)
            for one in made
            if one.sample == sample and one.finished
        ]
        write_predictions(folder if sample == 0 else folder / f"sample_{sample}", rows)


def _officially(
    tasks: Sequence[Task], made: Sequence[Episode], folder: Path, config: AgentConfig
) -> dict[tuple[str, int], Verdict]:
    """The same patches by the official command, a run of it for each sample."""
    found: dict[tuple[str, int], Verdict] = {}
    for sample in sorted({one.sample for one in made}):
        patches = {one.task_id: one.trajectory.outcome.patch or "" for one in made if one.sample == sample}
        graded = grade_officially(tasks, patches, folder / "official" / f"sample_{sample}", config.grade)
        found |= {(task_id, sample): verdict for task_id, verdict in graded.items()}
    return found


def _rows(
    tasks: Sequence[Task], made: Sequence[Episode], verdicts: Mapping[tuple[str, int], Verdict]
) -> tuple[Row, ...]:
    by_id = {task.task_id: task for task in tasks}
    return tuple(row(by_id[one.task_id], one, verdicts.get(one.key)) for one in made)


def _resolved(one: Row) -> bool | None:
    return one.resolved if one.scored else None


# ---------------------------------------------------------------------------------------------- the report


def _written(report: Report, folder: Path) -> Evaluation:
    """report.json, report.md and report.png, and what the command prints."""
    places = {
        "run_dir": str(folder),
        "report": str(folder / "report.json"),
        "markdown": str(folder / "report.md"),
        "plot": str(plot(report, folder / "report.png")),
        "predictions": str(folder / "all_preds.jsonl"),
    }
    if report.protocol != "predictions":
        places["rollouts"] = str(folder / "rollouts")
    write_aside(folder / "report.md", markdown(report, "report.png").encode("utf-8", "replace"))
    whole = orjson.dumps({**report.whole_json(), **places}, option=orjson.OPT_INDENT_2)
    write_aside(folder / "report.json", whole)
    return Evaluation(report, folder, {**report.as_json(), **places})


def _named(config: AgentConfig) -> str:
    """The tasks in a few words."""
    parts = [config.tasks.source]
    parts += [f"split {config.tasks.split}"] if config.tasks.split else []
    parts += [f"{len(config.tasks.ids)} named"] if config.tasks.ids else []
    parts += [", ".join(config.tasks.repositories)] if config.tasks.repositories else []
    return ", ".join([*parts, *([f"the first {config.limit}"] if config.limit else [])])


def _also(predictions: Path | None, official: bool) -> list[str]:
    """What else makes it another run."""
    return [*([] if predictions is None else [sha256(predictions)]), *(["official"] if official else [])]


def _alike(config: AgentConfig) -> Iterable[str]:
    if config.rollout.samples > 1 and config.rollout.temperature == 0 and config.agent == "policy":
        yield (
            f"the {config.rollout.samples} attempts at a task are greedy (rollout.temperature = 0): where the engine "
            "gives the same answer twice they are one attempt, and pass@k is pass@1"
        )


def _refuse_two_agents(config: AgentConfig, predictions: Path | None) -> None:
    if predictions is None:
        refuse_what_cannot_act(config)
    elif config.agent != "policy":
        raise ConfigError(f"agent = {config.agent!r} makes patches and --predictions brings them: leave one out")


def _unasked(tasks: Sequence[Task], predictions: Mapping[str, Prediction]) -> Iterable[str]:
    wanted = {task.task_id for task in tasks}
    if other := [name for name in predictions if name not in wanted]:
        yield f"{counted(len(other), 'prediction')} of instances that were not asked for, such as {other[0]}: left out"
    if not wanted & set(predictions):
        raise DataError(f"none of the {len(predictions)} predictions is of the {len(wanted)} tasks asked for")


def _offline(verdicts: Mapping[tuple[str, int], Verdict]) -> Iterable[str]:
    if count := sum(one.offline for one in verdicts.values()):
        yield (
            f"{count} of {len(verdicts)} patches were graded without a network, where the official harness has one: "
            "evaluation scripts that install from an index may end otherwise there"
        )


# ------------------------------------------------------------------------------------------- the other run


def read_report(path: Path) -> dict[str, Any]:
    """A report.json of ours, or that of a run's folder. Raises DataError."""
    path = path / "report.json" if path.is_dir() else path
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no report can be read ({error})") from None
    if not isinstance(found, dict) or not {"attempts", "config", "protocol"} <= found.keys():
        raise DataError(f"{path}: not a report of whole attempts; expected a report.json of swe-srl evaluate")
    return found


def _baseline(path: Path, protocol: str, tasks: Sequence[Task]) -> dict[str, float]:
    """Task → share of its attempts that the other run resolved; only tasks of which none was lost.

    Raises DataError, before anything is made, where the two cannot be compared.
    """
    found = read_report(path)
    if found["protocol"] != protocol:
        raise DataError(
            f"{path} is of the protocol {found['protocol']!r} and this run of {protocol!r}: rates of two protocols "
            "are never compared"
        )
    before = whole_tasks(attempts_of(found))
    if not before.keys() & {task.task_id for task in tasks}:
        raise DataError(f"{path}: the baseline has scored none of the {len(tasks)} tasks of this run")
    return before
