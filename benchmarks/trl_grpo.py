"""One optimizer step of swe-srl beside TRL's GRPOTrainer, on the same groups: seconds, peak memory, equal gradients.

    python -m venv /tmp/trl && /tmp/trl/bin/pip install torch==2.13.0 transformers==5.23.0 trl==1.16.0
    python benchmarks/trl_grpo.py --peer-python /tmp/trl/bin/python               # N = 5, 10; full history and window 2
    python benchmarks/trl_grpo.py --peer-python … --prompt 4096 --steps 1         # one long prompt, G answers
    python benchmarks/trl_grpo.py --peer-python … --check                         # gradients, in two minutes

The batch and the network of prefix_tree.py: N prompts of one run, G = 8 answers each, float32, one thread. Both are
given the same weights, prompts, answers and rewards, and do what they do from there to the new weights: advantages,
batches, forward, backward, clip, AdamW. Ours is the loop's own `learn`; TRL gets the answers by `rollout_func`, and
its step is what lies between its callbacks `on_step_begin` and `on_step_end`. It keeps its own settings: beta 0, loss
"dapo", one iteration; no gradient checkpointing. Two ways of it:

    as it comes    the batch is generated at once, so all prompts are padded to the longest
    by group       steps_per_generation = 1: a group at a time, equally long, so nothing is padded

Of both `--rows` go forward at a time, 8 unless told.

"with sampling" is the step that draws its answers too, 120 tokens each: TRL by `generate` of transformers (by group),
ours by the hf engine, with the new weights' way back to it. `--full-turns 1` takes it, and TRL as it comes, once only.

Each way is a process of its own, in turns, CPU seconds by ratio within a turn; memory is the peak above the start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from prefix_tree_batches import GROUP, HEADS, INNER, KV_HEADS, LAYERS, VOCABULARY, WIDTH, made


def write_batch(folder: Path, steps: int, window: str, prompt: int) -> None:
    """The groups, and the weights that both begin with."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    batch = made(steps, None if window == "full" else int(window), prompt)
    rows = [{"prompt": prompt_ids, "answers": answers} for prompt_ids, answers in batch.groups]
    (folder / "groups.json").write_text(json.dumps(rows))
    torch.manual_seed(0)
    settings = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
    settings |= {"num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": 65536}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, **settings)).save_pretrained(folder / "model")


def step(way: str, folder: Path, options: argparse.Namespace, *flags: str) -> dict[str, float]:
    python = sys.executable if way == "ours" else options.peer_python
    script = Path(__file__).with_name("trl_grpo_steps.py")
    named = [way, str(folder), "--budget", str(options.budget), "--rows", str(options.rows)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, script, *named, *flags], capture_output=True, text=True, env=alone)
    if done.returncode:
        raise SystemExit(f"{way} {' '.join(flags)}: exit status {done.returncode}\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


# ----------------------------------------------------------------------------------------------- what is shown


def check(options: argparse.Namespace) -> None:
    """The whole batch's gradient, tensor by tensor, up to one factor."""
    from safetensors.torch import load_file

    print("gradients: TRL's times the factor that fits best, beside ours")
    for steps, window, padded in ((3, "full", ()), (3, "full", ("--padded",)), (5, "2", ())):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_batch(folder, steps, window, options.prompt)
            step("ours", folder, options, "--check")
            step("trl", folder, options, "--check", *padded)
            a, b = (load_file(folder / f"{way}.grads") for way in ("ours", "trl"))
        dot = sum(float((a[name].double() * b[name].double()).sum()) for name in a)
        size_a, size_b = (sum(float(one.double().square().sum()) for one in each.values()) for each in (a, b))
        factor = dot / size_b
        worst = max(float((a[name] - factor * b[name]).norm() / a[name].norm()) for name in a)
        print(
            f"  N = {steps}, {window}{', padded' if padded else ''}: factor {factor:.5f}; "
            f"1 - cosine {1 - dot / (size_a * size_b) ** 0.5:.1e}; worst tensor off by {worst:.1e} of its norm"
        )
    print(f"  the factor should be sqrt(8/7) = {(8 / 7) ** 0.5:.5f}: TRL divides by the sample's standard deviation")


def compared(steps: int, window: str, options: argparse.Namespace) -> tuple[str, ...]:
    """A row of the table."""
    ways = {"ours": ("ours",), "by group": ("trl",), "as it comes": ("trl", "--padded")}
    ways |= {"ours, sampled": ("ours", "--sample"), "by group, sampled": ("trl", "--sample")}
    if steps == 1:
        del ways["as it comes"]  # one prompt: nothing to pad
    turns: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_batch(folder, steps, window, options.prompt)
        for turn in range(options.repeats):
            now = ways if turn < options.full_turns else {way: ways[way] for way in ("ours", "by group")}
            turns.append({way: step(flags[0], folder, options, *flags[1:]) for way, flags in now.items()})
            print(json.dumps({"steps": steps, "window": window, **turns[-1]}), file=sys.stderr, flush=True)

    def of(way: str, key: str) -> list[float]:
        return [turn[way][key] for turn in turns if way in turn]

    def middle(way: str) -> str:
        return f"{statistics.median(of(way, 'seconds')):.1f}" if of(way, "seconds") else ""

    def ratio(way: str, base: str) -> str:
        # what is not in every turn is in the first ones
        found = [a / b for a, b in zip(of(way, "seconds"), of(base, "seconds"), strict=False)]
        if len(found) < 2:
            return "".join(f"{one:.1f}" for one in found)
        return f"{statistics.median(found):.1f} ({min(found):.1f}–{max(found):.1f})"

    memory = (max(of(way, "mb")) for way in ("as it comes", "by group", "ours") if of(way, "mb"))
    return (
        *(str(steps), window, *(middle(way) for way in ("as it comes", "by group", "ours"))),
        *(ratio("as it comes", "ours"), ratio("by group", "ours"), " / ".join(f"{mb:.0f}" for mb in memory)),
        *(middle("by group, sampled"), middle("ours, sampled"), ratio("by group, sampled", "ours, sampled")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer-python", help="of an environment with trl")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--window", choices=["full", "2"], help="else both")
    parser.add_argument("--prompt", type=int, default=0, help="tokens of the issue, instead of 300")
    parser.add_argument("--budget", type=int, default=2048, help="tokens of a piece of ours")
    parser.add_argument("--rows", type=int, default=GROUP, help="TRL's per_device_train_batch_size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--full-turns", type=int, default=10**9, help="turns that take all ways")
    parser.add_argument("--check", action="store_true", help="compare gradients instead")
    options = parser.parse_args()
    if options.peer_python is None:
        parser.error("--peer-python is needed: the python of an environment with trl")
    if options.check:
        check(options)
        return
    heads = ("N", "history", "TRL as it comes s", "TRL by group s", "ours s", "as it comes / ours", "by group / ours")
    heads += ("MB of each", "with sampling: TRL s", "ours s", "TRL / ours")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for window in [options.window] if options.window else ["full", "2"]:
        for steps in options.steps:
            print(f"| {' | '.join(compared(steps, window, options))} |", flush=True)


if __name__ == "__main__":
    main()
