"""Sampling over a trie beside padded rows, and beside `generate` of transformers: seconds, and equal tokens.

    python benchmarks/sampling.py                        # short prompts; full history, N = 3, 10, 20: a quarter hour
    python benchmarks/sampling.py --steps 10 --repeats 5

Greedy, 64 tokens, G = 8 answers a prompt, one thread. Full history: issue 300 tokens, a command and its observation
240; a Qwen2 of four layers, 256 wide. transformers gets one batch of G for each step, so that nothing is padded: the
kinder way; from N = 10 on it is measured at steps 1, N/2 and N, and the sum taken from the parabola through them.
Short: 16 prompts of about 300 tokens, of which some are the same, and two layers, 128 wide (as in the quickstart);
with 8 answers and with 1. The engine takes rows where a trie saves less than 2,048 tokens: "takes" says what it does.
CPU seconds, in turns, so that others' work counts less. "differ" are answers that are not equal to the padded rows',
and of those the ones whose two best logits, where they part, are 1e-4 or more from one another.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

VOCABULARY, GROUP, NEW, ISSUE, PAIR = 1024, 8, 64, 300, 240
Prompt = tuple[int, ...]


def full_history(steps: int) -> list[Prompt]:
    row = _ids(ISSUE + PAIR * steps)
    return [row[: ISSUE + PAIR * n] for n in range(steps)]


def short(common: int) -> list[Prompt]:
    begin = _ids(common)
    return [begin + _ids(300 - common + random.Random(n).randrange(-40, 40), n + 1) for n in range(16)]


def _ids(n: int, seed: int = 0) -> Prompt:
    rng = random.Random(seed)
    return tuple(rng.randrange(VOCABULARY) for _ in range(n))


def network(layers: int, width: int) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    settings = {"hidden_size": width, "intermediate_size": width * 8 // 3, "num_hidden_layers": layers}
    settings |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 65536}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, attn_implementation="sdpa", **settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # wider weights, so that best and second-best are apart
            parameter.mul_(3.0)
    return model


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    done = work()
    return time.process_time() - began, done


def transformers_seconds(model: Any, prompts: Sequence[Prompt]) -> float:
    import torch

    def of(prompt: Prompt) -> float:
        batch = torch.tensor([prompt] * GROUP)
        mask = torch.ones_like(batch)
        settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        return seconds(lambda: model.generate(batch, attention_mask=mask, **settings))[0]

    if len(prompts) < 10:
        return sum(of(prompt) for prompt in prompts)
    last = len(prompts) - 1
    a, b, c = (of(prompts[n]) for n in (0, last // 2, last))
    x, y = last // 2, last
    return sum(
        a * (n - x) * (n - y) / (x * y) + b * n * (n - y) / (x * (x - y)) + c * n * (n - x) / (y * (y - x))
        for n in range(len(prompts))
    )


def parted(model: Any, prompt: Prompt, ours: Prompt, theirs: Prompt) -> float:
    """How far apart the two best logits are where two answers part."""
    import torch

    at = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    with torch.inference_mode():
        best = model(torch.tensor([prompt + ours[:at]])).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


def row(name: str, model: Any, prompts: Sequence[Prompt], group: int, repeats: int, *, peer: bool) -> tuple[str, ...]:
    from swe_srl.engines import Request, Sampling
    from swe_srl.engines.hf import WORTH, HFEngine, saved
    from swe_srl.engines.rows import Row

    asked = [Request(prompt, n) for prompt in prompts for n in range(group)]
    ways = {"trie": HFEngine(model, shared_from=0), "rows": HFEngine(model, shared_from=10**9)}
    took: dict[str, list[float]] = {"trie": [], "rows": [], "peer": []}
    answers: dict[str, Any] = {}
    rows = [Row(prompt, list(range(group))) for prompt in prompts]
    takes = "trie" if saved(rows, NEW, rows_share=True) >= WORTH else "rows"
    for _ in range(repeats):
        for way, engine in ways.items():
            spent, answers[way] = seconds(lambda engine=engine: engine.generate(asked, Sampling(0.0, NEW, -1)))
            took[way].append(spent)
        took["peer"].append(transformers_seconds(model, prompts) if peer else float("nan"))
    pairs = zip(answers["trie"], answers["rows"], strict=True)
    differ = [parted(model, a.prompt_ids, a.ids, b.ids) for a, b in pairs if a.ids != b.ids]
    middle = {way: statistics.median(found) for way, found in took.items()}

    def ratio(way: str) -> str:
        found = [there / here for there, here in zip(took[way], took["trie"], strict=True)]
        return f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"

    far = sum(gap >= 1e-4 for gap in differ)
    return (
        *(name, f"{middle['trie']:.2f}", f"{middle['rows']:.2f}", ratio("rows")),
        *((f"{middle['peer']:.1f}", ratio("peer")) if peer else ("", "")),
        *(f"{len(asked) * NEW / middle['trie']:.0f}", takes),
        f"{len(differ)} of {len(asked)}, {far} by ≥ 1e-4",
    )


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, nargs="*", default=[3, 10, 20])
    parser.add_argument("--short", type=int, nargs="*", default=[0, 60, 200], help="tokens that 16 short prompts share")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true", help="without transformers' generate")
    options = parser.parse_args()
    torch.set_num_threads(1)
    heads = (
        "prompts",
        "trie s",
        "rows s",
        "rows / trie",
        "generate s",
        "generate / trie",
        "trie tokens/s",
        "takes",
        "differ",
    )
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    quick, larger = network(2, 128), network(4, 256)
    for common in options.short:
        for group in (GROUP, 1):
            name = f"16 short × {group}, {common} shared"
            print("|", " | ".join(row(name, quick, short(common), group, options.repeats, peer=False)), "|", flush=True)
    for steps in options.steps:
        found = row(f"N = {steps}", larger, full_history(steps), GROUP, options.repeats, peer=not options.no_peer)
        print("|", " | ".join(found), "|", flush=True)


if __name__ == "__main__":
    main()
