"""What the tests make for themselves: a tokenizer, small networks, logs of an expert, a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import torch

from swe_srl.engines import Request, Sampling
from swe_srl.formats.canonical import to_json
from swe_srl.loading import check
from swe_srl.train_config import TrainConfig
from swe_srl.types import Action, Group, Provenance, Sample, Score, TaskLink, Tokens, Trajectory, Turn

ROOT = Path(__file__).parent.parent

# As Qwen2.5 writes a conversation, less the tools: a default system message, then turns between two tokens.
CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


# ------------------------------------------------------------------------------------------- tokenizers


def own_sources() -> list[str]:
    """The text of this project's own modules: a corpus that is always there."""
    return [path.read_text() for path in sorted((ROOT / "swe_srl").glob("*.py"))]


@cache
def _merges(vocabulary: int) -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(own_sources(), trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return str(bpe.to_str())


def make_tokenizer(template: str | None = CHATML, *, eos: str = "<|im_end|>", vocabulary: int = 600) -> Any:
    """A byte-level BPE learnt from `own_sources`, with a chat template."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_merges(vocabulary)), eos_token=eos, pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = template
    return tokenizer


# -------------------------------------------------------------------------------------------- networks


def make_qwen2(vocabulary: int = 97, *, seed: int = 0, scale: float = 4.0, **changes: Any) -> Any:
    """A small Qwen2. `scale` widens its weights, so that its distributions are far from uniform."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "attn_implementation": "sdpa",
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(Qwen2Config(**(settings | changes)))
    return scaled(model, scale)


def scaled(model: Any, scale: float) -> Any:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(scale)
    return model.eval()


# ---------------------------------------------------------------------------------------------- groups


def make_group(
    key: str, draw: int, prompt: Sequence[int], answers: Sequence[Sequence[int]], values: Sequence[float | None]
) -> Group:
    samples = [
        Sample(Tokens(tuple(prompt), tuple(ids), tuple(-1.0 - 0.1 * i for i in range(len(ids)))), Score(value))
        for ids, value in zip(answers, values, strict=True)
    ]
    return Group(key, draw, tuple(samples))


class ScriptedEngine:
    """An engine whose answers are given: `answers` maps a request to ids."""

    def __init__(self, answers: Any) -> None:
        self.answers = answers
        self.seen: list[Request] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Tokens]:
        self.seen += requests
        found = [tuple(self.answers(request))[: sampling.max_tokens] for request in requests]
        return [Tokens(r.prompt_ids, ids, (-1.0,) * len(ids)) for r, ids in zip(requests, found, strict=True)]

    def load_weights(self, weights: Any) -> None:
        for _ in weights:
            pass

    def rest(self) -> None:
        pass

    def stats(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        pass


# ------------------------------------------------------------------------------------------------ logs


def bash(command: str) -> Action:
    return Action("bash", {"command": command})


def make_trajectory(number: int, steps: int = 4) -> Trajectory:
    """An expert that looks, edits, tests and submits; names differ from one number to the next."""
    name = ["alpha", "beta", "gamma", "delta", "omega", "sigma"][number % 6]
    edit = Action("str_replace_editor", {"command": "insert", "path": "/a.py", "new_str": f"x + {number}"})
    middle = [
        Turn("Look.", bash("cat a.py"), "def f(x):\n    return x + 1\n"),
        Turn("", edit, "Edited."),
        Turn("Test.", bash("pytest"), f"{number} passed"),
    ]
    turns = [middle[k % 3] for k in range(steps - 1)]
    return Trajectory(
        id=f"made-{number}",
        issue=f"{name}(1) is 2, it should be {number + 1}.",
        turns=(*turns, Turn("Done.", Action("submit"), None)),
        provenance=Provenance("made", number + 1, "made"),
        task=TaskLink(f"{name}__{name}-{number}", f"{name}/{name}"),
    )


def write_logs(path: Path, trajectories: Sequence[Trajectory]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(to_json(trajectory)) + b"\n" for trajectory in trajectories))
    return path


def tiny_config(folder: Path, name: str = "run", **changes: Any) -> TrainConfig:
    """sft → srl on six made logs: a network of some 20 thousand weights, seconds a run."""
    logs = folder / "logs.jsonl"
    if not logs.exists():
        write_logs(logs, [make_trajectory(number) for number in range(6)])
    scratch = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "intermediate": 128, "vocabulary": 400}
    warm = {"steps": 70, "batch": 6, "lr": 1e-2, "warmup": 0.1, "save_every": 20, "validate_every": 35}
    data: dict[str, Any] = {
        "run": str(folder / name),
        "data": {"path": str(logs), "validation": ["delta/delta"], "test": ["omega/omega"]},
        "model": {"scratch": scratch},
        "prompt": {"system": "brief", "issue_tokens": 60, "observation_tokens": 60, "action_tokens": 60},
        "engine": {"max_tokens": 90},
        "validation": {"steps": 2},
        "train": {"token_budget": 2048, "validate_every": 3, "save_every": 2},
        "stage": [
            {"name": "warm", "kind": "sft", **warm},
            {"name": "srl", "kind": "srl", "steps": 4, "batch": 2, "group_size": 4, "lr": 1e-3, "kl": 0.01},
        ],
    }
    return check(TrainConfig, data | changes, "made")
