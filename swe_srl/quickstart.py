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
from typing import Any

from rich.console import Console

from swe_srl.cli import quieten
from swe_srl.config import EvaluateConfig, EvaluateSteps, TrainConfig, load
from swe_srl.errors import SweSrlError
from swe_srl.evaluate.metrics import Interval, paired
from swe_srl.evaluate.offline import evaluate_steps
from swe_srl.evaluate.plots import learning_curve
from swe_srl.evaluate.report import Comparison, difference_table, kind_table, table
from swe_srl.ingest import ingest
from swe_srl.runs import read_events
from swe_srl.train.chain import train

CONFIG, CONTROL = "configs/quickstart.toml", "configs/quickstart_more_sft.toml"
WARM, MORE, SRL = "SFT warm start", "SFT continued", "SFT, then SRL"
console = Console(width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True, slots=True)
class Result:
    """One seed's end: SRL minus the warm start, on the test packages."""

    seed: int
    t1: Interval
    greedy: Interval
    cpu_s: Mapping[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()
    began = time.monotonic()
    quieten()
    try:
        say(f"swe-srl ingest trajectories --out {arguments.out / 'data'}")
        report = ingest(["trajectories"], arguments.out / "data")
        console.print(f"{report.trajectories} demonstrations, {report.steps} steps, {report.dropped} turns dropped")
        results = [run_seed(seed, arguments.out) for seed in arguments.seeds]
    except SweSrlError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    say("SRL minus its warm start on the test packages: paired 95% intervals, clustered by task")
    for result in results:
        console.print(f"seed {result.seed}:  T = 1 {result.t1}   greedy {result.greedy}", highlight=False)
    console.print(f"\nall of it took {(time.monotonic() - began) / 60:.1f} minutes")
    return 0


def run_seed(seed: int, out: Path) -> Result:
    """One seed from an empty network to the table."""
    folder = out / f"seed_{seed}"
    data = out / "data"
    overrides = [f"run={folder / 'srl'}", f"seed={seed}", f"data.path={data}"]
    say(f"swe-srl train {CONFIG} {' '.join(overrides)}")
    config = load(TrainConfig, CONFIG, overrides)
    found = train(config)
    warm, srl = (stage["checkpoint"] for stage in found["stages"])
    seconds = cpu_seconds(Path(found["run_dir"]))

    steps = found["stages"][0]["steps"]
    more_steps = math.ceil(seconds["srl"] / (seconds["warm"] / steps))
    overrides = [f"run={folder / 'more_sft'}", f"seed={seed}", f"data.path={data}"]
    overrides += [f"model.path={warm}", f"stage.more.steps={more_steps}"]
    say(f"swe-srl train {CONTROL} {' '.join(overrides)}")
    control = train(load(TrainConfig, CONTROL, overrides))
    seconds |= cpu_seconds(Path(control["run_dir"]))

    say(f"on the test packages {config.data.test}, of which no step was trained on")
    wanted = EvaluateConfig(
        model=config.model,
        data=config.data,
        prompt=config.prompt,
        engine=config.engine,
        evaluate=EvaluateSteps(split="test", samples=4, out=str(folder)),
    )
    checkpoints = {WARM: warm, MORE: control["checkpoint"], SRL: srl}
    comparison, report = evaluate_steps(wanted, checkpoints, baseline=WARM)
    learning_curve(read_events(Path(found["run_dir"])), folder / "learning_curve.png")
    console.print(table(comparison), difference_table(comparison), kind_table(comparison))
    for remark in comparison.remarks:
        console.print(f"• {remark}", highlight=False)
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    console.print(f"• CPU seconds of the updates: {spent}", highlight=False)
    for name, path in [
        ("table", report["report"]),
        ("pictures", f"{report['plot']}, {folder / 'learning_curve.png'}"),
        ("run directory", found["run_dir"]),
        ("checkpoint", srl),
        ("look at it", f"swe-srl inspect {found['run_dir']} --step 40"),
    ]:
        console.print(f"{name:<14} {path}", highlight=False, soft_wrap=True)
    return Result(seed, gain(comparison, "t1"), gain(comparison, "greedy"), seconds)


def gain(comparison: Comparison, mode: Any) -> Interval:
    """Similarity of SRL minus that of the warm start, paired by step."""
    difference = paired(comparison.policies[SRL][mode], comparison.policies[WARM][mode])["similarity"]
    assert difference is not None
    return difference


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
