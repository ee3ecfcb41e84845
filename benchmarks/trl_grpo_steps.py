"""One optimizer step, ours or TRL's, in a process of its own; started by trl_grpo.py. Prints {"seconds", "mb"}."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prefix_tree_batches import ANSWER, GROUP, VOCABULARY

FREE = 1e9  # a bound on the gradient's norm that does not bind, so that gradients can be compared


def model_of(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="sdpa")


def peak_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def reward(ids: Any) -> float:
    """The mean id: any number that differs will do, so long as TRL's 1e-4 beside the deviation is nothing."""
    return sum(ids) / len(ids)


def keep_gradients(model: Any, folder: Path, way: str) -> None:
    from safetensors.torch import save_file

    save_file({name: parameter.grad.clone() for name, parameter in model.named_parameters()}, folder / f"{way}.grads")


# ------------------------------------------------------------------------------------------------------ ours


def ours(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    from swe_srl.engines import Request, Sampling
    from swe_srl.engines.hf import HFEngine
    from swe_srl.train.loop import learn
    from swe_srl.train.measure import Meter
    from swe_srl.train.model import named_weights, share_prefixes
    from swe_srl.train.sources import Cursor
    from swe_srl.train.take import Draw
    from swe_srl.types import Group, Sample, Score, Tokens

    rows = json.loads((folder / "groups.json").read_text())
    answers = [[Tokens(tuple(row["prompt"]), tuple(ids), ()) for ids in row["answers"]] for row in rows]
    asked = [Request(one.prompt_ids, n) for n, one in enumerate(one for group in answers for one in group)]
    model = model_of(folder).eval()
    share_prefixes(model)
    stage = what_learn_reads(model, len(rows), folder, options)
    engine = HFEngine(model) if options.sample else None
    before, began = peak_mb(), time.process_time()
    if engine is not None:
        drawn = engine.generate(asked, Sampling(1.0, ANSWER, -1))
        answers = [drawn[n : n + GROUP] for n in range(0, len(drawn), GROUP)]
    groups = tuple(
        Group(str(n), n, tuple(Sample(one, Score(reward(one.ids))) for one in group)) for n, group in enumerate(answers)
    )
    learn(stage, Draw(groups, groups, Cursor()), Meter())
    if engine is not None:
        engine.load_weights(named_weights(model))
    return {"seconds": time.process_time() - began, "mb": peak_mb() - before}


def what_learn_reads(model: Any, groups: int, folder: Path, options: argparse.Namespace) -> Any:
    """Of a `StageRun`; the rest of one is for drawing, validation and saving."""
    import torch

    from swe_srl.train_config import SrlStage

    bound = FREE if options.check else 1.0
    settings = SrlStage(name="srl", steps=1, batch=groups, token_budget=options.budget, max_grad_norm=bound)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    if options.check:
        optimizer.register_step_pre_hook(lambda *_: keep_gradients(model, folder, "ours"))
    first = SimpleNamespace(step=0)
    parts = {"settings": settings, "total": 1, "model": model, "optimizer": optimizer, "progress": first}
    return SimpleNamespace(**parts, dtype=torch.float32, reference=None)


# ------------------------------------------------------------------------------------------------------- TRL


def trl(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1"}
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    rows = json.loads((folder / "groups.json").read_text())
    by_prompt = {" ".join(f"t{n}" for n in row["prompt"]): row for row in rows}
    found: dict[str, float] = {}

    def given(asked: list[str], trainer: Any) -> dict[str, Any]:
        answers = [by_prompt[prompt]["answers"].pop(0) for prompt in asked]
        ids = [by_prompt[prompt]["prompt"] for prompt in asked]
        return {"prompt_ids": ids, "completion_ids": answers, "logprobs": None}

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            found["seconds"] = -time.process_time()

        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            if options.check:
                keep_gradients(model, folder, "trl")

        def on_step_end(self, *_: Any, **__: Any) -> None:
            found["seconds"] += time.process_time()

    trainer = GRPOTrainer(
        model=model_of(folder),
        reward_funcs=lambda completion_ids, **_: [reward(one) for one in completion_ids],
        args=trl_settings(len(rows), folder, options),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in by_prompt]),
        processing_class=words(),
        callbacks=[Clock()],
        rollout_func=None if options.sample else given,
    )
    before = peak_mb()
    trainer.train()
    return found | {"mb": peak_mb() - before}


def trl_settings(groups: int, folder: Path, options: argparse.Namespace) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=options.rows,
        gradient_accumulation_steps=groups * GROUP // options.rows,
        steps_per_generation=None if options.padded else max(GROUP // options.rows, 1),
        num_generations=GROUP,
        max_completion_length=ANSWER,
        generation_kwargs={"min_new_tokens": ANSWER},  # as long as ours
        shuffle_dataset=False,
        learning_rate=5e-7,
        max_grad_norm=FREE if options.check else 1.0,
        max_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def words() -> Any:
    """A tokenizer whose id n is written "tn"."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({f"t{n}": n for n in range(VOCABULARY)}, unk_token="t0"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="t0", pad_token="t1")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["ours", "trl"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--padded", action="store_true")
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    print(json.dumps((ours if options.way == "ours" else trl)(options.folder, options)))


if __name__ == "__main__":
    main()
