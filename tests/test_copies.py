"""A run's events, copied to tensorboard and Weights & Biases (offline)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb as client
from made import tiny_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from swe_srl.copies import tensorboard, wandb
from swe_srl.errors import ConfigError
from swe_srl.runs import Run


@pytest.fixture(autouse=True)
def apart() -> Iterator[None]:
    """What the client remembers of the environment goes with each test."""
    yield
    client.teardown()


def tell(run: Run) -> None:
    run.event(event="began", weights="abc")
    run.event(kind="validation", stage="warm", step=0, loss=3.5, interval=[3.0, 4.0])
    run.event(kind="step", stage="warm", step=1, loss=2.5, **{"rlvr/lag_histogram": {"0": 8}})
    run.event(kind="step", stage="srl", step=1, reward=0.25)


def test_tensorboard(tmp_path: Path) -> None:
    """Validation's loss is not a step's; what is no number is left out."""
    run = Run(tmp_path / "run", tiny_config(tmp_path))
    with run.held(tensorboard(run.folder)):
        tell(run)
    found = EventAccumulator(str(run.folder / "tensorboard"))
    found.Reload()
    told = {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert told == {"warm/validation/loss": [(0, 3.5)], "warm/loss": [(1, 2.5)], "srl/reward": [(1, 0.25)]}


def test_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that goes on is the same run there."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = Run(tmp_path / "run", tiny_config(tmp_path))
    for _ in range(2):
        with run.held(wandb(run.folder, "agents")):
            tell(run)
    client.teardown()  # its own process has written all
    name = (run.folder / "wandb.id").read_text()
    kept = list(run.folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert {path.name for path in kept} == {f"run-{name}.wandb"}
    assert all(b"warm/validation/loss" in path.read_bytes() for path in kept)


def test_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run = Run(tmp_path / "run", tiny_config(tmp_path))
    with pytest.raises(ConfigError, match="WANDB_MODE=offline"), run.held(wandb(run.folder, "agents")):
        pass


def test_a_rank_that_does_not_write_copies_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", tiny_config(tmp_path), writes=False)
    with run.held(tensorboard(run.folder)):
        tell(run)
    assert list(run.folder.iterdir()) == []
