"""One rank of two, each with its own vLLM in the process of its trainer: under torchrun, by tests/test_vllm.py.

The ranks answer different numbers of different prompts, so none may wait for the other there; weights are pushed by
both; and what the trainer's ranks say to one another goes on when an engine is closed and another one opened.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from test_engine import END, prompts, tiny_qwen2, trainers

from swe_srl.config import EngineConfig
from swe_srl.engines import Request, Sampling
from swe_srl.engines.choice import open_engine
from swe_srl.train.distributed import leave
from swe_srl.train.model import named_weights


def main(folder: str) -> None:
    dist.init_process_group("gloo")
    rank, model = dist.get_rank(), tiny_qwen2()
    for _ in range(2):
        engine = open_engine(EngineConfig(kind="vllm"), folder, model, torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.01)
        engine.load_weights(named_weights(model))
        asked = [Request(prompt, 100 * rank + seed) for seed, prompt in enumerate(prompts(*[9] * (2 + 5 * rank)))]
        answers = engine.generate(asked, Sampling(1.0, 8 + 8 * rank, END))
        pairs = zip(answers, trainers(model, answers, 1.0), strict=True)
        gap = max(abs(a - b) for tokens, row in pairs for a, b in zip(tokens.logps, row, strict=True))
        assert gap < 1e-5, gap
        engine.close()
        total = torch.ones(1)
        dist.all_reduce(total)
        assert total == 2
    print(f"rank {rank}: as the trainer", flush=True)
    leave()


if __name__ == "__main__":
    main(sys.argv[1])
