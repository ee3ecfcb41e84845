"""What a stage leaves on disk, and how it goes on from there.

checkpoints/step_N/      a plain Hugging Face folder, and in it trained_on.json
checkpoints/best         → the best of them
adapters/step_N/         beside it, of LoRA: the adapter by itself, as peft reads it
episodes/update_N.jsonl  RLVR's, until a state covers the update (kept.py)
trainer_state/step_N/    float32 weights, optimizer, cursor: written last, so where it is, the checkpoint is. One
                         process writes state.pt, several their shards (sharded_state.py); either reads both
done.json                the stage is over: its result
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import torch

from swe_srl.disk import folder_aside, link_aside, write_aside
from swe_srl.lineage import FILE, Lineage
from swe_srl.train import sharded_state
from swe_srl.train.distributed import ALONE, World
from swe_srl.train.kept import covered
from swe_srl.train.model import adapted, core, named_weights
from swe_srl.train.sharded import full
from swe_srl.train.sources import Cursor


@dataclass(slots=True)
class Progress:
    """Where a stage stands after `step` updates. `best_value` is of the stage's metric; higher is better.

    `cpu_s` is what its updates took, where that ends the stage; what a kill took was not counted.
    """

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    best_step: int = 0
    best_value: float = float("-inf")
    since_best: int = 0
    validation: dict[str, Any] = field(default_factory=dict)
    events_bytes: int = 0
    ended: str | None = None
    cpu_s: float = 0.0


Older = Mapping[int, Mapping[str, torch.Tensor]]  # weights by the updates they have had


def step_number(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def saved_steps(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step_*") if path.suffix != ".tmp"), key=step_number)


def save(
    folder: Path,
    progress: Progress,
    model: Any,
    tokenizer: Any,
    optimizer: Any,
    lineage: Lineage,
    keep: int,
    older: Older,
    world: World = ALONE,
) -> None:
    """Write checkpoint and state of the current step, and remove what `keep` no longer covers.

    `older` weights, by their updates, draw batches to come (`ahead.py`): they are of the state.

    A step that is saved already is left as it is: a stage that converges right after it would write the same
    weights, and replacing the only state is a moment without one.
    """
    name = f"step_{progress.step}"
    if not world.agreed((folder / "trainer_state" / name).exists()):
        weights, adapter = _plain_state(model, world), _adapter_state(model)
        if world.leads:
            with folder_aside(folder / "checkpoints" / name) as aside:
                core(model).save_pretrained(aside, state_dict=weights)
                tokenizer.save_pretrained(aside)
                (aside / FILE).write_bytes(lineage.as_bytes())
            if adapter:
                with folder_aside(folder / "adapters" / name) as aside:
                    adapted(model).save_pretrained(aside, state_dict=adapter, save_embedding_layers=False)
        _save_state(folder / "trainer_state" / name, progress, model, optimizer, older, world)
    if world.leads:
        _tidy(folder, progress, keep)
    world.wait()


def _save_state(path: Path, progress: Progress, model: Any, optimizer: Any, older: Older, world: World) -> None:
    if world.size > 1:
        sharded_state.save(path, asdict(progress), adapted(model), optimizer, world)
        return
    with folder_aside(path) as aside:
        weights = {key: value for key, value in model.named_parameters() if value.requires_grad}
        state = {"progress": asdict(progress), "weights": weights, "optimizer": optimizer.state_dict()}
        state |= {"older": older} if older else {}
        torch.save(state, aside / "state.pt")


def _tidy(folder: Path, progress: Progress, keep: int) -> None:
    """Point `best` at the best checkpoint, and remove what `keep` no longer covers."""
    link_aside(folder / "checkpoints" / "best", f"step_{progress.best_step}")
    for state_folder in saved_steps(folder / "trainer_state")[:-1]:
        shutil.rmtree(state_folder)
    recent = saved_steps(folder / "checkpoints")[-keep:]
    for checkpoint in saved_steps(folder / "checkpoints"):
        if checkpoint not in recent and step_number(checkpoint) != progress.best_step:
            shutil.rmtree(checkpoint)
    for adapter in saved_steps(folder / "adapters"):
        if not (folder / "checkpoints" / adapter.name).exists():
            shutil.rmtree(adapter)
    for episodes in covered(folder, progress.step):
        episodes.unlink()


def resume(folder: Path, model: Any, optimizer: Any, keep: int, world: World = ALONE) -> tuple[Progress, Older] | None:
    """Load the last saved state into model and optimizer, and forget what was written after it.

    With the progress, what the state has of weights before its own, on the CPU.
    """
    if world.leads:
        _forget_unsaved(folder)
    world.wait()
    states = saved_steps(folder / "trainer_state")
    if not states:
        return None
    if sharded_state.is_sharded(states[-1]):
        fields, older = sharded_state.load(states[-1], adapted(model), optimizer), {}
    else:
        # mapped: of several ranks each takes its shards of it, and would read all of it else
        state = torch.load(states[-1] / "state.pt", map_location="cpu", weights_only=True, mmap=world.size > 1)
        fields, older = state["progress"], state.get("older", {})
        _restore(state, model, optimizer, world)
    progress = Progress(**(fields | {"cursor": Cursor(**fields["cursor"])}))
    if world.leads:
        _tidy(folder, progress, keep)  # a kill may have come between the state and this
    world.wait()
    return progress, older


def _restore(state: Mapping[str, Any], model: Any, optimizer: Any, world: World) -> None:
    """What one process saved."""
    if world.size > 1:
        sharded_state.spread(state["weights"], state["optimizer"], adapted(model), optimizer)
        return
    own = dict(model.named_parameters())
    with torch.no_grad():
        for key, value in state["weights"].items():
            own[key].copy_(value)
    optimizer.load_state_dict(state["optimizer"])


def _forget_unsaved(folder: Path) -> None:
    """What was written after the last state."""
    states = saved_steps(folder / "trainer_state")
    last = step_number(states[-1]) if states else -1
    for leftover in (
        *folder.glob("*/*.tmp"),
        *_after(folder / "adapters", last),
        *_after(folder / "checkpoints", last),
        *_rollouts_after(folder, last),
    ):
        shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()


def finish(folder: Path, result: dict[str, Any]) -> None:
    write_aside(folder / "done.json", orjson.dumps(result, option=orjson.OPT_INDENT_2))
    for episodes in covered(folder, result["steps"] + 1):  # a stage that converged did not learn from its last ones
        episodes.unlink()


def finished(folder: Path) -> dict[str, Any] | None:
    path = folder / "done.json"
    result: dict[str, Any] | None = orjson.loads(path.read_bytes()) if path.exists() else None
    return result


def _plain_state(model: Any, world: World) -> dict[str, torch.Tensor]:
    """The whole weights, for the rank that writes them; of several ranks each helps to put them together.

    On the host, one after another: merged with an adapter, all of them would take the device a second time.
    """
    return {name: tensor.cpu().contiguous() for name, tensor in named_weights(model) if world.leads}


def _adapter_state(model: Any) -> dict[str, torch.Tensor]:
    """Of LoRA: what is trained, whole; else nothing."""
    network = adapted(model)
    if not hasattr(network, "get_base_model"):
        return {}
    trained = {name: one for name, one in network.named_parameters() if one.requires_grad}
    return {name: full(one.detach()).cpu() for name, one in trained.items()}


def _after(folder: Path, step: int) -> list[Path]:
    return [path for path in saved_steps(folder) if step_number(path) > step]


def _rollouts_after(folder: Path, step: int) -> list[Path]:
    """Of steps after this one: their answers (step_N), and their episodes (episodes_N)."""
    names = folder.glob("rollouts/*_*.jsonl.zst")
    return [path for path in names if int(path.name.split("_")[1].split(".")[0]) > step]
