"""The commands that run things in sandboxes, and what they share: `cli.py` puts them beside the others."""

from __future__ import annotations

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
    json: Json = False,
) -> None:
    """Run the expert's commands again, and show where one prints something else than the log says."""
    from swe_srl.cli import show
    from swe_srl.ingest import open_data
    from swe_srl.live import SUITE
    from swe_srl.progress import bar
    from swe_srl.replay import replay as run
    from swe_srl.replay import table
    from swe_srl.sandboxes.choice import chosen

    kind, trajectories = chosen(sandbox), open_data(data)
    with bar("replay", 1000) as tick:
        report = run(
            trajectories,
            kind,
            limit=limit,
            workers=workers,
            timeout_s=timeout,
            suite=tasks or SUITE,
            progress=lambda done, total: tick(1000 * done // total, f"{done} of {total} trajectories"),
        )
    show(report.as_json(), table(report), json)
    if report.failures:
        raise typer.Exit(1)


def inspect_live(
    data: Path,
    trajectory: str | None,
    step: int | None,
    commands: list[str],
    sandbox: str | None,
    tasks: Path | None,
    json: bool,
) -> None:
    """`swe-srl inspect --live`, of data and of a run."""
    from swe_srl import inspection, inspection_live
    from swe_srl.cli import show
    from swe_srl.errors import UserError
    from swe_srl.ingest import open_data
    from swe_srl.live import SUITE
    from swe_srl.live_view import Settings
    from swe_srl.progress import bar
    from swe_srl.sandboxes.choice import chosen

    run = inspection.is_run(data)
    if step is None or (not run and trajectory is None):
        raise UserError("--live needs a step: --trajectory ID --step K of data, or --step N of a run")
    if run and commands:
        raise UserError("--command is of data: an update's groups are of many steps")
    settings = Settings(chosen(sandbox), suite=tasks or SUITE)
    if run:
        with bar("inspect", 1000) as tick:
            found = inspection_live.live_update(
                data, step, settings, lambda n, of: tick(1000 * n // of, f"{n} of {of}")
            )
        show(*found, json)
        return
    trajectories = open_data(data)
    assert trajectory is not None
    one = inspection.find(trajectories, trajectory)
    show(*inspection_live.live_step(trajectories, one, step, commands, settings), json)
