"""Which pieces of a batch a rank computes, and how ranks go through them in step.

The weights of target tokens are of the whole batch, which every rank has formed: the gradient is a sum over sequences,
in whatever shares they are computed. A rank takes the sequences of a part of the trie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch

from swe_srl.engines.prefixes import new_tokens
from swe_srl.train.distributed import World
from swe_srl.train.model import core, plain_hidden_states
from swe_srl.train.pieces import Limb, Piece
from swe_srl.train.sharded import Sharded
from swe_srl.train.tree import Strand
from swe_srl.train.trunk import hold

Strands = Sequence[Sequence[Strand]]  # by group


def share_of(groups: Strands, world: World) -> Strands:
    """This rank's sequences of a batch: neighbours in the trie, of about as many of its tokens as another rank has.

    What is shared across a cut is computed on both sides of it.
    """
    if world.size == 1:
        return groups
    strands = sorted((one for group in groups for one in group), key=lambda one: (one.inputs, one.slot))
    costs = [new + 1 for new in new_tokens(one.inputs for one in strands)]
    share, before, total = list[Strand](), 0, sum(costs)
    for strand, cost in zip(strands, costs, strict=True):
        if (2 * before + cost) * world.size // (2 * total) == world.rank:  # where its middle lies
            share.append(strand)
        before += cost
    return [share]


def in_step(model: Any, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces; a rank of several goes through as many passes as every other one, idle where it has none left.

    Trunks are held before the piece that looks at them, and each of these is a pass.
    """
    if not isinstance(model, Sharded):
        yield from pieces
        return
    wanted = held_before(pieces)
    plans = model.world.gather([len(trunks) for trunks in wanted])
    for turn in range(max(map(len, plans))):
        own = wanted[turn] if turn < len(wanted) else []
        for n in range(max(plan[turn] for plan in plans if turn < len(plan))):
            _hold(model, own[n] if n < len(own) else None)
        yield pieces[turn] if turn < len(pieces) else idle()


def held_before(pieces: Sequence[Piece]) -> list[list[Limb]]:
    """The trunks whose keys and values each piece needs and no earlier one has left, those above first."""
    held: set[Limb] = set()
    found: list[list[Limb]] = []

    def need(limb: Limb) -> Iterator[Limb]:
        for trunk in limb.above:
            if trunk not in held:
                yield from need(trunk)
                held.add(trunk)
                yield trunk

    for piece in pieces:
        found.append(list(need(piece.limb)) if piece.limb is not None else [])
        if piece.limb is not None:
            held.discard(piece.limb)  # a trunk's own turn is its last
    return found


@cache
def idle() -> Piece:
    """A piece of one token and no prediction: its gradient is zero, and there is one for every weight."""
    nothing = torch.empty(0, dtype=torch.long)
    zero = torch.zeros(1, 1, dtype=torch.long)
    return Piece(zero, zero, nothing, nothing, nothing)


@torch.no_grad()
def _hold(model: Sharded, trunk: Limb | None) -> None:
    network = core(model).base_model
    if trunk is None:
        model(lambda: plain_hidden_states(network, idle()))
    else:
        model(lambda: hold(network, trunk))
