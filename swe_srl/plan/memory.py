"""The sum of what a training holds on one device, by phase: each part with how it was counted.

Ranks share weights, gradients and Adam's state; each has an engine, a cache and a piece of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from swe_srl.plan.shape import Shape
from swe_srl.plan.step_memory import Held

GIB = 2**30
FLOAT32 = 4
ADAM = 8  # two float32 moments
# Assumed, not measured here:
CONTEXT = {"cuda": int(1.5 * GIB), "cpu": GIB // 2}  # the driver's context, libraries, nccl; on a CPU: the process
FRAGMENTS = 0.05  # of the rest: what an allocator cannot use
GRAPHS = GIB  # vLLM's captured CUDA graphs


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes, and how they were counted."""

    name: str
    bytes: int
    how: str


@dataclass(frozen=True, slots=True)
class Work:
    """All that the sum is of. `engines` sample; `vllm`'s cache stays where it does not sleep in updates.

    `element` is the bytes of the compute type, `frozen` those of a weight that is not trained. `forward` is what a
    prefill of `prefill_tokens` holds beside the cache of `cache_tokens`, `held_tokens` are the longest trunk's.
    """

    shape: Shape
    step: Held
    ranks: int
    element: int
    device: str
    frozen: int = FLOAT32
    engines: int = 1
    vllm: bool = False
    sleeps: bool = False
    reference: bool = False
    cache_tokens: int = 0
    forward: int = 0
    prefill_tokens: int = 0
    held_tokens: int = 0


Phases = Mapping[str, tuple[Part, ...]]


def phases(work: Work) -> Phases:
    """What is on a device when the network is loaded, samples, learns from a piece, and is updated."""
    found = {"load": _load(work), "sample": _sample(work), "learn": _learn(work), "update": _update(work)}
    return {name: tuple(_with_overhead(parts, work)) for name, parts in found.items()}


def total(parts: tuple[Part, ...]) -> int:
    return sum(part.bytes for part in parts)


def peak(found: Phases) -> tuple[str, int]:
    """The phase that needs most, and its bytes."""
    name = max(found, key=lambda name: total(found[name]))
    return name, total(found[name])


def as_json(found: Phases) -> dict[str, Any]:
    return {
        name: {
            "gib": round(total(parts) / GIB, 2),
            "parts": [{"name": part.name, "bytes": part.bytes, "how": part.how} for part in parts],
        }
        for name, parts in found.items()
    }


# ------------------------------------------------------------------------------------------------- phases


def _load(work: Work) -> Iterator[Part]:
    """One process reads all weights, then opens its engine. Of several each opens it, then is sent what it shares."""
    shape, ranks, size = work.shape, work.ranks, work.frozen if work.shape.adapter else FLOAT32
    base, part = shape.parameters, max(shape.ends, shape.a_layer)
    if ranks == 1:
        yield Part("weights", size * base, f"{size} B × {base:,}")
    else:
        how = f"{size} B × ({base:,} / {ranks} + {part:,}): its shards, and what is being shared, a layer or the ends"
        yield Part("weights", size * (_share(base, ranks) + part), how)
    if work.vllm:
        yield from _engine(work)
        yield _cache(work)
    else:
        yield Part("engine's copy", size * base, f"{size} B × {base:,}, before it is {work.element} B")


def _sample(work: Work) -> Iterator[Part]:
    yield from _state(work, gradients=False)
    yield from _engine(work)
    yield _cache(work)
    if work.forward:
        yield Part("prefill", work.forward, f"forward of {work.prefill_tokens:,} tokens, counted layer by layer")


def _learn(work: Work) -> Iterator[Part]:
    yield from _state(work, gradients=True)
    yield from _gathered(work)
    yield from _beside_updates(work)
    yield Part("activations", work.step.kept, "kept from forward to backward, counted on fake tensors")
    yield Part("backward", work.step.peak - work.step.kept, "what it makes beside them, counted on fake tensors")
    if work.held_tokens:
        numbers = work.shape.keys_values
        how = f"2 × {work.element} B × {numbers:,} a token × {work.held_tokens:,} tokens: keys, values, their gradients"
        yield Part("trunk", 2 * work.element * numbers * work.held_tokens, how)


def _update(work: Work) -> Iterator[Part]:
    yield from _state(work, gradients=True)
    yield from _beside_updates(work)
    own = _share(work.shape.trained, work.ranks)
    if work.device == "cuda":
        yield Part("AdamW's temporary", FLOAT32 * own, f"{FLOAT32} B × {own:,}: it goes over all weights at once")
    else:
        largest = work.shape.largest
        yield Part("AdamW's temporary", 2 * FLOAT32 * largest, f"2 × {FLOAT32} B × {largest:,}, the largest weight's")


# -------------------------------------------------------------------------------------------------- parts


def _state(work: Work, *, gradients: bool) -> Iterator[Part]:
    shape, ranks = work.shape, work.ranks
    by = f" / {ranks}" if ranks > 1 else ""
    if shape.adapter:
        frozen = _share(shape.parameters, ranks)
        yield Part("frozen weights", work.frozen * frozen, f"{work.frozen} B × {shape.parameters:,}{by}")
    own = _share(shape.trained, ranks)
    yield Part("trained weights", FLOAT32 * own, f"{FLOAT32} B × {shape.trained:,}{by}")
    if gradients:
        yield Part("gradients", FLOAT32 * own, f"{FLOAT32} B × {shape.trained:,}{by}")
    yield Part("Adam's moments", ADAM * own, f"{ADAM} B × {shape.trained:,}{by}")
    if work.reference:
        yield Part("KL's reference", FLOAT32 * own, f"{FLOAT32} B × {shape.trained:,}{by}")


def _engine(work: Work) -> Iterator[Part]:
    numbers, times = work.shape.parameters, f"{work.engines} × " if work.engines > 1 else ""
    how = f"{times}{work.element} B × {numbers:,}, whole on every device"
    yield Part("engine's weights", work.engines * work.element * numbers, how)
    if work.vllm and work.device == "cuda":
        yield Part("CUDA graphs", GRAPHS, "assumed")


def _cache(work: Work) -> Part:
    numbers = work.shape.keys_values
    size = work.engines * work.element * numbers * work.cache_tokens
    return Part("engine's cache", size, f"{work.element} B × {numbers:,} a token × {work.cache_tokens:,} tokens")


def _beside_updates(work: Work) -> Iterator[Part]:
    if work.sleeps:
        return
    yield from _engine(work)
    if work.vllm:
        yield _cache(work)


def _gathered(work: Work) -> Iterator[Part]:
    """What FSDP puts together: the ends of the network for the whole pass, and two layers at a time."""
    if work.ranks == 1:
        return
    ends, layer, size = work.shape.ends, work.shape.a_layer, work.element
    how = f"{size} B × ({ends:,} + 2 × {layer:,}): embeddings and output layer, and two layers at a time"
    yield Part("gathered weights", size * (ends + 2 * layer), how)
    how = f"{size} B × ({ends:,} + {layer:,}) + {FLOAT32} B × {layer:,} as they are summed"
    yield Part("their gradients", size * (ends + layer) + FLOAT32 * layer, how)


def _with_overhead(parts: Iterator[Part], work: Work) -> Iterator[Part]:
    so_far = 0
    for part in parts:
        so_far += part.bytes
        yield part
    yield from overhead(so_far, work.device)


def overhead(parts: int, device: str) -> Iterator[Part]:
    """What comes on top of parts of so many bytes."""
    yield Part("context", CONTEXT[device], "assumed: driver, libraries, process")
    yield Part("fragments", int(FRAGMENTS * parts), f"assumed: {FRAGMENTS:.0%} of the parts above")


def _share(numbers: int, ranks: int) -> int:
    return -(-numbers // ranks)
