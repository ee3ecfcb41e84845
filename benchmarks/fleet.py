"""How much sooner several nodes finish than one, where commands do nothing but take their time.

    python benchmarks/fleet.py [--nodes 3] [--slots 4] [--episodes 24] [--commands 20] [--kind local] [--json]

A Ray cluster of nodes on this machine, `--slots` sandboxes each. The same attempts, of commands that sleep a second,
are made with one node's worth of sandboxes open at a time, and with all nodes'. Starting rooms and opening sandboxes is
in both times. Exits with 1 below `--least` (2.5). Whether a lost node loses an episode is a test:
`python -m pytest tests/test_fleet.py -m slow`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from cluster import cluster

from swe_srl.actions import render_completion
from swe_srl.agent_config import EpisodeLimits, TasksConfig
from swe_srl.errors import PolicyError
from swe_srl.fleet import reach
from swe_srl.places import patient
from swe_srl.policies import State
from swe_srl.rollout import Job, rollout
from swe_srl.tasks import load
from swe_srl.tasks.opening import opened
from swe_srl.types import Action, Completion

SLEEP = render_completion("", Action("bash", {"command": "sleep 1"}))
SUBMIT = render_completion("", Action("submit"))


def main() -> None:
    options = _options()
    seconds = {nodes: measure(options, nodes) for nodes in (1, options.nodes)}
    ratio = seconds[1] / seconds[options.nodes]
    found = {
        "seconds": {str(nodes): round(taken, 1) for nodes, taken in seconds.items()},
        "ratio": round(ratio, 2),
        "episodes": options.episodes,
        "commands": options.commands,
        "load": [round(one, 1) for one in os.getloadavg()],
    }
    if options.json:
        print(json.dumps(found))
    else:
        for nodes, taken in seconds.items():
            print(f"{nodes} × {options.slots} slots: {taken:6.1f} s for {options.episodes} × {options.commands} × 1 s")
        print(f"{ratio:.2f} times sooner (at least {options.least}); load {found['load']}")
    sys.exit(ratio < options.least)


def measure(options: argparse.Namespace, nodes: int) -> float:
    """Seconds from the first attempt to the last, in a cluster of its own."""
    limits = EpisodeLimits(workers=nodes * options.slots, max_steps=options.commands + 1)
    jobs = [Job(task, 0) for task in load(TasksConfig(), options.episodes)]

    def answers(states: Sequence[State]) -> list[Completion | PolicyError]:
        return [Completion(SLEEP if len(state.turns) < options.commands else SUBMIT) for state in states]

    with (
        cluster(nodes, options.slots) as found,
        reach(options.kind, found.address) as fleet,
        fleet.pool("attempts", max_open=limits.workers, pull=False) as pool,
    ):
        began = time.monotonic()
        made = list(rollout(answers, jobs, partial(opened, pool=pool), patient(limits, pool), 30, seed=0))
        taken = time.monotonic() - began
    assert [one.end for one in made] == ["submitted"] * len(jobs), "an attempt was lost"
    return taken


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=24)
    parser.add_argument("--commands", type=int, default=20)
    parser.add_argument("--kind", default="local")
    parser.add_argument("--least", type=float, default=2.5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
