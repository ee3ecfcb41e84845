"""Reading logs: how near to bare JSON parsing, and how much memory.

    python benchmarks/ingest.py                 # speed on real logs, each format by itself and a corpus
    python benchmarks/ingest.py --memory        # peak memory of `ingest` at 100 MB and at 1 GB

Speed: uncompressed JSON Lines → Trajectory, detection included and nothing written, beside `orjson.loads` of the
same lines of the same file; the two take turns, and the ratio is of their medians (1 would be: reading costs
nothing). Whole `ingest`, which also compares, compresses and writes, stands beside. Logs are those of ../shared.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from swe_srl.containers import documents
from swe_srl.formats import Dropped, is_part
from swe_srl.ingest import ingest
from swe_srl.logs import contents, logs

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CORPUS = DATA / "corpus" / "mini_v1_verified_gemini3pro.jsonl.gz"
SMALLEST = 2_000_000  # bytes of a sample; a smaller one is repeated
SIZES = {"100 MB": 100_000_000, "1 GB": 1_000_000_000}


def samples(folder: Path) -> dict[str, Path]:
    """JSON Lines of each kind of log: a file a kind. Session logs are not lines of their own, and are left out."""
    found = {"corpus": folder / "corpus.jsonl"}
    found["corpus"].write_bytes(gzip.decompress(CORPUS.read_bytes()))
    for kind in sorted(path for path in (DATA / "trajectories").iterdir() if path.is_dir()):
        lines = b""
        for path in sorted(kind.rglob("*.*")):
            for _, document in documents(path) if path.is_file() else ():
                records = document if isinstance(document, list) and "role" not in document[0] else [document]
                if not isinstance(document, Dropped) and not is_part(document):
                    lines += b"".join(orjson.dumps(record) + b"\n" for record in records)
        if lines:
            found[kind.name] = folder / f"{kind.name}.jsonl"
            found[kind.name].write_bytes(lines * (1 + SMALLEST // len(lines)))
    return found


def parse(path: Path) -> None:
    with path.open("rb") as lines:
        for line in lines:
            orjson.loads(line)


def read(path: Path) -> None:
    for log in logs([path]):
        for _ in contents(log):
            pass


def seconds(work: Callable[[Path], object], path: Path) -> float:
    begin = time.process_time()
    work(path)
    return time.process_time() - begin


def speed(repeats: int) -> list[dict[str, float | str]]:
    rows: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as name:
        for kind, path in samples(Path(name)).items():
            times: dict[Callable[[Path], object], list[float]] = {parse: [], read: []}
            for _ in range(repeats):
                for work, taken in times.items():
                    taken.append(seconds(work, path))
            bare, ours = (statistics.median(taken) for taken in times.values())
            whole = seconds(lambda path: ingest([path], Path(name) / "store"), path) if kind == "corpus" else None
            megabytes = path.stat().st_size / 1e6
            rows.append({"logs": kind, "MB": megabytes, "bare": bare, "read": ours, "ratio": bare / ours})
            if whole:
                rows[-1]["ingest"] = whole
            print(
                f"{kind:24} {megabytes:6.1f} MB  orjson.loads {bare:.3f} s  to trajectories {ours:.3f} s  "
                f"ratio {bare / ours:.2f}" + (f"  whole ingest {whole:.2f} s" if whole else ""),
                file=sys.stderr,
            )
    return rows


def corpus_of(size: int, path: Path) -> None:
    """The corpus again and again, each time under other ids, up to `size` bytes."""
    lines = gzip.decompress(CORPUS.read_bytes()).splitlines(keepends=True)
    with path.open("wb") as file:
        copy = 0
        while file.tell() < size:
            for line in lines:
                file.write(re.sub(rb'"instance_id":\s*"', b'"instance_id":"copy%d' % copy, line, count=1))
            copy += 1


def memory() -> list[dict[str, float | str]]:
    rows: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as name:
        for label, size in SIZES.items():
            log = Path(name) / "corpus.jsonl"
            corpus_of(size, log)
            told = subprocess.run(
                [sys.executable, __file__, "--peak-of", log], check=True, capture_output=True, text=True
            ).stdout
            rows.append({"size": label, **json.loads(told)})
            print(f"{label}: {told.strip()}", file=sys.stderr)
    return rows


def peak_of(log: Path) -> dict[str, float]:
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        report = ingest([log], Path(name) / "store")
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    peak = int(line.split()[1]) * 1024 / 1e6
    return {"trajectories": report.trajectories, "peak_mb": peak, "cpu_s": time.process_time() - begin}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak-of", type=Path)
    asked = parser.parse_args()
    if not CORPUS.exists():
        sys.exit(f"the logs are not at {DATA}")
    found = peak_of(asked.peak_of) if asked.peak_of else memory() if asked.memory else speed(asked.repeats)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
