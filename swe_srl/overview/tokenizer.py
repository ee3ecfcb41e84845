"""The tokenizer that lengths are counted with: a folder, a tokenizer.json, or a name on the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from swe_srl.errors import ConfigError

_HUB_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?(?<!\.json)")
_SECONDS = 10  # for the hub to answer
_EXPECTED = "Expected a folder with a tokenizer, a tokenizer.json, or a tokenizer's name on the hub (owner/name)"


def load(name: str) -> Any:
    """What exists here is read here: the network is asked for nothing else. Raises ConfigError."""
    path = Path(name).expanduser()
    if path.is_file():
        return _of_file(path)
    if path.is_dir():
        return _of_folder(path)
    if not _HUB_NAME.fullmatch(name):
        raise ConfigError(f"--tokenizer: there is no file or folder {name}. {_EXPECTED}")
    return _of_hub(name)


def _of_file(path: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast(tokenizer_file=str(path))
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ConfigError(f"--tokenizer: the file {path} is no tokenizer.json: {_first_line(error)}") from error


def _of_folder(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # of transformers, of tokenizers, or of the file system
        if (file := folder / "tokenizer.json").is_file():  # alone, or beside a configuration that is not known here
            return _of_file(file)
        raise ConfigError(f"--tokenizer: the folder {folder} holds no tokenizer that loads. {_EXPECTED}") from error


def _of_hub(name: str) -> Any:
    """From the cache where it is there; else the hub is asked once, because transformers would ask it very often."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from transformers import AutoTokenizer

    try:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            if isinstance(cached := try_to_load_from_cache(name, file), str):
                return _of_folder(Path(cached).parent)
        HfApi().model_info(name, timeout=_SECONDS)
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # of the hub's client, of the HTTP library beneath it, or of transformers
        raise ConfigError(
            f"--tokenizer: there is no file or folder {name}, and no tokenizer of this name could be had from the hub: "
            f"{_first_line(error)}. {_EXPECTED}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
