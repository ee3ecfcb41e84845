"""A training's config on given devices: what it holds there, whether it fits, and what would help where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from swe_srl.config import Lora
from swe_srl.plan.memory import FLOAT32, GIB, Part, Phases, Work, as_json, overhead, peak, phases
from swe_srl.plan.shape import Shape, shape_of
from swe_srl.plan.step_memory import Held, Pass, forward_peak, held
from swe_srl.prompts import SYSTEM_PROMPTS
from swe_srl.train_config import AnyStage, RlStage, RlvrStage, TrainConfig

_TEMPLATE = 64  # tokens that a chat template and the lines of cuts add to a turn: assumed
_CHARACTERS_A_TOKEN = 3  # of the system prompt: assumed
_TRIE_PREFILL = 2048  # the hf engine's pieces of a prefill over a trie, on a CPU (engines/trie.py)
_VLLM_PREFILL = 16_384  # tokens that vLLM takes at once on a large GPU (its max_num_batched_tokens): assumed
_LEARNT = 4  # one token in so many is an answer's: assumed


@dataclass(frozen=True, slots=True)
class Devices:
    """Ranks, each with a device of its own. On a CPU they share the machine's memory."""

    ranks: int
    kind: str  # "cpu" or "cuda"
    bytes_each: int
    name: str


@dataclass(frozen=True, slots=True)
class Fit:
    """The stage that needs most, on these devices."""

    devices: Devices
    stage: str
    piece: Pass
    work: Work
    phases: Phases

    @property
    def need(self) -> int:
        return peak(self.phases)[1]

    @property
    def host(self) -> int:
        """Bytes of the host's memory while weights are read there, by one process, or by the first rank."""
        shape, size = self.work.shape, self.work.frozen if self.work.shape.adapter else FLOAT32
        return size * shape.parameters if self.devices.kind == "cuda" else 0

    @property
    def fits(self) -> bool:
        return self.need <= self.devices.bytes_each

    def as_json(self) -> dict[str, Any]:
        name, need = peak(self.phases)
        held_by_token = self.piece.tokens
        return {
            "device": self.devices.name,
            "kind": self.devices.kind,
            "ranks": self.devices.ranks,
            "available_gib": round(self.devices.bytes_each / GIB, 1),
            "need_gib": round(need / GIB, 2),
            "fits": self.fits,
            "host_gib": round(self.host / GIB, 1),
            "stage": self.stage,
            "phase": name,
            "phases": as_json(self.phases),
            "piece": {
                "tokens": self.piece.tokens,
                "learnt": self.piece.predicted,
                "activation_checkpointing": self.piece.checkpointing,
                "kept_bytes_a_token": self.work.step.kept // held_by_token,
                "peak_bytes_a_token": self.work.step.peak // held_by_token,
            },
        }


class Fitting:
    """One network in one training, on any devices. What was counted once is not counted again."""

    def __init__(self, config: TrainConfig, network: Any, source: str) -> None:
        self.config, self.network, self.source = config, network, source
        self._held: dict[Pass, Held] = {}
        self._forward: dict[tuple[int, torch.dtype], int] = {}

    def shape(self, lora: Lora | None) -> Shape:
        return shape_of(self.network, self.source, lora)

    def of(self, config: TrainConfig, devices: Devices) -> Fit:
        """Of the stage that needs most."""
        return max((self._of(stage, devices, config) for stage in config.stage), key=lambda fit: fit.need)

    def changes(self, config: TrainConfig, devices: Devices) -> dict[str, float]:
        """GiB needed after one change, for each that helps."""
        now, found = self.of(config, devices).need, dict[str, float]()
        for name, change in _CHANGES.items():
            changed, there = change(config, devices)
            if (changed, there) != (config, devices) and (need := self.of(changed, there).need) < now:
                found[name] = round(need / GIB, 1)
        return found

    def _of(self, stage: AnyStage, devices: Devices, config: TrainConfig) -> Fit:
        dtype: torch.dtype = getattr(torch, config.model.dtype)
        cuda, longest = devices.kind == "cuda", longest_prompt(config, self.shape(None)) + config.engine.max_tokens
        tokens = stage.token_budget if stage.prefix_sharing else max(stage.token_budget, longest)
        piece = Pass(
            tokens=tokens,
            predicted=tokens // _LEARNT,
            answers=stage.group_size if isinstance(stage, RlStage) else 1,
            dtype=dtype,
            cuda=cuda,
            masters=devices.ranks == 1 or dtype == torch.float32,
            checkpointing=stage.activation_checkpointing,
            share=stage.prefix_sharing,
            lora=config.model.lora,
        )
        if piece not in self._held:
            self._held[piece] = held(self.network.config, piece)
        prefill = self._prefill(config, devices)
        if (prefill, dtype) not in self._forward:
            self._forward[prefill, dtype] = forward_peak(self.network.config, prefill, dtype)
        work = Work(
            shape=self.shape(config.model.lora),
            step=self._held[piece],
            ranks=devices.ranks,
            element=dtype.itemsize,
            device=devices.kind,
            frozen=dtype.itemsize,
            engines=1 + (isinstance(stage, RlvrStage) and stage.max_lag > 0),
            vllm=config.engine.kind == "vllm",
            sleeps=config.engine.sleep,
            reference=isinstance(stage, RlStage) and stage.kl > 0 and config.model.lora is None,
            cache_tokens=config.engine.max_batch_tokens,
            forward=self._forward[prefill, dtype],
            prefill_tokens=prefill,
            held_tokens=longest if stage.prefix_sharing else 0,
        )
        return Fit(devices, stage.name, piece, work, phases(work))

    def _prefill(self, config: TrainConfig, devices: Devices) -> int:
        most = config.engine.max_batch_tokens
        if config.engine.kind == "vllm":
            return min(most, _VLLM_PREFILL)
        return most if devices.kind == "cuda" else min(most, _TRIE_PREFILL)


def longest_prompt(config: TrainConfig, shape: Shape) -> int:
    """Tokens of the longest prompt that [prompt] lets through; with all of the history, as many as the model takes."""
    prompt, answer = config.prompt, config.engine.max_tokens
    most = max(shape.positions - answer, 1) if shape.positions is not None else None
    if prompt.window == "all":
        return most or 32_768
    system = len(SYSTEM_PROMPTS[prompt.system]) // _CHARACTERS_A_TOKEN
    turns = prompt.window * (prompt.action_tokens + prompt.observation_tokens + 2 * _TEMPLATE)
    found = system + prompt.issue_tokens + turns + 2 * _TEMPLATE
    return found if most is None else min(found, most)


# ----------------------------------------------------------------------------------------- what would help

Changed = tuple[TrainConfig, Devices]


def _checkpointed(config: TrainConfig, devices: Devices) -> Changed:
    return _with_stages(config, lambda _: {"activation_checkpointing": True}), devices


def _smaller_pieces(config: TrainConfig, devices: Devices) -> Changed:
    return _with_stages(config, lambda one: {"token_budget": min(one.token_budget, 4096)}), devices


def _adapted(config: TrainConfig, devices: Devices) -> Changed:
    if config.model.lora is not None:
        return config, devices
    return config.model_copy(update={"model": config.model.model_copy(update={"lora": Lora(rank=64)})}), devices


def _eight(config: TrainConfig, devices: Devices) -> Changed:
    return config, replace(devices, ranks=max(8, devices.ranks)) if devices.kind == "cuda" else devices


def _half_precision(config: TrainConfig, devices: Devices) -> Changed:
    return config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})}), devices


_CHANGES: Mapping[str, Callable[[TrainConfig, Devices], Changed]] = {
    "train.activation_checkpointing=true": _checkpointed,
    "train.token_budget=4096": _smaller_pieces,
    "model.dtype=bfloat16": _half_precision,
    "model.lora.rank=64": _adapted,
    "torchrun --nproc-per-node 8": _eight,
}


def _with_stages(config: TrainConfig, change: Callable[[AnyStage], dict[str, Any]]) -> TrainConfig:
    return config.model_copy(update={"stage": [one.model_copy(update=change(one)) for one in config.stage]})


def memory_of_answers(shape: Shape, element: int, cache_tokens: int, device: str) -> list[Part]:
    """A policy that only answers: read in float32, copied by its engine, and a cache."""
    numbers = shape.keys_values
    parts = [
        Part("weights as they are read", FLOAT32 * shape.parameters, f"{FLOAT32} B × {shape.parameters:,}"),
        Part("engine's weights", element * shape.parameters, f"{element} B × {shape.parameters:,}"),
        Part(
            "engine's cache",
            element * numbers * cache_tokens,
            f"{element} B × {numbers:,} a token × {cache_tokens:,} tokens",
        ),
    ]
    return [*parts, *overhead(sum(part.bytes for part in parts), device)]
