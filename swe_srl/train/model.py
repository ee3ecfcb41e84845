"""The network: made on the spot or loaded, in float32; and log-probabilities of chosen tokens under it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from swe_srl.config import Lora, ModelConfig, Scratch, existing
from swe_srl.errors import ConfigError
from swe_srl.ranges import use_ranges
from swe_srl.train.head import chosen, logits_of
from swe_srl.train.pieces import Piece, cut
from swe_srl.train.sharded import Sharded, full, layers_of
from swe_srl.train.tree import Strand, grow
from swe_srl.train.trunk import hidden_states

# The tags of the policy's form: one token each, added after the merges are learnt on text without them.
TAGS = ["<think>", "</think>", "<function=", "</function>", "<parameter=", "</parameter>"]
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]


# --------------------------------------------------------------------------------------------- loading


def device_of(config: ModelConfig) -> torch.device:
    """The device that is meant. Raises ConfigError for one that this machine has not."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=config.device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"model.device: {config.device!r} cannot be used here ({_first_line(error)}). Expected auto, cpu, or cuda "
            "with a GPU and a CUDA build of torch"
        ) from None


def load_tokenizer(path: str) -> Any:
    """A tokenizer from a folder or a hub name. Raises ConfigError."""
    from transformers import AutoTokenizer

    with readable(path):
        return AutoTokenizer.from_pretrained(path)


def load_model(path: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """A causal language model without dropout. Raises ConfigError.

    What is trained is float32; what an adapter leaves frozen may be in the compute type, at half the memory.
    """
    from transformers import AutoModelForCausalLM

    with readable(path):
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="sdpa")
    model = model.to(device).eval()  # dropout would make shared prefixes share their noise
    _check_head(model)
    return model


def model_on_meta(path: str, dtype: torch.dtype | None = None) -> Any:
    """The same network without memory: its shapes alone, of the config's type or another. Raises ConfigError."""
    from transformers import AutoConfig, AutoModelForCausalLM

    more: dict[str, Any] = {} if dtype is None else {"dtype": dtype, "attn_implementation": "sdpa"}
    with readable(path), torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), **more).eval()


def with_lora(model: Any, lora: Lora, seed: int) -> Any:
    """The model with an untrained adapter. Raises ConfigError."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise ConfigError('model.lora needs peft: pip install "swe-srl[lora]"') from None

    settings = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(), torch.device("meta") if model.device.type == "meta" else contextlib.nullcontext():
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(model, settings).eval()
        except ValueError as error:  # no module has such a name
            raise ConfigError(f"model.lora: {_first_line(error)}") from error
    ends = (core(adapted).get_input_embeddings(), core(adapted).get_output_embeddings())
    if model.config.get_text_config().tie_word_embeddings and any(hasattr(end, "base_layer") for end in ends):
        raise ConfigError(
            "model.lora.targets: this model's input and output layers are one matrix, and an adapter of one of them "
            "would change the other where it is merged: leave both out"
        )
    return adapted


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Whatever goes wrong while a model is read from `path` is said of model.path. Raises ConfigError."""
    existing(path)
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"model.path: {path} does not load as a causal language model: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def build_scratch(texts: Iterable[str], scratch: Scratch, seed: int, folder: Path) -> None:
    """Write a Qwen2-architecture network and its tokenizer, learnt from `texts`, as a Hugging Face folder."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    from swe_srl.render import PLAIN_TEMPLATE

    # AutoTokenizer reads the tokenizer of a Qwen2 network as a Qwen2Tokenizer, whatever was saved: it must be one
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|pad|>", *ROLES]
    trainer = trainers.BpeTrainer(
        vocab_size=scratch.vocabulary - len(special) - len(TAGS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((_without_tags(text) for text in texts), trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    bpe.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<|end|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = PLAIN_TEMPLATE
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = scratch_config(scratch, len(tokenizer))
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def scratch_config(size: Scratch, vocabulary: int) -> Any:
    """Of the network that is made on the spot."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=size.max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
    )


def _without_tags(text: str) -> str:
    for tag in TAGS:
        text = text.replace(tag, "\n")
    return text


# --------------------------------------------------------------------------------------------- weights


def core(model: Any) -> Any:
    """The transformers model inside shards and an adapter, or the model itself."""
    network = adapted(model)
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def adapted(model: Any) -> Any:
    """The model without what shares it among ranks: with its adapter, if it has one."""
    return model.network if isinstance(model, Sharded) else model


def named_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The weights by their plain Hugging Face names, adapters merged in; the model itself stays as it is.

    Shards are put together one weight at a time, by all ranks at once.
    """
    seen: set[str] = set()
    for name, module in core(model).named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "get_delta_weight"):
            delta = sum(module.get_delta_weight(adapter) for adapter in module.active_adapters)
            for inner, parameter in module.base_layer.named_parameters(recurse=False):
                merged = parameter + delta if inner == "weight" else parameter
                seen.add(f"{name}.{inner}")
                yield f"{name}.{inner}", full(merged.detach())
    for name, parameter in core(model).named_parameters():
        if ".base_layer." not in name and ".lora_" not in name and name not in seen:
            yield name, full(parameter.detach())


# ------------------------------------------------------------------------------------ log-probabilities


def log_probs(model: Any, piece: Piece, ids_N: Tensor, temperature: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy (nats, detached) of each prediction of a piece, [N] and [N], in float32.

    `ids_N` are the tokens predicted, in the piece's order. Both are of logits / temperature. Logits exist for
    a bounded number of predictions at a time and are recomputed in backward, so that peak memory does not
    grow with length × vocabulary.
    """
    device = next(model.parameters()).device

    def computed() -> tuple[Tensor, Tensor]:
        hidden_RTD = _hidden_states(core(model).base_model, piece)
        hidden_ND = hidden_RTD[piece.row_N.to(device), piece.source_N.to(device)]
        return chosen(core(model), hidden_ND, ids_N.to(device), temperature, dtype)

    if isinstance(model, Sharded):
        found: tuple[Tensor, Tensor] = model(computed)
        return found
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        return computed()


def _hidden_states(model: Any, piece: Piece) -> Tensor:
    return plain_hidden_states(model, piece) if piece.limb is None else hidden_states(model, piece.limb)


def plain_hidden_states(model: Any, piece: Piece) -> Tensor:
    """[R, T, D] of rows that are sequences by themselves."""
    hidden_RTD: Tensor = model(
        input_ids=piece.ids_RT.to(model.device), position_ids=piece.depth_RT.to(model.device), use_cache=False
    ).last_hidden_state
    return hidden_RTD


def checkpoint_activations(model: Any) -> None:
    """Keep each decoder layer's input alone, and compute the layer again in backward."""
    network = core(model)
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for layer in layers_of(network):
        layer.training = (
            True  # it is looked at where layers are computed again; what is inside stays in eval, undropped
        )


def share_prefixes(model: Any) -> None:
    """Let a model compute tries. Raises ConfigError for one whose attention is no function of (query, key, depths).

    That is tried where there are weights, and not on the meta device.
    """
    if trouble := use_ranges(model, _tree_trouble if model.device.type != "meta" else lambda _: None):
        raise ConfigError(
            f"{model.config.model_type}: prefixes cannot be shared with this model ({trouble}). Set "
            "train.prefix_sharing = false: every sequence is then computed by itself"
        )


@torch.no_grad()
def _tree_trouble(model: Any) -> str | None:
    """What is wrong with a small trie, cut into pieces, beside the same sequences by themselves."""
    strands = [Strand((0, 1, 2, 3), (1, 0, 2), 0), Strand((0, 1, 2, 3), (2, 1), 3), Strand((0, 1), (3, 1), 5)]
    inner, together = model.base_model, torch.zeros(7, model.config.get_text_config().hidden_size, device=model.device)
    for piece in cut(grow(strands), 4):
        assert piece.limb is not None
        together[piece.slot_N] = hidden_states(inner, piece.limb)[0, piece.source_N].float()
    gap = 0.0
    for one in strands:
        ids = torch.tensor([one.inputs], device=model.device)
        alone = inner(input_ids=ids, use_cache=False).last_hidden_state[0, len(one.prompt_ids) - 1 :].float()
        gap = max(gap, float((alone - together[one.slot : one.slot + len(one.ids)]).abs().max() / alone.abs().max()))
    bound = max(1e-3, 8 * torch.finfo(model.dtype).eps)
    return f"its hidden states differ by {gap:.2g}" if gap > bound else None


def _check_head(model: Any) -> None:
    """Refuse a model whose logits are not its head on its hidden state, or that has no positions: both would be
    computed wrongly."""
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        raise ConfigError(f"{model.config.model_type}: a model without position ids (recurrent?) is not supported")
    ids = torch.arange(8, device=model.device)[None]
    try:
        with torch.no_grad():
            ours = logits_of(model, model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
            theirs = model(input_ids=ids, use_cache=False).logits
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ConfigError(f"{model.config.model_type}: its forward pass fails ({_first_line(error)})") from error
    gap = float((ours - theirs).abs().max())
    if gap > 1e-3:
        raise ConfigError(
            f"{model.config.model_type}: its logits are not its output layer applied to its hidden state (they differ "
            f"by {gap:.2g}), so they cannot be computed in chunks"
        )
