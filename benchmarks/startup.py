"""`swe-srl --help` against a bare interpreter that imports json, argparse, pathlib, typing and dataclasses.

Both are whole processes, run in turn; prints medians, their ratio, and the number of repeats.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 20
BARE = [sys.executable, "-c", "import json, argparse, pathlib, typing, dataclasses"]
HELP = [sys.executable, "-m", "swe_srl", "--help"]


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    pairs = [(seconds(BARE), seconds(HELP)) for _ in range(REPEATS)]
    bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"bare {bare * 1000:.0f} ms, swe-srl --help {ours * 1000:.0f} ms: {ours / bare:.1f}x, {REPEATS} repeats")


if __name__ == "__main__":
    main()
