"""Kill a training run with −9 wherever it hurts, start it again, and compare with a run that was left alone.

    python tests/kill_resume.py [--work DIR] [--random N] [--seed S] [--only WORD]

Each named point is the entry of a function, within a stage and below another function, the n-th time. The
process sends itself SIGKILL there; it is started again and killed at the first such point it meets, then
started a third time and left alone. Random kills come from outside, again and again until the run ends.
Equal means: the same files, the same bits of every weight, optimizer state, rollout and event, but for what
the clock says. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import orjson
import torch
import transformers
from made import tiny_config

from swe_srl.runs import read_rows
from swe_srl.train.chain import train

CLOCKED = {"time", "step_time"}  # and what begins with "time/"


@dataclass(frozen=True, slots=True)
class Point:
    """The n-th entry of `function` (in a file that ends so), called at any depth below `under`, in stage `kind`."""

    name: str
    function: str
    file: str
    under: str
    kind: str | None = "srl"
    n: int = 1

    def met(self, frame: FrameType) -> bool:
        """Whether this call is one of those that are counted."""
        if frame.f_code.co_name != self.function or not frame.f_code.co_filename.endswith(self.file):
            return False
        above = list(callers(frame))
        in_stage = [f.f_locals["settings"].kind for f in above if f.f_code.co_name == "run_stage"]
        return (self.kind is None or self.kind in in_stage) and self.under in [f.f_code.co_name for f in above]


def callers(frame: FrameType) -> Iterator[FrameType]:
    above = frame.f_back
    while above is not None:
        yield above
        above = above.f_back


POINTS = [
    Point("the scratch network is half there", "save_pretrained", "tokenization_utils_base.py", "build_scratch", None),
    Point("sft: backward", "_logits", "head.py", "backward", "sft", 45),
    Point("sft: event append", "event", "runs.py", "train_stage", "sft", 25),
    Point("sft: its result is not written yet", "finish", "checkpoint.py", "run_stage", "sft"),
    Point("sft: its result is not renamed yet", "rename", "pathlib.py", "finish", "sft"),
    Point("generation", "sample", "draw.py", "_wave", n=90),
    Point("reward", "similarity_reward", "rewards.py", "_wave", n=13),
    Point("backward", "_logits", "head.py", "backward", n=2),
    Point("weights into the engine", "load_weights", "hf.py", "train_stage", n=4),
    Point("rollouts: rename", "rename", "pathlib.py", "write_rollouts", n=3),
    Point("event append", "event", "runs.py", "train_stage", n=3),
    Point("event appended, nothing saved", "note", "loop.py", "train_stage", n=3),
    Point("validation", "summarise", "metrics.py", "validate_and_save", n=2),
    Point(
        "checkpoint write: weights there, no tokenizer", "save_pretrained", "tokenization_utils_base.py", "save", n=2
    ),
    Point("checkpoint write: half a state", "_save", "serialization.py", "save", n=2),
    Point("rename of a checkpoint", "rename", "pathlib.py", "folder_aside", n=3),
    Point("rename of a state", "rename", "pathlib.py", "folder_aside", n=4),
    Point("state there, best not yet", "link_aside", "disk.py", "save", n=2),
    Point("rename of best", "rename", "pathlib.py", "link_aside", n=3),
    Point("old states and checkpoints go", "rmtree", "shutil.py", "_tidy", n=2),
    Point("the last state there, best not yet", "link_aside", "disk.py", "save", n=4),
    Point("the last result is not written yet", "finish", "checkpoint.py", "run_stage"),
]


# ------------------------------------------------------------------------------------------- one process


def run_once(folder: Path, point: Point | None) -> None:
    """Train in this process, and die at the point."""
    transformers.logging.disable_progress_bar()
    sys.stderr = (folder / "log.txt").open("a", buffering=1)
    config = tiny_config(folder)
    if point is not None:
        sys.setprofile(killer(point))
    train(config)
    sys.setprofile(None)


def killer(point: Point) -> Any:
    left = point.n

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal left
        if event == "call" and point.met(frame):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return profile


def start(folder: Path, point: Point | None, after_s: float | None = None) -> bool:
    """Run a process of its own; whether it was killed."""
    process = multiprocessing.get_context("fork").Process(target=run_once, args=(folder, point))
    process.start()
    process.join(after_s)
    if process.exitcode is None:
        process.kill()
        process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit(f"the run failed by itself, see {folder / 'log.txt'}")
    return process.exitcode != 0


# -------------------------------------------------------------------------------------------- comparison


def digest(run: Path) -> dict[str, str]:
    """What a run left: path → hash of its content, without what the clock says."""
    found: dict[str, str] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = hashlib.sha256(content(path, run)).hexdigest()[:16]
        else:
            found[name] = "folder"
    return found


def content(path: Path, run: Path) -> bytes:
    if path.name == "events.jsonl":
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        return repr([clockless(row) for row in rows]).encode()
    if path.name == "done.json":
        return repr(clockless(orjson.loads(path.read_bytes()))).replace(str(run.parent), "").encode()
    if path.suffix == ".zst":
        return repr(read_rows(path)).encode()
    if path.name == "state.pt":
        return repr(list(leaves(torch.load(path, weights_only=True)))).encode()
    return path.read_bytes().replace(str(run.parent).encode(), b"")


def clockless(row: dict[str, Any]) -> dict[str, Any]:
    """`events_bytes` counts the digits of times."""
    hidden = CLOCKED | {"events_bytes"}
    return {key: value for key, value in row.items() if key not in hidden and not key.startswith("time/")}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and tensor of a state, a tensor by the hash of its bits."""
    if isinstance(value, dict):
        for key, inner in clockless({str(key): inner for key, inner in value.items()}).items():
            yield from leaves(inner, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for key, inner in enumerate(value):
            yield from leaves(inner, f"{name}/{key}")
    elif isinstance(value, torch.Tensor):
        yield name, (value.dtype, hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest())
    else:
        yield name, value


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


# ----------------------------------------------------------------------------------------------- the suite


def kill_at(folder: Path, point: Point) -> int:
    """Kill at the point, again at the first one met after that, then let the run end; the number of kills."""
    if not start(folder, point):
        raise SystemExit(f"{point.name}: the run ended without meeting this point")
    again = Point(point.name, point.function, point.file, point.under, point.kind)
    kills = 1 + start(folder, again)
    start(folder, None)
    return kills


def kill_randomly(folder: Path, draw: random.Random, whole_s: float) -> int:
    """Kill at random times until the run ends by itself, at most some times."""
    kills = 0
    while kills < 6 and start(folder, None, draw.uniform(0.1, 0.6) * whole_s):
        kills += 1
    start(folder, None)
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, help="a folder to keep; a temporary one by default")
    parser.add_argument("--random", type=int, default=3, help="runs that are killed at random times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="points whose name holds this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return suite(arguments.work or Path(temporary), arguments)


def suite(work: Path, arguments: argparse.Namespace) -> int:
    def fresh(name: str) -> Path:
        folder = work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    left_alone = fresh("left_alone")
    began = time.perf_counter()
    start(left_alone, None)
    whole_s = time.perf_counter() - began
    expected = digest(left_alone / "run")
    print(f"uninterrupted: {whole_s:.1f} s, {len(expected)} files and folders\n")
    print(f"{'killed':<52}{'kills':>6}  outcome")
    different = 0

    def tell(name: str, folder: Path, kills: int) -> None:
        nonlocal different
        found = differences(expected, digest(folder / "run"))
        different += bool(found)
        print(f"{name:<52}{kills:>6}  {'differs: ' + ', '.join(found[:4]) if found else 'equal'}", flush=True)

    for i, point in enumerate(point for point in POINTS if arguments.only in point.name):
        folder = fresh(f"point_{i}")
        tell(point.name, folder, kill_at(folder, point))
    for i in range(arguments.random):
        folder = fresh(f"random_{i}")
        tell(f"at random times, seed {arguments.seed + i}", folder, kill_randomly(folder, random.Random(i), whole_s))
    print(f"\n{different} of the runs above differ" if different else "\nall equal")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
