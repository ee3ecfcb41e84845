"""`swe-srl evaluate`: steps or whole attempts, as the config's `mode` says."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from swe_srl.agent_config import AgentConfig

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")]
STEPS = "steps"
VERIFIED = "SWE-bench/SWE-bench_Verified"


def evaluate(
    config: Annotated[str | None, typer.Argument(help="A TOML file; none with --predictions or --repro.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Anything that the TOML sets.")
    ] = None,
    predictions: Annotated[Path | None, typer.Option(help="Grade these: all_preds.jsonl, preds.json.")] = None,
    official: Annotated[bool, typer.Option("--official", help="Grade by the official SWE-bench harness.")] = False,
    repro: Annotated[Path | None, typer.Option(help="Do again what this report.json, or run, came from.")] = None,
    json: Json = False,
) -> None:
    """What a policy is worth: whole attempts at tasks, graded by their hidden tests; or its commands on held-out steps.

    mode = "agent", "oracle_edit" or "localize_repair" are whole attempts; "steps" compares with the experts' commands.
    """
    from swe_srl.errors import UserError
    from swe_srl.loading import overridden, read_toml

    changes = list(overrides or [])
    if config is not None and "=" in config and not Path(config).exists():  # no config, but the first override
        changes.insert(0, config)
        config = None
    if repro is not None:
        if config is not None or predictions is not None:
            raise UserError("--repro takes all from its report: leave the config and --predictions out")
        _again(repro, changes, official, json)
        return
    if config is None and predictions is None:
        raise UserError("evaluate what? Give a config, such as configs/eval_bugfix.toml, --predictions or --repro")
    data = overridden({} if config is None else read_toml(config), changes)
    if config is not None and _is_of_steps(data):
        if predictions is not None or official:
            raise UserError(f"{config} is of steps, which are not graded: --predictions and --official are of tasks")
        _steps(data, config, changes, json)
    else:
        _attempts(_agent_config(data, config, predictions, changes), predictions, official, json)


def _is_of_steps(data: dict[str, Any]) -> bool:
    return bool(data.get("mode", STEPS if "data" in data else "agent") == STEPS)


# ------------------------------------------------------------------------------------------ whole attempts


def _agent_config(data: dict[str, Any], path: str | None, predictions: Path | None, changes: list[str]) -> AgentConfig:
    from swe_srl.agent_config import AgentConfig
    from swe_srl.loading import check
    from swe_srl.predictions import read

    if path is None and predictions is not None:
        named = data.get("tasks", {})
        data["tasks"] = ({"ids": list(read(predictions))} if "source" in named else _tasks_of(predictions)) | named
    return check(AgentConfig, data, path or f"with {predictions}", changes)


def _tasks_of(predictions: Path) -> dict[str, Any]:
    """Where nobody says on what: all that is predicted, of our suite if it knows any of it, else of Verified."""
    from swe_srl.loading import nearest
    from swe_srl.predictions import read
    from swe_srl.tasks import BUGFIX
    from swe_srl.tasks.bugfix import load_tasks
    from swe_srl.tasks.variants import base_id

    names = list(read(predictions))
    known = {task.task_id for task in load_tasks(BUGFIX)}
    if any(base_id(name) in known for name in names):
        return {"source": "bugfix", "ids": names}
    print(
        f"swe-srl: no prediction is of the bug-fix suite, {names[0]} neither{nearest(names[0], known)}: they are taken "
        f"for those of {VERIFIED}. tasks.source= names another source",
        file=sys.stderr,
    )
    return {"source": VERIFIED, "ids": names}


def _attempts(
    config: AgentConfig,
    predictions: Path | None,
    official: bool,
    json: bool,
    repeated: dict[str, Any] | None = None,
) -> None:
    from rich.console import Group
    from rich.text import Text

    from swe_srl.cli import quieten, show
    from swe_srl.evaluate.agent import evaluate_agent
    from swe_srl.evaluate.agent_report import infrastructure_grid, tables

    quieten()
    done = evaluate_agent(config, predictions, official=official, repeated=repeated)
    report, found = done.report, dict(done.found)
    if report.trained_on.instances:
        print(f"swe-srl: WARNING: {report.trained_on.words} of the evaluated instances", file=sys.stderr)
    lost = infrastructure_grid(report)
    grids = [*tables(report), *([lost] if lost is not None else [])]
    words = [report.headline, *(report.repeat.words if report.repeat else ()), *report.notes]
    show(found, Group(*(grid.shown() for grid in grids), *map(Text, words), *map(Text, _places(found))), json)
    if found["n_infra"]:
        raise typer.Exit(1)


def _places(found: dict[str, Any]) -> list[str]:
    from swe_srl.rollouts import lost_words

    lines = [f"report       {found['markdown']}  (.json and .png beside it)", f"predictions  {found['predictions']}"]
    if "rollouts" in found:
        lines.append(f"look at them swe-srl inspect {found['rollouts']}")
    lines.append(f"once more    swe-srl evaluate --repro {found['report']}")
    return [*lines, *lost_words(found["n_infra"])]


def _again(path: Path, overrides: list[str], official: bool, json: bool) -> None:
    """The report's config in a folder of its own; the same command again goes on in it."""
    from swe_srl.agent_config import AgentConfig
    from swe_srl.evaluate.agent import read_report
    from swe_srl.loading import check, overridden

    before = read_report(path)
    data = deepcopy({key: value for key, value in before["config"].items() if value is not None})
    data["run"] = f"{before['run_dir'].rstrip('/')}-again"
    data.pop("baseline", None)
    file = before.get("predictions_file")
    config = check(AgentConfig, overridden(data, overrides), str(path), overrides)
    official = official or before.get("grader") == "official"
    _attempts(config, None if file is None else Path(file["path"]), official, json, before)


# ---------------------------------------------------------------------------------------------- steps


def _steps(data: dict[str, Any], path: str, changes: list[str], json: bool) -> None:
    """How near a checkpoint's commands are to the experts' on held-out steps, beside policies that know nothing."""
    from rich.console import Group
    from rich.text import Text

    from swe_srl.cli import quieten, show
    from swe_srl.config import EvaluateConfig
    from swe_srl.evaluate.offline import evaluate_steps
    from swe_srl.evaluate.report import difference_table, kind_table, table
    from swe_srl.loading import check

    settings = check(EvaluateConfig, data, path, changes)
    quieten()
    baseline = settings.evaluate.baseline
    checkpoints = {"baseline": baseline} if baseline else {}
    checkpoints["policy"] = settings.model.origin()
    comparison, found = evaluate_steps(settings, checkpoints, "baseline" if baseline else None)
    known = found["trained_on"]
    seen = f"{known['evaluated_and_trained_on']} of the {known['evaluated']} evaluated instances were trained on"
    if known["evaluated_and_trained_on"]:
        print(f"swe-srl: WARNING: {seen}. Give data.validation and data.test as in training", file=sys.stderr)
    words = [
        *comparison.remarks,
        seen,
        f"report {found['report']}, picture {found['plot']}",
    ]
    show(found, Group(table(comparison), difference_table(comparison), kind_table(comparison), *map(Text, words)), json)
    if found["n_infra"]:
        raise typer.Exit(1)
