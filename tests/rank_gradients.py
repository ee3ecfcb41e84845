"""What torchrun starts for test_distributed.py: gradients of a batch, of which each rank computes its share.

torchrun --nproc-per-node N tests/rank_gradients.py FILE      the gathered gradients, norms and new weights
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is imported

import torch
from made import make_group, make_qwen2
from test_rlvr import groups_of_episodes

from swe_srl.config import Lora
from swe_srl.train.distributed import World, leave
from swe_srl.train.first_weights import FirstWeights
from swe_srl.train.loop import token_losses
from swe_srl.train.model import (
    adapted,
    checkpoint_activations,
    core,
    log_probs,
    named_weights,
    share_prefixes,
    with_lora,
)
from swe_srl.train.objective import reinforced
from swe_srl.train.passes import held_before, in_step, share_of
from swe_srl.train.pieces import pack
from swe_srl.train.sharded import full, layers_of, shard
from swe_srl.train_config import SrlStage
from swe_srl.types import Group


@dataclass(frozen=True, slots=True)
class Case:
    """A way to compute the same batch."""

    budget: int = 10_000
    share: bool = True
    again: bool = False  # activations are computed again
    rank: int | None = None  # of an adapter
    tied: bool = False
    sent: bool = False  # rank 0 has the weights, and sends them
    attempts: bool = False  # of several turns, as in RLVR
    dtype: torch.dtype = torch.float32
    bound: float = 1e-5  # relative norm of the difference, for each tensor


CASES = {
    "one piece": Case(),
    "trunks": Case(budget=24),
    "trunks, computed again": Case(budget=24, again=True),
    "rows": Case(share=False, budget=60),
    "tied": Case(budget=24, tied=True),
    "attempts": Case(budget=24, attempts=True),
    "lora": Case(budget=24, rank=4),
    "sent": Case(budget=24, tied=True, sent=True),
    "lora, sent": Case(budget=24, rank=4, sent=True),
    # one process computes in bfloat16 from float32 weights by autocast, ranks gather bfloat16 ones: rounded otherwise
    "bfloat16": Case(budget=24, dtype=torch.bfloat16, bound=0.1),
}


def groups() -> list[Group]:
    """Prompts of one trajectory, which begin alike, and others; unequal lengths."""
    random = torch.Generator().manual_seed(1)

    def ids(n: int) -> list[int]:
        return torch.randint(0, 97, (n,), generator=random).tolist()

    stem, rewards, answers = ids(40), [0.9, 0.1, -1.0, 0.35], [ids(5), ids(6), ids(2), ids(9)]
    prompts = [stem + ids(5), stem + ids(20), stem[:30] + ids(9), ids(14), ids(50)]
    return [make_group(f"a#{n}", n, one, answers, rewards) for n, one in enumerate(prompts)]


def network(case: Case) -> Any:
    return changed(make_qwen2(tie_word_embeddings=case.tied), case)


def changed(model: Any, case: Case) -> Any:
    """For tries, and with an adapter."""
    if case.share:
        share_prefixes(model)
    if case.rank is None:
        return model
    model = with_lora(model, Lora(rank=case.rank, alpha=8), seed=5)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name and not parameter.is_meta:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.1)
    return model


def sent(case: Case, world: World, folder: Path) -> Any:
    """The same, shared: no rank ever has more of it on its device than its shards and a layer, or the ends."""
    if world.leads:
        make_qwen2(tie_word_embeddings=case.tied).save_pretrained(folder)
    world.wait()
    first, model = FirstWeights.of(str(folder), torch.device("cpu"), torch.float32, world)
    if first.read is not None:
        first.read = changed(first.read, case)
    model = changed(model, case)
    in_layers = [sum(one.numel() for one in layer.parameters()) for layer in layers_of(model)]
    ends = sum(one.numel() for one in model.parameters()) - sum(in_layers)

    def fill(network: Any, part: Any) -> None:
        first.fill(network, part)
        whole = sum(one.numel() for one in model.parameters() if not one.is_meta and not hasattr(one, "to_local"))
        assert 0 < whole <= max(*in_layers, ends)

    return shard(model, case.dtype, world, "cpu", fill)


def computed(case: Case, world: World) -> dict[str, Any]:
    """Gradients, their norm, and the weights after one step of plain gradient descent."""
    if case.sent and world.size > 1:
        model = sent(case, world, Path(sys.argv[1]).with_name(f"tied_{case.tied}"))
    else:
        model = network(case)
        if case.again:
            checkpoint_activations(model)
        model = shard(model, case.dtype, world) if world.size > 1 else model
    stage, batch = SrlStage(name="srl", steps=1), reinforced(groups_of_episodes() if case.attempts else groups())
    pieces = pack(share_of(batch.strands, world), case.budget, share=case.share)
    for piece in in_step(model, pieces):
        logp_N, _ = log_probs(model, piece, batch.ids_N[piece.slot_N], 1.0, case.dtype)
        loss_N = token_losses(stage, batch, piece, logp_N, None, None)
        (batch.weight_N[piece.slot_N] * loss_N).sum().backward()
    trained = {name: one for name, one in adapted(model).named_parameters() if one.requires_grad}
    norm = full(torch.nn.utils.clip_grad_norm_(trained.values(), 1e9))
    found = {name: full(one.grad) for name, one in trained.items()}
    torch.optim.SGD(trained.values(), lr=0.1).step()
    held = sum(map(len, held_before(pieces)))
    weights = {name: one.clone() for name, one in named_weights(model)}
    assert set(weights) == set(dict(core(network(Case(tied=case.tied))).named_parameters()))
    return {"gradients": found, "norm": norm, "weights": weights, "passes": world.gather((len(pieces), held))}


def main() -> None:
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        torch.distributed.init_process_group("gloo")
    world = World.here()
    found = {name: computed(case, world) for name, case in CASES.items()}
    if world.leads:
        torch.save(found, sys.argv[1])
    if size > 1:
        leave()


if __name__ == "__main__":
    main()
