"""New weights into vLLM: merged and pushed from memory, or an adapter written to a folder and loaded from there.

    .venv-vllm/bin/python benchmarks/vllm_push.py runs/…/checkpoints/best        # a CPU: make vllm

An adapter of all linear layers, changed at random before each of `--rounds`. Seconds from the trainer's weights to an
engine that can answer by them; then answers at T = 1 and T = 0.7, and how far their log-probabilities are from the
trainer's own. "merged" is what `engine.kind = "vllm"` does; "adapter" is vLLM's own way, a new id each time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

RANK, ANSWERS, TOKENS = 16, 4, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    for way in (merged, adapter):
        measure(way, options.path, options.rounds, options.dtype)


def merged(path: str, model: Any, dtype: Any) -> tuple[Any, Callable[[Any], None]]:
    """Our engine, and how it takes new weights."""
    from swe_srl.config import EngineConfig
    from swe_srl.engines.choice import open_engine
    from swe_srl.train.model import named_weights

    engine = open_engine(EngineConfig(kind="vllm", max_batch_tokens=8192), path, model, dtype)
    return engine, lambda adapted: engine.load_weights(named_weights(adapted))


def adapter(path: str, model: Any, dtype: Any) -> tuple[Any, Callable[[Any], None]]:
    """vLLM with adapters, behind the same calls."""
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    from swe_srl.engines.vllm import _parameters, _tokens

    llm = LLM(
        model=path,
        runner="generate",
        skip_tokenizer_init=True,
        dtype=str(dtype).removeprefix("torch."),
        generation_config="vllm",
        logprobs_mode="processed_logprobs",
        enforce_eager=True,
        max_model_len=2048,
        kv_cache_memory_bytes=2**26,
        enable_lora=True,
        max_lora_rank=RANK,
        max_loras=1,
    )
    folder, numbers = tempfile.TemporaryDirectory(), iter(range(1, 1000))

    class Adapted:
        request: Any = None
        keep = folder

        def generate(self, requests: Sequence[Any], sampling: Any) -> list[Any]:
            prompts = [{"prompt_token_ids": list(one.prompt_ids)} for one in requests]
            asked = [_parameters(one, sampling) for one in requests]
            found = llm.generate(prompts, asked, use_tqdm=False, lora_request=self.request)
            return [_tokens(one, output.outputs[0]) for one, output in zip(requests, found, strict=True)]

    engine = Adapted()

    def load(adapted: Any) -> None:
        number = next(numbers)
        place = Path(folder.name) / str(number)
        adapted.save_pretrained(place)
        engine.request = LoRARequest(str(number), number, str(place))
        llm.llm_engine.add_lora(engine.request)
        llm.reset_prefix_cache()

    return engine, load


def measure(way: Callable[..., Any], path: str, rounds: int, dtype_name: str) -> None:
    import torch

    from swe_srl.config import Lora
    from swe_srl.engines import Request, Sampling
    from swe_srl.train.model import load_model, with_lora

    model, dtype = load_model(path, torch.device("cpu")), getattr(torch, dtype_name)
    engine, load = way(path, model, dtype)
    adapted = with_lora(model, Lora(rank=RANK), seed=0)
    generator = torch.Generator().manual_seed(0)
    prompts = [tuple(torch.randint(20, 900, (200,), generator=generator).tolist()) for _ in range(4)]
    asked = [Request(prompt, seed) for prompt in prompts for seed in range(ANSWERS)]
    pushes, samples, gaps = list[float](), list[float](), dict[float, list[float]]()
    for _ in range(rounds):
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if ".lora_B." in name:
                    parameter.normal_(std=0.02, generator=generator)
        began = time.perf_counter()
        load(adapted)
        pushes.append(time.perf_counter() - began)
        for temperature in (1.0, 0.7):
            began = time.perf_counter()
            answers = engine.generate(asked, Sampling(temperature, TOKENS, end_id=0))
            samples.append(time.perf_counter() - began)
            gaps.setdefault(temperature, []).extend(differences(adapted, answers, temperature, dtype))
    print(
        f"{way.__name__:8} {dtype_name}  push {statistics.median(pushes):.3f} s "
        f"({min(pushes):.3f} to {max(pushes):.3f})  {len(asked)} answers {statistics.median(samples):.2f} s"
        + "".join(f"  T = {t}: mean {statistics.fmean(g):.1e}, largest {max(g):.1e}" for t, g in gaps.items()),
        flush=True,
    )


def differences(model: Any, answers: Sequence[Any], temperature: float, dtype: Any) -> Iterator[float]:
    """|trainer − sampler| of each sampled token."""
    import torch

    from swe_srl.train.model import log_probs
    from swe_srl.train.objective import supervised
    from swe_srl.train.pieces import pack
    from swe_srl.types import Group, Sample, Score

    batch = supervised([Group("", 0, (Sample(tokens, Score(None)),)) for tokens in answers])
    for piece in pack(batch.strands, 4096, share=False):
        with torch.no_grad():
            logp_N, _ = log_probs(model, piece, batch.ids_N[piece.slot_N], temperature, dtype)
        yield from (logp_N.cpu() - batch.sampler_N[piece.slot_N]).abs().tolist()


if __name__ == "__main__":
    main()
