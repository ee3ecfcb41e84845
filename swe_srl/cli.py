"""The commands: thin, and quick to say what they are. Heavy packages are imported where a command needs them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swe_srl import cli_evaluate, cli_live, cli_sandbox

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train software-engineering agents from the logs of experts (SRL, arXiv 2510.25992).",
)

STOPPED = 130  # typer's exit code after Ctrl-C
AFTER_A_STOP = {
    "train": "; the same command goes on from the last saved state",
    "ladder": "; the same command goes on from the last saved state",
    "rollout": "; the same command makes what is missing",
    "evaluate": "; the same command makes what is missing",
    "ingest": "; nothing was written, and what was there is as it was",
    "export": "; nothing was written, and what was there is as it was",
}
WIDTH = 120  # columns where there is no terminal
NARROWEST = 80  # a narrower table would lose digits

Redact = Annotated[bool, typer.Option("--redact", help="Replace home folders, addresses, keys, users' names.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Anything that the TOML sets.")]


@app.command(epilog="Example: swe-srl ingest logs/*.traj --out data/mine")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Log files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder of the store.")],
    redact: Redact = False,
    json: Json = False,
) -> None:
    """Read logs of other agents into one store, and account for every file."""
    from rich.console import Group

    from swe_srl.ingest import ingest as read
    from swe_srl.ingest_report import table
    from swe_srl.progress import bar
    from swe_srl.words import counted

    with bar("ingest", 1000, percent=True) as tick:
        report = read(
            paths, out, lambda done, total, path: tick(999 * done // max(total, 1), path[-40:]), redacted=redact
        )
        tick(1000, "")
    say_of(report.sensitive, redact, "the store")
    headline = f"{report.trajectories} trajectories, {report.steps} steps in {out}"
    if report.empty:
        headline += f"; {report.empty} of {counted(len(report.logs), 'file')} gave none"
    if report.without_issue:
        headline += f"; the logs of {report.without_issue} do not hold the issue: no step of these is trained on"
    show(report.as_json(), Group(table(report), headline), json)


@app.command(epilog="Example: swe-srl export data/mine --format openai --out data/messages")
def export(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A store, or raw logs.")],
    format: Annotated[str, typer.Option(help="mini-swe-agent, openai or atif.")],
    out: Annotated[Path, typer.Option(help="Folder of the files; an earlier export there is replaced.")],
    redact: Redact = False,
    json: Json = False,
) -> None:
    """Write trajectories as files that other projects' viewers and trainers open."""
    from rich.console import Group

    from swe_srl.export import export as write
    from swe_srl.export import table
    from swe_srl.progress import bar

    with bar("export", 1000, percent=True) as tick:
        report = write(
            data, format, out, lambda done, total: tick(1000 * done // total, f"{done} of {total}"), redacted=redact
        )
    say_of(report.sensitive, redact, str(out))
    headline = f"{report.written} of {report.trajectories} trajectories written to {out} as {report.format}"
    show(report.as_json(), Group(*table(report), headline), json)


@app.command(epilog="Example: swe-srl inspect trajectories --trajectory spans__3~0 --step 2")
def inspect(
    data: Annotated[Path, typer.Argument(metavar="DATA|RUN", help="A store, raw logs, or a run directory.")],
    trajectory: Annotated[str | None, typer.Option(help="Show one trajectory.")] = None,
    step: Annotated[int | None, typer.Option(help="Show one step of it; of a run: one update's groups.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Lengths in its tokens: a folder, file or hub name.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for overview.png.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Run the step's commands in a sandbox, each in a fork.")] = False,
    command: Annotated[
        list[str] | None, typer.Option(help="With --live: a bash command of yours, in a fork of its own; repeatable.")
    ] = None,
    floors: Annotated[
        bool, typer.Option("--floors", help="With --live and --command: those of policies that know nothing, too.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="With --live: outputs and patches with all their lines.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="With --live: seconds that a command may take; else 60.")
    ] = None,
    sandbox: cli_live.Kind = None,
    tasks: cli_live.Suite = None,
    json: Json = False,
) -> None:
    """Look at data, at one step as the policy sees it, or at the groups of an update."""
    from swe_srl import inspection
    from swe_srl.errors import UserError
    from swe_srl.ingest import open_data

    run = inspection.is_run(data)
    if not live and (command or sandbox or tasks or floors or full or timeout):
        raise UserError("--command, --sandbox, --tasks, --timeout, --floors and --full belong to --live: give it, too")
    if run and trajectory is not None:
        raise UserError(f"--trajectory is of data, and {data} is a run: give --step N for the groups of an update")
    if (run or trajectory is not None) and (tokenizer is not None or pictures is not None):
        raise UserError("--tokenizer and --pictures are of data as a whole: leave them out here")
    if live:
        asked = cli_live.Asked(command or [], floors, full, timeout, sandbox, tasks)
        cli_live.inspect_live(data, trajectory, step, asked, json)
    elif run:
        show(*inspection.run_groups(data, step), json)
    elif trajectory is not None:
        trajectories = open_data(data)
        found = inspection.find(trajectories, trajectory)
        one = inspection.one_trajectory(found) if step is None else inspection.one_step(trajectories, found, step)
        show(*one, json)
    elif step is not None:
        raise UserError("--step needs --trajectory: a step is one of a trajectory's")
    else:
        _overview(data, tokenizer, pictures, json)


def _overview(data: Path, tokenizer: str | None, pictures: Path | None, json: bool) -> None:
    from swe_srl.ingest import open_data
    from swe_srl.overview import overview
    from swe_srl.overview.lengths import tokens
    from swe_srl.overview.picture import draw, refuse_no_folder
    from swe_srl.overview.table import table

    if pictures is not None:
        refuse_no_folder(pictures)
    if tokenizer is not None:
        quieten()
    found = overview(open_data(data), None if tokenizer is None else tokens(tokenizer))
    if pictures is not None:
        found = found.with_pictures([str(draw(found, pictures))])
    show(found.as_json(), table(found), json)


@app.command(epilog="Example: swe-srl score --expert expert.txt --proposed answer.txt")
def score(
    expert: Annotated[Path, typer.Option(help="File with the expert's call; a think block before it is ignored.")],
    proposed: Annotated[Path, typer.Option(help="File with a completion in the policy's form.")],
    json: Json = False,
) -> None:
    """One reward with its parts.

    A call is <function=bash>, <parameter=command>ls</parameter>, </function>, each on its line; a completion is
    <think>reasoning</think> and then one call.
    """
    from swe_srl.rewards import score_files

    found = score_files(expert, proposed)
    lines = [f"reward {found['reward']:.4f}"]
    lines += [f"  {name} {value:.4f}" for name, value in found["parts"].items()]
    if found["format_error"]:
        lines.append(f"  format error: {found['detail']}")
    show(found, "\n".join(lines), json)


@app.command(epilog="Example: swe-srl record configs/record.toml copies=2 limit=5 out=runs/demos")
def record(
    config: Annotated[Path, typer.Argument(help="A TOML file.")], overrides: Overrides = None, json: Json = False
) -> None:
    """Demonstrations by a scripted expert on tasks, in several log formats."""
    from swe_srl.config import RecordConfig
    from swe_srl.loading import load
    from swe_srl.progress import counting
    from swe_srl.record import record as run

    settings = load(RecordConfig, config, overrides or [])
    with counting("record", "demonstrations") as told:
        found = run(
            settings.tasks,
            settings.out,
            copies=settings.copies,
            seed=settings.seed,
            sandbox_kind=settings.sandbox.kind,
            limit=settings.limit,
            workers=settings.workers,
            formats=settings.formats,
            progress=told,
        )
    show(found, f"{found['trajectories']} demonstrations, {found['steps']} steps, in {settings.out}", json)


@app.command(epilog="Example: swe-srl train configs/srl.toml model.path=my/model data.path=data/mine stage.srl.lr=1e-6")
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file: a chain of stages.")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run a chain of stages; started again, it goes on."""
    from swe_srl.loading import load
    from swe_srl.train_config import TrainConfig

    settings = load(TrainConfig, config, overrides or [])
    from swe_srl.train.chain import train as run

    quieten()
    found = run(settings)
    lines = stage_lines(found)
    lines += [f"run         {found['run_dir']}", f"checkpoint  {found['checkpoint']}"]
    show(found, "\n".join(lines), json)


@app.command(epilog="Example: swe-srl ladder configs/ladder.toml budget_cpu_s=3600 seeds=[0,1,2]")
def ladder(
    config: Annotated[Path, typer.Argument(help="A TOML file: a base, and arms.")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """The arms of the paper side by side, from one base by one budget; started again, it goes on."""
    from rich.console import Group

    from swe_srl.ladder_config import LadderConfig
    from swe_srl.loading import load

    settings = load(LadderConfig, config, overrides or [])
    from swe_srl.ladder import ladder as climb

    quieten()
    report = climb(settings)
    places = [f"{name:<7} {report.found[name]}" for name in ("table", "plot", "report")]
    show(dict(report.found), Group(*(grid.shown() for grid in report.grids), *places), json)


@app.command(epilog="Example: swe-srl doctor configs/paper_swe_7b.toml --gpus 8 --gpu-gib 80")
def doctor(
    config: Annotated[str | None, typer.Argument(help="A config, to see whether it fits.")] = None,
    overrides: Overrides = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Whether it fits so many GPUs, in place of this one.")] = None,
    gpu_gib: Annotated[float | None, typer.Option(min=1, help="Memory of each of them; 80 if not given.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build the network without memory: its shards, and vLLM's names.")
    ] = False,
    json: Json = False,
) -> None:
    """What this machine can do; whether a config fits it, or GPUs that are elsewhere."""
    from swe_srl.doctor import doctor as look
    from swe_srl.doctor_view import table

    quieten()
    found = look(config, overrides or [], gpus, gpu_gib, dry_run=dry_run)
    show(found, table(found), json)


app.command(epilog="Example: swe-srl replay trajectories --limit 10")(cli_live.replay)
app.command(epilog="Example: swe-srl evaluate configs/eval_bugfix.toml agent=gold limit=20")(cli_evaluate.evaluate)
app.command(epilog="Example: swe-srl clean --json")(cli_sandbox.clean)
app.command(epilog="Example: swe-srl rollout configs/rollout_bugfix.toml agent=gold limit=5")(cli_live.rollout)


# ---------------------------------------------------------------------------------------- the two ways out


def stage_lines(found: dict[str, Any]) -> list[str]:
    """How each stage of a training ended, in words."""
    lines = []
    for stage in found["stages"]:
        validation, rate = stage["validation"], ""
        if "resolved" in validation:  # measured where it chooses
            percents = (f"{100 * value:.1f}" for value in (validation["resolved"], *validation["resolved_interval"]))
            rate = "resolved rate of {}% [{}, {}] and a ".format(*percents)
        measured = []
        for own, where in (("", ""), ("own_", " after its own history")):
            if f"{own}similarity" in validation:
                low, high = validation[f"{own}interval"]
                measured.append(f"{validation[f'{own}similarity']:.3f} [{low:.3f}, {high:.3f}]{where}")
        lines.append(
            f"{stage['name']} ({stage['kind']}): {stage['steps']} steps, {stage['ended']}; its best checkpoint is of "
            f"step {validation['step']}, with a validation {rate}similarity of {' and '.join(measured)}"
        )
    return lines


def show(found: dict[str, Any], words: RenderableType, as_json: bool) -> None:
    """One JSON object, or what a person reads; nothing else ever goes to stdout."""
    if as_json:
        import orjson

        sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    from rich.console import Console
    from rich.segment import Segment

    from swe_srl.words import visible

    class Terminal(Console):
        def render(self, *args: Any, **named: Any) -> Iterator[Segment]:
            for part in super().render(*args, **named):
                yield part if part.control else Segment(visible(part.text), part.style)

    width = max(Console().width, NARROWEST) if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
    plain = isinstance(words, str)  # tables escape what they hold
    Terminal(width=width, soft_wrap=plain, emoji=False).print(words, highlight=False, markup=not plain)


def say_of(sensitive: Mapping[str, int], redacted: bool, where: str) -> None:
    """What is personal in what was written, on stderr."""
    from swe_srl.words import about_sensitive

    if words := about_sensitive(sensitive, redacted, where):
        print(f"swe-srl: {words}", file=sys.stderr)


def quieten() -> None:
    """One bar at a time, and it is ours."""
    from logging import ERROR, getLogger

    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    getLogger("huggingface_hub").setLevel(ERROR)  # it tells of each time it tries again


def main() -> None:
    """Run a command. A user's mistake is one paragraph and exit code 2; work that failed is exit code 1."""
    import warnings

    from swe_srl.errors import SweSrlError, UserError

    warnings.formatwarning = lambda message, *_, **__: f"swe-srl: {message}\n"
    try:
        app()
    except UserError as error:
        sys.exit(_say(error, 2))
    except SweSrlError as error:
        sys.exit(_say(error, 1))
    except OSError as error:  # a folder that cannot be written, a full disk: the paths are the user's
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(_say(error, 1))
    except SystemExit as left:
        if left.code == STOPPED:
            nothing_kept = "--step" in sys.argv  # answers at a step
            after = "" if nothing_kept else AFTER_A_STOP.get(" ".join(sys.argv[1:2]), "")
            print(f"\nstopped{after}", file=sys.stderr)
        raise


def _say(error: Exception, code: int) -> int:
    from swe_srl.words import visible

    print(f"swe-srl: {visible(str(error))}", file=sys.stderr)
    return code
