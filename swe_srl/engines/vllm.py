"""The engine for GPUs: vLLM in this process, its weights replaced in place after every optimizer step.

One engine a process, on that process's device: under torchrun every rank has its own, which holds the whole model and
answers that rank's share. Nothing goes through a disk or another process. What was measured, and on what: docs/vllm.md.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from swe_srl.engines import Request, Sampling
from swe_srl.errors import ConfigError, TrainingError
from swe_srl.types import Tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor

INSTALL = "pip install vllm (a GPU), or make vllm (a CPU: a venv of its own)"
CPU_BLOCK = 32  # tokens; what prompts share is found in whole blocks, and vLLM's own on a CPU are of 128
HIT_RATE = "perf/prefix_cache_hit_rate"


class VLLMEngine:
    """A network of the architecture in `path`'s config.json, with the weights that `load_weights` is given.

    It knows nothing until it has been given some. `shapes`: the weights that it takes, by their Hugging Face names.
    `max_batch_tokens` bounds the keys and values that are held at once, and the longest prompt with its answer.
    `sleeps`: whether `rest` gives its memory back until the next weights come; a GPU only. Raises ConfigError.

    Attempts that nobody waits for any more may still be answered in their thread. Whatever else is asked waits for
    that: vLLM would give one caller's answers to the other, and take its weights away from under it.
    """

    def __init__(
        self,
        path: str,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: torch.dtype,
        max_batch_tokens: int = 65_536,
        *,
        sleeps: bool = False,
    ) -> None:
        self.shapes = dict(shapes)
        self.sleeps = sleeps
        self._llm = _open(path, self.shapes, dtype, max_batch_tokens, sleeps)
        self.longest: int = self._llm.model_config.max_model_len
        self._ready = self._resting = False
        self._busy = threading.Lock()
        self._prompt_tokens = self._cached_tokens = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Tokens]:
        if not requests:
            return []
        self._refuse_long(requests, sampling)
        with self._busy:
            assert self._ready, "an engine answers with the weights that it was given: load_weights comes first"
            return self._answers(requests, sampling)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """One tensor at a time, as they come. Raises TrainingError where they are not this network's."""
        with self._busy:
            if self._resting:
                self._llm.wake_up(["weights"])
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": self._checked(weights)})
            self._llm.apply_model(_tie_again)
            if self._resting:
                self._llm.wake_up(["kv_cache"])
                self._resting = False
            self._llm.reset_prefix_cache()
            self._ready = True

    def rest(self) -> None:
        """Before an update: weights and caches leave the device, until the weights after it come."""
        with self._busy:
            if self.sleeps and not self._resting:
                self._llm.sleep(level=2)
                self._resting, self._ready = True, False

    def stats(self) -> dict[str, float]:
        asked, cached = self._prompt_tokens, self._cached_tokens
        self._prompt_tokens = self._cached_tokens = 0
        return {HIT_RATE: cached / asked} if asked else {}

    def close(self) -> None:
        with self._busy:
            if self._llm is not None:
                _shut(self._llm)
                self._llm = None
                _forget()

    def _answers(self, requests: Sequence[Request], sampling: Sampling) -> list[Tokens]:
        # Neighbours share what they begin with, so that a prefix is asked for again before its blocks are given away.
        order = sorted(range(len(requests)), key=lambda index: requests[index].prompt_ids)
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(requests[index].prompt_ids)} for index in order],
            [_parameters(requests[index], sampling) for index in order],
            use_tqdm=False,
        )
        answers: dict[int, Tokens] = {}
        for index, output in zip(order, outputs, strict=True):
            self._prompt_tokens += len(requests[index].prompt_ids)
            self._cached_tokens += output.num_cached_tokens or 0
            answers[index] = _tokens(requests[index], output.outputs[0])
        return [answers[index] for index in range(len(requests))]

    def _refuse_long(self, requests: Sequence[Request], sampling: Sampling) -> None:
        wanted = max(len(request.prompt_ids) for request in requests) + sampling.max_tokens
        if wanted > self.longest:
            raise ConfigError(
                f"a prompt and its answer may be {wanted:,} tokens, and this engine holds {self.longest:,}, the fewer "
                "of the model's positions and engine.max_batch_tokens: raise that, or lower the [prompt]'s limits"
            )

    def _checked(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """What is loaded by vLLM is not looked at there: a name it does not know may be left out without a word."""
        missing = dict(self.shapes)
        for name, tensor in weights:
            shape = missing.pop(name, None)
            if shape is None:
                raise TrainingError(f"weights for vLLM: {name} is none of this network's, or came twice")
            if shape != tuple(tensor.shape):
                raise TrainingError(f"weights for vLLM: {name} has the shape {tuple(tensor.shape)}, expected {shape}")
            yield name, tensor
        if missing:
            raise TrainingError(f"weights for vLLM: {len(missing)} did not come, {next(iter(missing))} among them")


def _open(
    path: str, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, max_batch_tokens: int, sleeps: bool
) -> Any:
    """vLLM's own engine, in this process. Raises ConfigError."""
    llm, current_platform = _imported()
    if sleeps and not current_platform.is_sleep_mode_available():
        raise ConfigError(f"engine.sleep: vLLM cannot sleep on {current_platform.device_name}: leave it out")
    kv_bytes, longest = _memory(path, dtype, max_batch_tokens)
    of_cpu: dict[str, Any] = {
        "enforce_eager": True,  # compiling takes longer than it saves
        "block_size": CPU_BLOCK,
        "enable_chunked_prefill": False,  # a prompt's pieces would each use up a draw of its seed, or fail
        "max_num_batched_tokens": max(longest, 8192),
    }
    try:
        return llm(
            model=path,
            runner="generate",
            skip_tokenizer_init=True,
            load_format="dummy",  # the weights come from the trainer, the first ones too
            dtype=str(dtype).removeprefix("torch."),
            seed=0,
            generation_config="vllm",  # not the model's own
            logprobs_mode="processed_logprobs",  # of logits / T
            enable_prefix_caching=True,
            max_model_len=longest,
            kv_cache_memory_bytes=kv_bytes,
            gpu_memory_utilization=_share(shapes, dtype, kv_bytes),
            enable_sleep_mode=sleeps,
            distributed_executor_backend="external_launcher" if "RANK" in os.environ else None,
            **(of_cpu if current_platform.is_cpu() else {}),
        )
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"vLLM does not take {path}: {str(error).strip()[:500]}") from error


def _imported() -> tuple[Any, Any]:
    """vLLM's engine, and what it found to run on. Raises ConfigError."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process: weights are handed over as they are
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
    try:
        from vllm import LLM
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ConfigError(f'engine.kind = "vllm" needs vLLM ({error}): {INSTALL}') from error
    return LLM, current_platform


def _memory(path: str, dtype: torch.dtype, max_batch_tokens: int) -> tuple[int, int]:
    """Bytes of the keys and values of `max_batch_tokens`, and how long one sequence can be."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_a_token = 2 * config.num_hidden_layers * heads * width * dtype.itemsize
    blocks = 2 + math.ceil(max_batch_tokens / CPU_BLOCK)  # vLLM keeps one for itself, a sliding window one more
    positions = getattr(config, "max_position_embeddings", None) or max_batch_tokens
    return blocks * CPU_BLOCK * bytes_a_token, min(positions, max_batch_tokens)


def _share(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, kv_bytes: int) -> float:
    """The share of the device's memory that will be taken: vLLM refuses to start where less is free."""
    import torch

    wanted = kv_bytes + dtype.itemsize * sum(math.prod(shape) for shape in shapes.values())
    total = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else 2**62
    return min(max(wanted / total, 0.01), 0.98)


def _parameters(request: Request, sampling: Sampling) -> Any:
    """Every field that shapes the distribution is named here."""
    from vllm import SamplingParams

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        repetition_penalty=1.0,
        seed=request.seed,
        max_tokens=sampling.max_tokens,
        stop_token_ids=[sampling.end_id],  # kept in the ids
        ignore_eos=True,  # a model's other ends are tokens like any
        logprobs=0,  # the sampled token's alone
        detokenize=False,
    )


def _tokens(request: Request, output: Any) -> Tokens:
    ids = tuple(output.token_ids)
    logps = tuple(at[token].logprob for token, at in zip(ids, output.logprobs, strict=True))
    if any(math.isnan(logp) for logp in logps):
        raise TrainingError("the model's logits are not numbers (nan): its weights are broken, by too large an lr?")
    return Tokens(request.prompt_ids, ids, logps)


def _tie_again(model: Any) -> None:
    """A CPU's vLLM packs the output layer when it is loaded: one that is the input layer keeps the old weights."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or not getattr(model.config, "tie_word_embeddings", False):
        return
    head, embeddings = getattr(model, "lm_head", None), model.model.embed_tokens
    if head is not None and head is not embeddings:
        head.weight = embeddings.weight
    for layer in (head, embeddings):
        if hasattr(layer, "cpu_linear"):
            dispatch_cpu_unquantized_gemm(layer, remove_weight=False)


def _shut(llm: Any) -> None:
    """What vLLM's own shutdown does, but for its last line: that ends torch.distributed, the trainer's with it."""
    client = llm.llm_engine.engine_core
    client._finalizer.detach()  # would call that shutdown, when it is collected
    client.engine_core.model_executor.shutdown()
    client.engine_core.scheduler.shutdown()


def _forget() -> None:
    """vLLM's parts refer to one another in circles."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
