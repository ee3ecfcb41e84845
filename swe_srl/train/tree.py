"""Sequences → tries of tokens → padded rows: a prefix that samples share is computed once.

The G samples of a prompt share all of it. Their sequences are merged into one trie, laid out depth-first:
`end[i]` is the first position after token i's subtree, so

    position q may look at position kv   iff   kv <= q < end[kv]

Position ids are depths, and the first token of a branch is predicted at its parent's last position. The loss
and every gradient equal those of separate sequences, to float rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Strand:
    """A prompt and the tokens after it that are learnt. `slot` is the batch-wide number of its first one."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    slot: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """What goes in: all but the last token, from which nothing is predicted."""
        return self.prompt_ids + self.ids[:-1]


@dataclass(frozen=True, slots=True)
class Tree:
    """A trie of n tokens in depth-first order, and for each learnt token where it is predicted."""

    ids: list[int]
    depth: list[int]
    end: list[int]
    source: list[int]
    slot: list[int]

    @property
    def branches(self) -> bool:
        return self.end != [len(self.ids)] * len(self.ids)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one forward pass takes: R rows of T tokens, and N predictions.

    `mask_R1TT` is None where every row is one plain sequence. `slot_N` numbers the predictions batch-wide.
    """

    ids_RT: Tensor
    depth_RT: Tensor
    mask_R1TT: Tensor | None
    row_N: Tensor
    source_N: Tensor
    slot_N: Tensor


def grow(sequences: Iterable[Strand]) -> Tree:
    """Merge sequences by their longest common prefixes, in time linear in their tokens once sorted."""
    tree = Tree([], [], [], [], [])
    path: list[int] = []  # positions of the last sequence's tokens
    last: tuple[int, ...] = ()
    for sequence in sorted(sequences, key=lambda sequence: sequence.inputs):
        inputs = sequence.inputs
        shared = _common_prefix(last, inputs)
        for position in path[shared:]:
            tree.end[position] = len(tree.ids)
        fresh = range(len(tree.ids), len(tree.ids) + len(inputs) - shared)
        path = path[:shared] + list(fresh)
        tree.ids.extend(inputs[shared:])
        tree.depth.extend(range(shared, len(inputs)))
        tree.end.extend([0] * len(fresh))
        first = len(sequence.prompt_ids) - 1
        tree.source.extend(path[first : first + len(sequence.ids)])
        tree.slot.extend(range(sequence.slot, sequence.slot + len(sequence.ids)))
        last = inputs
    for position in path:
        tree.end[position] = len(tree.ids)
    return tree


def pack(groups: Sequence[Sequence[Strand]], token_budget: int, *, share: bool) -> list[Piece]:
    """Pieces of at most `token_budget` tokens, padding included (more only where one sequence is longer).

    With `share` each group becomes one tree, or several where it is over the budget; without, each sequence
    is a row of its own.
    """
    trees: list[Tree] = []
    for group in groups:
        if not share:
            trees += [grow([sequence]) for sequence in group]
            continue
        rest = list(group)
        while rest:
            size = len(rest)
            while size > 1 and _tree_bound(rest[:size]) > token_budget:
                size = (size + 1) // 2
            trees.append(grow(rest[:size]))
            rest = rest[size:]
    trees.sort(key=lambda tree: len(tree.ids))  # stable: equal lengths stay in the batch's order
    pieces: list[Piece] = []
    rows: list[Tree] = []
    for tree in trees:
        if rows and (len(rows) + 1) * len(tree.ids) > token_budget:
            pieces.append(_piece(rows))
            rows = []
        rows.append(tree)
    return [*pieces, _piece(rows)] if rows else pieces


def attention_mask(end_RT: Tensor) -> Tensor:
    """[R, 1, T, T] bool: `kv <= q < end[kv]`."""
    position_T = torch.arange(end_RT.shape[1], device=end_RT.device)
    q, kv = position_T[None, :, None], position_T[None, None, :]
    return ((kv <= q) & (q < end_RT[:, None, :])).unsqueeze(1)


def _piece(trees: Sequence[Tree]) -> Piece:
    T = max(len(tree.ids) for tree in trees)
    ids_RT = torch.zeros(len(trees), T, dtype=torch.long)
    depth_RT = torch.arange(T).repeat(len(trees), 1)
    end_RT = torch.full((len(trees), T), T)  # a padded position sees padding, so that no row is all masked
    row, source, slot = [], [], []
    for r, tree in enumerate(trees):
        n = len(tree.ids)
        ids_RT[r, :n] = torch.tensor(tree.ids)
        depth_RT[r, :n] = torch.tensor(tree.depth)
        end_RT[r, :n] = torch.tensor(tree.end)
        row += [r] * len(tree.source)
        source += tree.source
        slot += tree.slot
    mask = attention_mask(end_RT) if any(tree.branches for tree in trees) else None
    return Piece(ids_RT, depth_RT, mask, torch.tensor(row), torch.tensor(source), torch.tensor(slot))


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])


def _tree_bound(sequences: Sequence[Strand]) -> int:
    """At most so many tokens has the tree of sequences that share their prompt."""
    return len(sequences[0].prompt_ids) + sum(len(sequence.ids) for sequence in sequences)
