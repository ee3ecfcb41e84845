"""The main job from end to end: `make quickstart`.

Demonstrations → floors → SFT warm start → SRL, and SFT for as many CPU seconds as its control; then all of them
on packages that no training step came from. Every step is a command that can be run by hand; this prints which.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from swe_srl.cli import WIDTH, quieten, stage_lines
from swe_srl.config import EvaluateConfig, EvaluateSteps
from swe_srl.errors import SweSrlError
from swe_srl.evaluate.before_after import resolved_before_and_after
from swe_srl.evaluate.grids import Grid
from swe_srl.evaluate.metrics import Interval, Mode, paired
from swe_srl.evaluate.offline import evaluate_steps
from swe_srl.evaluate.plots import learning_curve
from swe_srl.evaluate.report import MODE_NAMES, difference_table, drift, kind_table, table
from swe_srl.ingest import ingest
from swe_srl.loading import load
from swe_srl.runs import read_events
from swe_srl.train.chain import train
from swe_srl.train_config import TrainConfig

CONFIG, CONTROL = "configs/quickstart.toml", "configs/quickstart_more_sft.toml"
COMMAND = ".venv/bin/swe-srl"  # where `make install` puts it
WARM, MORE, SRL = "SFT warm start", "SFT continued", "SFT, then SRL"
TEST_STEPS = 320  # of all the test packages' steps, drawn by a seed: each is answered fifteen times
console = Console(width=max(Console().width, WIDTH) if sys.stdout.isatty() else WIDTH)


@dataclass(frozen=True, slots=True)
class Result:
    """One seed's end on the test packages: SRL minus the warm start, and minus the control, by mode."""

    seed: int
    gains: Mapping[tuple[str, Mode], Interval]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()
    began = time.monotonic()
    quieten()
    try:
        say(f"{COMMAND} ingest trajectories --out {arguments.out / 'data'}")
        report = ingest(["trajectories"], arguments.out / "data")
        console.print(f"{report.trajectories} demonstrations, {report.steps} steps, {report.dropped} turns dropped")
        results = [run_seed(seed, arguments.out) for seed in arguments.seeds]
    except SweSrlError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    say("similarity of SRL on the test packages minus that of others: paired 95% intervals, clustered by task")
    for result in results:
        for other in (WARM, MORE):
            t1, greedy = result.gains[other, "t1"], result.gains[other, "greedy"]
            console.print(f"seed {result.seed}, minus {other:<14}  T = 1 {t1}   greedy {greedy}", highlight=False)
    console.print(f"\nall of it took {(time.monotonic() - began) / 60:.1f} minutes")
    return 0


def run_seed(seed: int, out: Path) -> Result:
    """One seed from an empty network to the table."""
    folder = out / f"seed_{seed}"
    data = out / "data"
    overrides = [f"run={folder / 'srl'}", f"seed={seed}", f"data.path={data}"]
    say(f"{COMMAND} train {CONFIG} {' '.join(overrides)}")
    config = load(TrainConfig, CONFIG, overrides)
    found = train(config)
    for line in stage_lines(found):
        console.print(line, highlight=False)
    warm, srl = (stage["checkpoint"] for stage in found["stages"])
    seconds = cpu_seconds(Path(found["run_dir"]))

    steps = found["stages"][0]["steps"]
    more_steps = math.ceil(seconds["srl"] / (seconds["warm"] / steps))
    overrides = [f"run={folder / 'more_sft'}", f"seed={seed}", f"data.path={data}"]
    overrides += [f"model.path={warm}", f"stage.more.steps={more_steps}"]
    say(f"{COMMAND} train {CONTROL} {' '.join(overrides)}")
    control = train(load(TrainConfig, CONTROL, overrides))
    seconds |= cpu_seconds(Path(control["run_dir"]))

    say(f"on the test packages {config.data.test}, of which no step was trained on")
    wanted = EvaluateConfig(
        model=config.model,
        data=config.data,
        prompt=config.prompt,
        engine=config.engine,
        evaluate=EvaluateSteps(split="test", steps=TEST_STEPS, samples=4, out=str(folder)),
    )
    checkpoints = {WARM: warm, MORE: control["checkpoint"], SRL: srl}
    comparison, report = evaluate_steps(wanted, checkpoints, baseline=WARM)
    learning_curve(read_events(Path(found["run_dir"])), folder / "learning_curve.png")
    console.print(table(comparison), difference_table(comparison), kind_table(comparison))
    gains: dict[tuple[str, Mode], Interval] = {}
    remarks = list(comparison.remarks)
    for mode in comparison.policies[SRL]:
        for other in (WARM, MORE):
            difference = paired(comparison.policies[SRL][mode], comparison.policies[other][mode])
            similarity = difference["similarity"]
            assert similarity is not None
            gains[other, mode] = similarity
            if other == MORE:
                remarks += drift(f"{SRL} ({MODE_NAMES[mode]})", MORE, difference)
    for remark in remarks:
        console.print(f"• {remark}", highlight=False)
    say("the same checkpoints end to end, as agents in sandboxes, on held-out tasks")
    resolved = resolved_before_and_after(checkpoints, config.engine, folder / "resolved")
    console.print(resolved.shown() if isinstance(resolved, Grid) else resolved)
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    console.print(f"• CPU seconds of the updates: {spent}", highlight=False)
    for name, path in [
        ("table", report["report"]),
        ("pictures", f"{report['plot']}, {folder / 'learning_curve.png'}"),
        ("run directory", found["run_dir"]),
        ("checkpoint", srl),
        ("look at it", f"{COMMAND} inspect {found['run_dir']} --step 40"),
    ]:
        console.print(f"{name:<14} {path}", highlight=False, soft_wrap=True)
    return Result(seed, gains)


def cpu_seconds(run: Path) -> dict[str, float]:
    """CPU seconds of a run's updates, sampling included and validation not, by stage."""
    seconds: dict[str, float] = {}
    for event in read_events(run):
        if event["kind"] == "step":
            seconds[event["stage"]] = seconds.get(event["stage"], 0.0) + event["time/cpu"]
    return seconds


def say(words: str) -> None:
    console.print(f"\n[bold]▸ {words}[/bold]", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
