"""Copies of a run's events where people look at curves: tensorboard, Weights & Biases. `events.jsonl` is the truth.

What a kill took out of the events stays in a copy: it may hold a step twice.
"""

from __future__ import annotations

import contextlib
import tomllib
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from swe_srl.disk import write_aside
from swe_srl.errors import ConfigError

Copy = Callable[[Mapping[str, Any]], None]  # is told of each event


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[Copy]:
    """Under folder/tensorboard, each number as stage/key by its step. Raises ConfigError."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError('tensorboard = true needs it: pip install "swe-srl[tensorboard]"') from None
    with SummaryWriter(str(folder / "tensorboard")) as writer:

        def copy(event: Mapping[str, Any]) -> None:
            for name, value in numbers(event).items():
                writer.add_scalar(name, value, event["step"])

        yield copy


@contextlib.contextmanager
def wandb(folder: Path, project: str) -> Iterator[Copy]:
    """A run of a project, the same one when training goes on; WANDB_MODE=offline keeps it here. Raises ConfigError."""
    try:
        import wandb as client
    except ImportError:
        raise ConfigError('wandb needs its package: pip install "swe-srl[wandb]"') from None
    known = folder / "wandb.id"
    if not known.exists():
        write_aside(known, uuid.uuid4().hex.encode())
    try:
        run = client.init(
            project=project,
            name=folder.name,
            id=known.read_text(),
            resume="allow",
            dir=folder,
            config=tomllib.loads((folder / "config.toml").read_text()),
            settings=client.Settings(console="off", silent=True),
        )
    except client.errors.Error as error:
        raise ConfigError(f"wandb = {project!r}: {error}. Run `wandb login`, or set WANDB_MODE=offline") from None
    stages = set[str]()
    with run:

        def copy(event: Mapping[str, Any]) -> None:
            found, step = numbers(event), f"{event.get('stage')}/step"
            if found and step not in stages:
                stages.add(step)
                run.define_metric(f"{event['stage']}/*", step_metric=step)
            if found:
                run.log({**found, step: event["step"]})

        yield copy


def numbers(event: Mapping[str, Any]) -> dict[str, float]:
    """What of a stage's event can be drawn, by stage and key; a validation's apart from its step's."""
    if "stage" not in event:
        return {}
    place = f"{event['stage']}/validation" if event["kind"] == "validation" else event["stage"]
    return {
        f"{place}/{key}": value
        for key, value in event.items()
        if isinstance(value, int | float) and key not in ("step", "time")
    }
