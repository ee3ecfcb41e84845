"""One way of learning from a batch, in a process of its own: prints {"seconds", "mb"}. `prefix_tree.py` runs it.

    python benchmarks/prefix_tree_measure.py trie|alone|groups|fitted BATCH BUDGET

BATCH is a pickled Batch. CPU seconds of cutting it into pieces, forward and backward; the peak memory above the start.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prefix_tree_batches import HEADS, INNER, KV_HEADS, LAYERS, VOCABULARY, WIDTH, Batch
from transformers import Qwen2Config, Qwen2ForCausalLM

from swe_srl.train.model import log_probs, share_prefixes
from swe_srl.train.pieces import Piece, pack
from swe_srl.train.tree import Strand

POINTS = 5  # lengths that are measured for a fit
Groups = list[list[Strand]]


def trie(groups: Groups, budget: int) -> Iterator[Piece]:
    yield from pack(groups, budget, share=True)


def alone(groups: Groups, budget: int) -> Iterator[Piece]:
    """Each sequence by itself."""
    for group in groups:
        for strand in group:
            yield from pack([[strand]], budget, share=False)


def by_group(groups: Groups, budget: int) -> Iterator[Piece]:
    """The answers of a step side by side, the shorter ones padded."""
    for group in groups:
        yield from pack([group], 10**9, share=False)


WAYS: dict[str, Callable[[Groups, int], Iterator[Piece]]] = {"trie": trie, "alone": alone, "groups": by_group}


def network() -> Any:
    torch.manual_seed(0)
    settings = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
    settings |= {"num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": 65536}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, attn_implementation="sdpa", **settings)).eval()


def seconds(model: Any, way: str, groups: Groups, budget: int) -> float:
    ids_N = torch.tensor([token for group in groups for strand in group for token in strand.ids])
    first = groups[0][0].slot
    began = time.process_time()
    for piece in WAYS[way](groups, budget):
        log_probs(model, piece, ids_N[piece.slot_N - first], 1.0, torch.float32)[0].sum().backward()
    return time.process_time() - began


def fitted(model: Any, groups: Groups) -> float:
    """Separate sequences, of which some are measured; the sum by the parabola in their length."""
    of_length = {len(strand.inputs): strand for group in groups for strand in group}
    lengths = sorted(of_length)
    picked = sorted({lengths[round(n)] for n in np.linspace(0, len(lengths) - 1, POINTS)})
    took = [[seconds(model, "alone", [[of_length[n]]], 0) for _ in range(2)][1] for n in picked]  # the first warms up
    curve = np.polyfit(picked, took, min(2, len(picked) - 1))
    return float(sum(np.polyval(curve, len(strand.inputs)) for group in groups for strand in group))


def memory_mb() -> float:
    """The most that this process has held."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    way, path, budget = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    batch: Batch = pickle.loads(path.read_bytes())
    model, groups = network(), batch.strands()
    if way == "trie":
        share_prefixes(model)
    short = [[Strand(tuple(range(32)), (1,) * 32, 0), Strand(tuple(range(32)), (2,) * 32, 32)]]
    seconds(model, "trie" if way == "trie" else "alone", short, budget)  # what is only done once, done
    before = memory_mb()
    took = fitted(model, groups) if way == "fitted" else seconds(model, way, groups, budget)
    print(json.dumps({"seconds": took, "mb": memory_mb() - before}))


if __name__ == "__main__":
    main()
