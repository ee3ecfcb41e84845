"""The tables of docs/scaling.md: tokens, FLOPs and hours of a config's srl stage on H100s.

python benchmarks/scaling.py configs/paper_swe_7b.toml --steps 134000
"""

from __future__ import annotations

import argparse

from swe_srl.loading import load
from swe_srl.plan.costs import CORPUS, CORPUS_FULL, KEPT, Cost, Sharing, cost_of
from swe_srl.plan.shape import network, shape_of
from swe_srl.train_config import SrlStage, TrainConfig

WAYS = {
    "neither": Sharing(tree=False, cache=False),
    "prefix caching": Sharing(tree=False, cache=True),
    "prefix tree": Sharing(tree=True, cache=False),
    "both": Sharing(),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("config")
    options.add_argument("overrides", nargs="*")
    options.add_argument("--steps", type=int, default=134_000, help="step instances, each drawn once an epoch")
    options.add_argument("--kept", type=float, default=KEPT, help="share of the drawn groups that are live")
    asked = options.parse_args()
    config = load(TrainConfig, asked.config, asked.overrides)
    shape = shape_of(*network(config.model, asked.config))
    (stage,) = (one for one in config.stage if isinstance(one, SrlStage))
    updates = asked.steps * asked.kept / stage.batch
    print(f"{asked.steps:,} steps, {updates:.0f} updates of {stage.batch} × {stage.group_size} an epoch")
    for name, lengths in (("window of 2", CORPUS), ("full history", CORPUS_FULL)):
        print(
            f"\n{name}: prompts of {lengths.prompt:,} tokens, answers of {lengths.answer}, {lengths.shared:.1%} shared"
        )
        print("| | tokens learnt | prefilled | decoded | EFLOP | hours on 1 | hours on 8 |")
        print("|---|---|---|---|---|---|---|")
        for way, sharing in WAYS.items():
            one, eight = (cost_of(config, stage, shape, lengths, asked.kept, sharing, gpus) for gpus in (1, 8))
            print(row(way, one, eight, updates))
    for gpus in (1, 8):
        print(row_of_parts(cost_of(config, stage, shape, CORPUS, asked.kept, Sharing(), gpus), gpus))


def row(way: str, one: Cost, by_eight: Cost, updates: float) -> str:
    tokens = (f"{updates * n / 1e9:.2f} B" for n in (one.learnt_tokens, one.prefill_tokens, one.decode_tokens))
    flops = updates * (one.learn_flops + one.prefill_flops + one.decode_flops) / 1e18
    one_gpu, eight = (cost.seconds * updates / 3600 for cost in (one, by_eight))
    return f"| {way} | {' | '.join(tokens)} | {flops:,.0f} | {one_gpu:,.0f} | {eight:,.1f} |"


def row_of_parts(one: Cost, gpus: int) -> str:
    parts = {"learn": one.learn_s, "prefill": one.prefill_s, "decode": one.decode_s}
    told = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts.items())
    return f"\nan update with both, window of 2, on {gpus} H100: {told}"


if __name__ == "__main__":
    main()
