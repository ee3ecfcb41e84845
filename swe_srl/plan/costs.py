"""What an SRL update takes: tokens and FLOPs from the network's shape, seconds from what a GPU is assumed to reach.

swe-srl doctor CONFIG --gpus 8          an update of this config
python benchmarks/scaling.py            the paper's run, as docs/scaling.md tells it
"""

from __future__ import annotations

from dataclasses import dataclass

from swe_srl.plan.shape import Shape
from swe_srl.train_config import RlStage, TrainConfig


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean tokens. `shared` is the part of a batch's prompts that other prompts of it begin with, too."""

    prompt: int
    answer: int
    shared: float


# Measured: benchmarks/lengths.py, 512 draws of ../shared/data/corpus by Qwen2.5's tokenizer, in the paper's prompts.
CORPUS = Lengths(prompt=1339, answer=208, shared=0.416)
CORPUS_FULL = Lengths(prompt=7488, answer=208, shared=0.459)  # with prompt.window = "all"
KEPT = 0.85  # of the groups that are drawn: networks of half a million weights, .83 to .90; not known for 7B


@dataclass(frozen=True, slots=True)
class Batch:
    """`groups` live ones of `answers` each; of the groups that are drawn a share of `kept` is live."""

    groups: int
    answers: int
    kept: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """What is published of one, and the shares of it that are reached: assumed, as MFU of FSDP runs is told."""

    flops: float
    bytes_s: float
    memory: int
    training: float = 0.40
    prefill: float = 0.50
    decode: float = 0.60  # of the bandwidth
    scaling: float = 0.90  # of eight GPUs beside eight times one


H100 = Gpu(flops=989e12, bytes_s=3.35e12, memory=80 * 2**30)  # SXM, bfloat16, dense


@dataclass(frozen=True, slots=True)
class Sharing:
    """`tree`: a batch is learnt from as one trie. `cache`: a prompt is prefilled once for all of its answers."""

    tree: bool = True
    cache: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """Of an update. Tokens and FLOPs are of all GPUs, those that are computed; seconds are the clock's."""

    learnt_tokens: float
    prefill_tokens: float
    decode_tokens: float
    learn_flops: float
    prefill_flops: float
    decode_flops: float
    learn_s: float
    prefill_s: float
    decode_s: float

    @property
    def seconds(self) -> float:
        return self.learn_s + self.prefill_s + self.decode_s


def cost(
    shape: Shape,
    lengths: Lengths,
    batch: Batch,
    gpu: Gpu,
    sharing: Sharing,
    *,
    gpus: int = 1,
    cache_tokens: int,
    longest: int,
    checkpointing: bool,
    element: int = 2,
) -> Cost:
    """Of one update: `batch.groups` are learnt from, groups / kept are drawn; of so many answers one is the `longest`.

    Each GPU has an engine of its own, with `cache_tokens` of keys and values, and draws its share.
    """
    P, A, G = lengths.prompt, lengths.answer, batch.answers
    layers, head = shape.layers * shape.a_layer, shape.hidden * shape.vocabulary
    answers = batch.groups * G
    drawn = answers / batch.kept

    def forward(tokens: float, context: float) -> float:
        """FLOPs of so many tokens that look at `context` keys each: two a weight, and two products of attention."""
        return tokens * (2 * layers + 4 * shape.attention * context)

    prompts = batch.groups * P * (1 - lengths.shared) if sharing.tree else answers * P
    passes = 4 if checkpointing else 3  # forward, two of backward, and forward again
    learnt = passes * (forward(prompts, P / 2) + forward(answers * A, P + A / 2)) + 4 * 2 * head * answers * A
    prefilled = drawn / G * P * (1 - lengths.shared) if sharing.cache else drawn * P
    prefill = forward(prefilled, P / 2) + 2 * head * drawn
    decode = forward(drawn * A, P + A / 2) + 2 * head * drawn * A

    held = P / G + A if sharing.cache else P + A  # tokens of the cache that an answer takes
    own = drawn / gpus
    at_once = max(1.0, min(own, cache_tokens / held))
    turns = own * A / at_once + max(0, longest - A)  # the last answers end one by one, and weights are read for few
    weights, keys = element * (layers + head), element * shape.keys_values * (P + A / 2)
    read_s = (turns * weights + own * A * keys) / (gpu.decode * gpu.bytes_s)
    computed_s = decode / gpus / (gpu.prefill * gpu.flops)
    together = 1.0 if gpus == 1 else gpu.scaling
    return Cost(
        learnt_tokens=prompts + answers * A,
        prefill_tokens=prefilled,
        decode_tokens=drawn * A,
        learn_flops=learnt,
        prefill_flops=prefill,
        decode_flops=decode,
        learn_s=learnt / (gpus * together * gpu.training * gpu.flops),
        prefill_s=prefill / (gpus * together * gpu.prefill * gpu.flops),
        decode_s=max(read_s, computed_s) / together,
    )


def cost_of(
    config: TrainConfig, stage: RlStage, shape: Shape, lengths: Lengths, kept: float, sharing: Sharing, gpus: int = 1
) -> Cost:
    """Of an update of a config's stage on H100s."""
    return cost(
        shape,
        lengths,
        Batch(stage.batch, stage.group_size, kept),
        H100,
        sharing,
        gpus=gpus,
        cache_tokens=config.engine.max_batch_tokens,
        longest=config.engine.max_tokens,
        checkpointing=stage.activation_checkpointing,
    )
