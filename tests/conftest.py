"""Fixtures of the whole suite. One thread: sums in a fixed order, and two cores for everyone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is imported, here or in a child
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest


@pytest.fixture
def tokenizer() -> Any:
    """A small BPE with a ChatML template; a fresh one for each test, since a Renderer may set its template."""
    from made import make_tokenizer

    return make_tokenizer()


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    """A TrainConfig of seconds: sft → srl."""
    from made import tiny_config

    return tiny_config(tmp_path)
