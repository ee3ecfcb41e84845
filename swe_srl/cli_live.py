"""The commands that run things in sandboxes, and what they share: `cli.py` puts them beside the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

Kind = Annotated[str | None, typer.Option("--sandbox", help="docker, runc, local; else the first that isolates.")]
Suite = Annotated[Path | None, typer.Option("--tasks", help="Folder of the tasks; else this project's bug-fix suite.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")]


def replay(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A store, or raw logs.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many trajectories.")] = None,
    sandbox: Kind = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Sandboxes side by side; else one a core.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a command may take.")] = 60.0,
    tasks: Suite = None,
    fleet: Annotated[str | None, typer.Option(help='"ray": on the nodes of a Ray cluster (docs/fleet.md).')] = None,
    ray_address: Annotated[str, typer.Option(help="Of the cluster's head, HOST:6379; else this machine's.")] = "auto",
    json: Json = False,
) -> None:
    """Run the expert's commands again, and show where one prints something else than the log says."""
    from functools import partial

    from swe_srl.agent_config import AttemptSandbox
    from swe_srl.cli import show
    from swe_srl.ingest import open_data
    from swe_srl.live import SUITE
    from swe_srl.loading import check
    from swe_srl.places import placed
    from swe_srl.progress import counting
    from swe_srl.replay import replay as run
    from swe_srl.replay import table
    from swe_srl.sandboxes.choice import working
    from swe_srl.tasks.opening import opened

    asked = check(AttemptSandbox, {"fleet": fleet, "ray_address": ray_address}, "replay")
    at_once, trajectories = workers or os.cpu_count() or 1, open_data(data)
    with (
        placed(asked.model_copy(update={"kind": sandbox}), choose=working) as place,
        place.pool("replays", max_open=at_once, pull=True) as pool,
        counting("replay", "trajectories") as told,
    ):
        report = run(
            trajectories,
            place.kind,
            limit=limit,
            workers=at_once,
            timeout_s=timeout,
            suite=tasks or SUITE,
            opened=partial(opened, pool=pool),
            progress=told,
        )
    show(report.as_json(), table(report), json)
    if report.failures:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What belongs to `--live` alone."""

    commands: list[str]
    floors: bool
    full: bool
    timeout_s: float | None
    sandbox: str | None
    tasks: Path | None


def inspect_live(data: Path, trajectory: str | None, step: int | None, asked: Asked, json: bool) -> None:
    """`swe-srl inspect --live`, of data and of a run."""
    from swe_srl import inspection, inspection_live
    from swe_srl.cli import show
    from swe_srl.errors import UserError
    from swe_srl.ingest import open_data
    from swe_srl.live import SUITE, TIMEOUT_S
    from swe_srl.live_view import Settings
    from swe_srl.progress import counting
    from swe_srl.sandboxes.choice import working

    run = inspection.is_run(data)
    if step is None or (not run and trajectory is None):
        raise UserError("--live needs a step: --trajectory ID --step K of data, or --step N of a run")
    if run and (asked.commands or asked.floors):
        raise UserError("--command and --floors are of data: an update's groups are of many steps")
    if not all(command.strip() for command in asked.commands):
        raise UserError("--command is empty: give a bash command")
    settings = Settings(working(asked.sandbox), timeout_s=asked.timeout_s or TIMEOUT_S, suite=asked.tasks or SUITE)
    if run:
        with counting("inspect", "groups") as told:
            found = inspection_live.live_update(data, step, settings, told, asked.full)
        show(*found, json)
        return
    trajectories = open_data(data)
    assert trajectory is not None
    one = inspection.find(trajectories, trajectory)
    floors = asked.floors or not asked.commands
    with counting("inspect", "branches") as told:
        found = inspection_live.live_step(
            trajectories, one, step, asked.commands, settings, floors=floors, full=asked.full, progress=told
        )
    show(*found, json)


def rollout(
    config: Annotated[Path, typer.Argument(help="A TOML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Anything that the TOML sets.")
    ] = None,
    step: Annotated[int | None, typer.Option(min=1, help="Answers at this step of the expert's trajectories.")] = None,
    trajectory: Annotated[str | None, typer.Option(help="Of this one; else of the first held-out ones.")] = None,
    json: Json = False,
) -> None:
    """Let a policy attempt tasks, and keep the trajectories; with --step, its answers at one step of the expert's.

    At a step each answer is executed in a fork of the sandbox that the expert had there.
    """
    if step is not None:
        _rollout_at(config, overrides or [], step, trajectory, json)
        return
    from swe_srl.agent_config import AgentConfig
    from swe_srl.cli import quieten, show
    from swe_srl.errors import UserError
    from swe_srl.loading import check, overridden, read_toml

    if trajectory is not None:
        raise UserError("--trajectory belongs to --step K: whole attempts are at tasks, such as tasks.ids=[...]")
    data = overridden(read_toml(config), overrides or [])
    if "data" in data:
        raise UserError(
            f"{config} is of answers at one step of its data: give --step K. Whole attempts are at tasks: take a "
            "config such as configs/rollout_bugfix.toml"
        )
    settings = check(AgentConfig, data, str(config), overrides or [])
    from swe_srl.rollouts import roll

    if settings.agent == "policy":
        quieten()
    found, table = roll(settings)
    show(found, table, json)
    if found["ends"].get("infrastructure"):
        raise typer.Exit(1)


def _rollout_at(config: Path, overrides: list[str], step: int, trajectory: str | None, json: bool) -> None:
    from swe_srl.cli import quieten, show
    from swe_srl.config import RolloutConfig
    from swe_srl.loading import load
    from swe_srl.progress import counting
    from swe_srl.step_rollout import rollout_at

    settings = load(RolloutConfig, config, overrides)
    quieten()
    with counting("rollout", "steps") as told:
        found = rollout_at(settings, step, trajectory, told)
    show(*found, json)
