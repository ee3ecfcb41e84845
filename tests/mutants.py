"""Broken copies of logs, and what ingest makes of them: `python tests/mutants.py FOLDER --count 2000 --long 20`.

Prints one JSON object: how many mutants there are, how many of them the report accounts for, the largest
record and the peak memory of the reading process, both in megabytes.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from swe_srl.containers import documents
from swe_srl.formats import WRITERS, is_part
from swe_srl.ingest import ingest, open_data
from swe_srl.store import Store
from swe_srl.tools import EDITOR

ROOT = Path(__file__).parents[1]
LOGS = ROOT.parent / "shared" / "data" / "trajectories"
LARGEST_SEED = 300_000  # bytes of JSON
LONG = 50_000_000  # characters of a long line
WRONG = (None, 7, -(2**62), 1.5, "", "x", [], {}, True, [None], {"type": "text"}, [[]], {"": None}, "\0", "<function=")

Mutation = Callable[[bytes, random.Random], bytes]


# --------------------------------------------------------------------------------------------- seeds


def seeds() -> list[list[bytes]]:
    """Small real logs of every kind, each kind by itself, and the project's own in every form that can be written."""
    kinds: list[list[bytes]] = []
    for folder in sorted(path for path in LOGS.glob("*") if path.is_dir()):
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        found = [orjson.dumps(document) for path in files for _, document in documents(path) if not is_part(document)]
        found += [path.read_bytes() for path in files if is_part(next(documents(path))[1])]  # whole sessions
        kinds.append(found)
    data = open_data(ROOT / "trajectories")
    bash = next(trajectory for trajectory in data if all(turn.action.tool != EDITOR.name for turn in trajectory.acted))
    kinds.append([orjson.dumps(write(bash)) for write in WRITERS.values()])
    small = [[seed for seed in kind if 2 < len(seed) < LARGEST_SEED] for kind in kinds]
    return [kind for kind in small if kind]


# ----------------------------------------------------------------------------------------- mutations


def truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(1, len(content))]


def invalid_utf8(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + chance.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80"]) + content[place:]


def any_byte(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]


def nested(content: bytes, chance: random.Random) -> bytes:
    """A value deep inside lists or objects, now and then deeper than a stack is."""
    depth = chance.choice([50, 900, 1100, 100_000])
    begin, end = chance.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'{"content":', b"}"), (b'[{"text":', b"}]")])
    return edited(content, chance, lambda value: orjson.Fragment(begin * depth + orjson.dumps(value) + end * depth))


def wrong_type(content: bytes, chance: random.Random) -> bytes:
    return edited(content, chance, lambda _: chance.choice(WRONG))


def shuffled(content: bytes, chance: random.Random) -> bytes:
    """Keys in another order, everywhere."""

    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffle(value[key]) for key in chance.sample(list(value), len(value))}
        return [shuffle(item) for item in value] if isinstance(value, list) else value

    return b"\n".join(orjson.dumps(shuffle(document)) for document in parsed(content))


def rearranged(content: bytes, chance: random.Random) -> bytes:
    """A list's elements, or an object's values, lost, doubled or moved."""

    def move(value: Any) -> Any:
        if isinstance(value, list) and value:
            return chance.choice([value[::-1], value[1:], value * 2, chance.sample(value, len(value)), value[:1]])
        if isinstance(value, dict) and value:
            lost = chance.choice(list(value))
            return {key: item for key, item in value.items() if key != lost}
        return None

    return edited(content, chance, move)


def long_line(content: bytes, chance: random.Random) -> bytes:
    """One text of 50 million characters."""
    filling = chance.choice(["x", "x y\n", "\\", "é", "```bash\n", "a@b.co ", "/home/ann/x ", "<function="])
    text = filling * (LONG // len(filling))
    return edited(content, chance, lambda value: text, only=str)


MUTATIONS: tuple[Mutation, ...] = (truncated, invalid_utf8, any_byte, nested, wrong_type, shuffled, rearranged)


def parsed(content: bytes) -> list[Any]:
    try:
        return [orjson.loads(content)]
    except orjson.JSONDecodeError:
        return [orjson.loads(line) for line in content.splitlines() if line.strip()]


def edited(content: bytes, chance: random.Random, edit: Callable[[Any], Any], only: type = object) -> bytes:
    """`content` with one value inside replaced by `edit(value)`; the deeper the likelier it is met."""
    rows = parsed(content)
    number = chance.randrange(len(rows))
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            if isinstance(item, only):
                places.append((value, key))
            walk(item)

    walk(rows[number])
    if not places:
        return orjson.dumps(edit(rows[number]))
    inside, key = chance.choice(places)
    inside[key] = edit(inside[key])
    return b"\n".join(map(orjson.dumps, rows))


# --------------------------------------------------------------------------------------------- check


def make(folder: Path, count: int, long: int, seed: int) -> int:
    """Writes the mutants, one a file; bytes of the largest."""
    chance = random.Random(seed)
    healthy = seeds()
    largest = 0
    for number in range(count):
        mutation = long_line if number < long else MUTATIONS[number % len(MUTATIONS)]
        mutant = mutation(chance.choice(chance.choice(healthy)), chance)
        largest = max(largest, len(mutant))
        (folder / f"{number:04}-{mutation.__name__}.log").write_bytes(mutant)
    return largest


def peak() -> float:
    """Megabytes. Not `getrusage`, which counts what this process was before its exec: a copy of the maker."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--long", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--read", type=int, help="only read; bytes of the largest mutant")
    asked = parser.parse_args()
    logs, store = asked.folder / "logs", asked.folder / "store"
    if asked.read is None:  # read by a process that made nothing: its memory is what is measured
        logs.mkdir(parents=True)
        largest = make(logs, asked.count, asked.long, asked.seed)
        sys.exit(subprocess.run([sys.executable, __file__, str(asked.folder), "--read", str(largest)]).returncode)
    report = ingest([logs], store)
    whole = {Path(log.path).name for log in report.logs if log.trajectories or log.dropped}
    kept = Store(store)
    assert len(kept) == report.trajectories
    assert sum(row.steps for row in kept.rows) == report.steps
    found = {
        "mutants": sum(1 for _ in logs.iterdir()),
        "accounted": len(whole),
        "trajectories": report.trajectories,
        "largest_mb": asked.read / 1e6,
        "peak_mb": peak(),
    }
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
