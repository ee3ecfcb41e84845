"""One trie beside separate sequences: seconds of forward and backward, and peak memory.

    python benchmarks/prefix_tree.py                                # made runs, N = 5, 10, 20; and one long prompt
    python benchmarks/prefix_tree.py --steps 40 --window full --prompt 0        # and this: four minutes more
    python benchmarks/prefix_tree.py --data trajectories            # runs of data: answers of unequal lengths
    python benchmarks/prefix_tree.py --data DATA --tokenizer FOLDER --observation-tokens 256 --runs 1 --drawn 0

G = 8 answers a step; a Qwen2 of four layers, 256 wide, 1,024 tokens, float32, one thread. `prefix_tree_batches.py`
says what a batch is. Separate sequences are computed one by one, so that nothing is padded: it is as quick as the
answers of a step side by side, and takes less memory. The larger batches ("fitted") would take many minutes: of those,
sequences of five lengths are measured, and the sum is taken from the parabola through them; `--fit` does so for all.
Each way runs in a process of its own, and its peak memory is that above the start. CPU seconds, in turns, so that
others' work counts less; a batch is measured again while that keeps it under `--seconds`.

"ideal" is the ratio of what has to be computed: tokens through the layers, weighted by parameters, and pairs of
(query, key), weighted by width. What is equal in both ways, as the output layer, is not in it.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prefix_tree_batches import Batch, made, read, work

MEASURE = Path(__file__).with_name("prefix_tree_measure.py")
LARGE = 1.5e11  # multiplications in a layer of separate sequences: about a minute; larger batches are fitted


def batches(options: argparse.Namespace) -> Iterator[Batch]:
    windows = {"full": [None], "2": [2], None: [None, 2]}[options.window]
    if options.data:
        data = read(options.data, options.tokenizer, options.observation_tokens)
        for window in windows:
            yield from data.whole_runs(options.runs, window)
            if options.drawn:
                yield data.drawn(options.drawn, window)
        return
    for window in windows:
        for steps in options.steps:
            yield made(steps, window, 0)
    if options.prompt:
        yield made(1, None, options.prompt)


def measured(way: str, batch: Batch, budget: int) -> tuple[float, float]:
    """CPU seconds, and MB."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(pickle.dumps(batch))
        file.flush()
        command = [sys.executable, str(MEASURE), way, file.name, str(budget)]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found["seconds"], found["mb"]


def row(batch: Batch, options: argparse.Namespace) -> tuple[str, ...]:
    alone_work, trie_work = work(batch)
    ideal = alone_work / trie_work
    way = "fitted" if options.fit or alone_work > LARGE else "alone"
    alone, trie = list[tuple[float, float]](), list[tuple[float, float]]()
    while not trie or (len(trie) < options.repeats and (1 + 1 / len(trie)) * _spent(alone, trie) < options.seconds):
        alone.append(measured(way, batch, options.budget))
        trie.append(measured("trie", batch, options.budget))
    ratios = [there[0] / here[0] for there, here in zip(alone, trie, strict=True)]
    ratio = statistics.median(ratios)
    alone_s, trie_s = (statistics.median(seconds for seconds, _ in found) for found in (alone, trie))
    between = f" ({min(ratios):.1f}–{max(ratios):.1f})" if len(ratios) > 1 else ""
    return (
        *(batch.name, "full" if batch.window is None else f"{batch.window}"),
        *(f"{alone_s:.1f}" + " fitted" * (way == "fitted"), f"{trie_s:.1f}"),
        *(f"{ratio:.1f}{between}", f"{ideal:.1f}", f"{ratio / ideal:.0%}"),
        f"{max(mb for _, mb in alone):.0f} → {max(mb for _, mb in trie):.0f}",
    )


def _spent(*ways: list[tuple[float, float]]) -> float:
    return sum(seconds for found in ways for seconds, _ in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--window", choices=["full", "2"], help="else both")
    parser.add_argument("--prompt", type=int, default=8192, help="tokens of the one long prompt; 0: without")
    parser.add_argument("--data", help="logs, or a store: instead of made runs")
    parser.add_argument("--tokenizer", help="a folder; else one is learnt from the logs")
    parser.add_argument("--observation-tokens", type=int, default=1024, help="of data; longer ones are cut")
    parser.add_argument("--runs", type=int, default=3, help="of data: whole ones, short to long")
    parser.add_argument("--drawn", type=int, default=16, help="of data: steps of any runs, as one more batch")
    parser.add_argument("--budget", type=int, default=2048, help="tokens of a piece")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--fit", action="store_true", help="small batches too")
    options = parser.parse_args()
    heads = ("batch", "history", "separate s", "trie s", "ratio (range)", "ideal", "of ideal", "MB")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for batch in batches(options):
        print(f"| {' | '.join(row(batch, options))} |", flush=True)


if __name__ == "__main__":
    main()
