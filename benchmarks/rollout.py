"""Where a rollout's CPU seconds go: 100 attempts at the bug-fix suite, 16 sandboxes at a time.

    python benchmarks/rollout.py [--model runs/…/checkpoints/best] [--agent random] [--episodes 100] [--json]

The harness's own share is to be at most 5%: all that this process does but for the engine and the sandboxes, the
rendering of prompts included. Sandboxes' processes count where they are children of this one (runc); under Docker they
are the daemon's, and the share is an upper bound. Without --model a scripted agent acts, which costs nothing: then the
share is of harness and sandboxes alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from swe_srl.agent_config import AgentConfig
from swe_srl.attempts import attempts
from swe_srl.loading import check
from swe_srl.runs import Run, read_events
from swe_srl.sandboxes.choice import chosen
from swe_srl.sandboxes.pool import Pool
from swe_srl.tasks import load
from swe_srl.tasks.opening import opened

PARTS = ("engine", "sandboxes", "children", "harness", "others")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(config_of(options, folder))
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


def config_of(options: argparse.Namespace, folder: str) -> AgentConfig:
    values: dict[str, Any] = {
        "run": folder,
        "agent": options.agent if options.model is None else "policy",
        "engine": {"max_tokens": 128},
        "sandbox": {"kind": chosen(options.sandbox), "timeout_s": 30},
        "rollout": {"max_steps": 12, "workers": options.workers, "temperature": 1.0},
    }
    if options.model is not None:
        values["model"] = {"path": str(options.model)}
    tasks = len(load(check(AgentConfig, values, "benchmark").tasks))
    values["limit"] = min(tasks, options.episodes)
    values["rollout"]["samples"] = -(-options.episodes // values["limit"])
    return check(AgentConfig, values, "benchmark")


def measure(config: AgentConfig) -> dict[str, Any]:
    run, loads = Run(config.folder(), config), [os.getloadavg()[0]]
    tasks = load(config.tasks, config.limit)
    with run.held(tensorboard=False), Pool(str(config.sandbox.kind), max_open=config.rollout.workers) as pool:
        made = list(attempts(config, tasks, partial(opened, pool=pool), run))
    (event,) = read_events(run.folder)
    loads.append(os.getloadavg()[0])
    cpu = {part: event[f"time/cpu/{part}"] for part in PARTS}
    return {
        "agent": config.agent,
        "sandbox": config.sandbox.kind,
        "episodes": len(made),
        "turns": sum(len(one.trajectory.turns) for one in made),
        "ends": event["ends"],
        "wall_s": event["time/wall"],
        "cpu_s": cpu,
        "harness_share": cpu["harness"] / sum(cpu.values()),
        "load": loads,
        "cores": os.cpu_count(),
    }


def show(found: dict[str, Any]) -> None:
    table = Table("part", "CPU s", "share", title=f"{found['episodes']} episodes, {found['turns']} turns")
    whole = sum(found["cpu_s"].values())
    for part, seconds in found["cpu_s"].items():
        table.add_row(part, f"{seconds:.2f}", f"{seconds / whole:.1%}")
    ends = ", ".join(f"{count} {end}" for end, count in found["ends"].items())
    load = " to ".join(f"{value:.1f}" for value in found["load"])
    table.caption = f"{found['sandbox']}, {found['wall_s']:.0f} s; {ends}; load {load} on {found['cores']} cores"
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="a checkpoint's folder; else a scripted agent acts")
    parser.add_argument("--agent", default="random", help="the scripted one")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=16, help="sandboxes at a time")
    parser.add_argument("--sandbox", help="docker, runc; else the first that isolates")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
