"""A trie → pieces that one forward pass takes, each of at most `token_budget` tokens.

Where a subtree is larger than the budget its top is **trunk**: cut into pieces whose keys and values are kept while
pieces below look at them. All other tokens are of subtrees that fit, packed whole. Pieces come in the order in which
they are learnt from: what looks at a trunk before the trunk itself, which then passes on what was learnt about its
keys and values. At any time only one path of trunks is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from swe_srl.range_attention import Look, Where, together
from swe_srl.train.tree import Strand, Tree, grow


@dataclass(eq=False, slots=True)
class Limb:
    """A piece as the model sees it: T tokens of the trie, at places `place_T`; `above` are the trunks it looks at."""

    ids_T: Tensor
    place_T: Tensor
    end_T: Tensor
    depth_T: Tensor
    above: tuple[Limb, ...]
    looks: list[Look]
    is_trunk: bool
    keys: list[tuple[Tensor, Tensor]] | None = None  # a trunk's keys and values by layer, while they are needed


@dataclass(frozen=True, slots=True)
class Piece:
    """What one forward pass takes: R rows of T tokens, and N predictions. `slot_N` numbers them batch-wide.

    Where `limb` is None every row is one plain sequence; else there is one row, a part of a trie.
    """

    ids_RT: Tensor
    depth_RT: Tensor
    row_N: Tensor
    source_N: Tensor
    slot_N: Tensor
    limb: Limb | None = None


@dataclass(eq=False, slots=True)
class _Stretch:
    """Tokens [first, last) of a trie, without a branch between them and all in one part, where they begin at `at`.

    `seen` are the ranges of keys that what follows it sees: all above it, and itself.
    """

    first: int
    last: int
    parent: _Stretch | None
    part: _Part
    at: int = 0
    seen: tuple[_Seen, ...] = ()


@dataclass(eq=False, slots=True)
class _Part:
    """What becomes a piece."""

    is_trunk: bool
    stretches: list[_Stretch] = field(default_factory=list)
    size: int = 0
    limb: Limb | None = None

    def add(self, stretch: _Stretch) -> None:
        stretch.part, stretch.at = self, self.size
        self.stretches.append(stretch)
        self.size += stretch.last - stretch.first


_Seen = tuple[_Part, int, int]


@dataclass(frozen=True, slots=True)
class _Laid:
    """A trie's tokens, as tensors."""

    ids: Tensor
    depth: Tensor
    end: Tensor


def pack(groups: Sequence[Sequence[Strand]], token_budget: int, *, share: bool) -> list[Piece]:
    """The pieces of a batch, of at most `token_budget` tokens (more only where one sequence is longer).

    With `share` the whole batch is one trie; without, each sequence is a row of its own, padded to its neighbours'.
    """
    strands = [strand for group in groups for strand in group]
    if not strands:
        return []
    return cut(grow(strands), token_budget) if share else list(_rows(strands, token_budget))


def cut(tree: Tree, token_budget: int) -> list[Piece]:
    """Pieces of a trie, in the order in which they are learnt from."""
    trunks, subtrees = _apart(tree, token_budget)
    number = {trunk: n for n, trunk in enumerate(trunks)}

    def lowest(part: _Part) -> int:
        """The last trunk that it hangs on; all others above it come before that one."""
        parents = (stretch.parent.part for stretch in part.stretches if stretch.parent)
        return max((number[parent] for parent in parents if parent in number), default=-1)

    laid = _Laid(torch.tensor(tree.ids), torch.tensor(tree.depth), torch.tensor(tree.end))
    leaves = list(_filled(sorted(subtrees, key=lowest, reverse=True), token_budget))
    turn = {leaf: (-lowest(leaf), 0) for leaf in leaves} | {trunk: (-n, 1) for trunk, n in number.items()}
    for part in (*trunks, *leaves):
        part.limb = _limb(part, laid)
    return list(_pieces(sorted(turn, key=lambda part: turn[part]), tree))


def _apart(tree: Tree, token_budget: int) -> tuple[list[_Part], list[_Part]]:
    """Trunks of at most the budget, and the subtrees that hang on them; in the trie's order."""
    trunks, subtrees = list[_Part](), list[_Part]()
    path: list[_Stretch] = []
    for first, last in tree.runs:
        end = tree.end[first]
        while path and tree.end[path[-1].first] <= first:
            path.pop()
        while first < min(last, end - token_budget):
            parent = path[-1] if path else None
            goes_on = parent is not None and parent.part is trunks[-1]  # else two paths would be held as one
            if not goes_on or trunks[-1].size == token_budget:
                trunks.append(_Part(is_trunk=True))
            stop = min(last, end - token_budget, first + token_budget - trunks[-1].size)
            path.append(_Stretch(first, stop, parent, trunks[-1]))
            trunks[-1].add(path[-1])
            first = stop
        if first < last:
            parent = path[-1] if path else None
            if parent is None or parent.part.is_trunk:
                subtrees.append(_Part(is_trunk=False))
            path.append(_Stretch(first, last, parent, subtrees[-1]))
            subtrees[-1].add(path[-1])
    return trunks, subtrees


def _filled(subtrees: Iterable[_Part], token_budget: int) -> Iterator[_Part]:
    """As many subtrees together as fit."""
    leaf = _Part(is_trunk=False)
    for part in subtrees:
        if leaf.size and leaf.size + part.size > token_budget:
            yield leaf
            leaf = _Part(is_trunk=False)
        for stretch in part.stretches:
            leaf.add(stretch)
    if leaf.size:
        yield leaf


def _limb(part: _Part, laid: _Laid) -> Limb:
    """Who looks at what: each unbranched block at itself, and at the ranges of keys above it."""
    blocks: list[list[_Stretch]] = []
    for stretch in part.stretches:
        above = stretch.parent.seen if stretch.parent else ()
        stretch.seen = _joined(above, (part, stretch.at, stretch.at + stretch.last - stretch.first))
        if blocks and stretch.parent is blocks[-1][-1]:
            blocks[-1].append(stretch)
        else:
            blocks.append([stretch])
    number: dict[_Part, int] = {}
    looks: list[Look] = []
    wanted: list[tuple[int, int, list[Where]]] = []
    for block in blocks:
        first, last = block[0].at, block[-1].at + block[-1].last - block[-1].first
        looks.append(Look(first, last, None, first, last, causal=True))
        above = block[0].parent.seen if block[0].parent else ()
        where = [(None if of is part else number.setdefault(of, len(number)), low, high) for of, low, high in above]
        wanted.append((first, last, where))
    looks += together(wanted)  # after the causal ones: each query has seen something before what it may not see
    at = torch.cat([torch.arange(stretch.first, stretch.last) for stretch in part.stretches])
    limbs = tuple(of.limb for of in number if of.limb is not None)
    return Limb(laid.ids[at], at, laid.end[at], laid.depth[at], limbs, looks, part.is_trunk)


def _joined(seen: tuple[_Seen, ...], more: _Seen) -> tuple[_Seen, ...]:
    """One more range, in one with the last where it goes on there."""
    part, low, high = more
    if seen and seen[-1][0] is part and seen[-1][2] == low:
        return *seen[:-1], (part, seen[-1][1], high)
    return *seen, more


def _pieces(parts: Sequence[_Part], tree: Tree) -> Iterator[Piece]:
    """Parts as pieces, each with the predictions that are made in it."""
    piece_of = torch.empty(len(tree.ids), dtype=torch.long)
    place_of = torch.empty(len(tree.ids), dtype=torch.long)
    for n, part in enumerate(parts):
        assert part.limb is not None
        piece_of[part.limb.place_T] = n
        place_of[part.limb.place_T] = torch.arange(part.size)
    source_N, slot_N = torch.tensor(tree.source), torch.tensor(tree.slot)
    by_piece_N = torch.sort(piece_of[source_N], stable=True)
    counts = torch.bincount(by_piece_N.values, minlength=len(parts)).tolist()
    for part, picked_N in zip(parts, by_piece_N.indices.split(counts), strict=True):
        limb = part.limb
        assert limb is not None
        yield Piece(
            limb.ids_T[None],
            limb.depth_T[None],
            torch.zeros(len(picked_N), dtype=torch.long),
            place_of[source_N[picked_N]],
            slot_N[picked_N],
            limb,
        )


def _rows(strands: Sequence[Strand], token_budget: int) -> Iterator[Piece]:
    """Sequences as rows, those of about one length together."""
    rows: list[Strand] = []
    for strand in sorted(strands, key=lambda strand: len(strand.inputs)):  # stable: else in the batch's order
        if rows and (len(rows) + 1) * len(strand.inputs) > token_budget:
            yield _side_by_side(rows)
            rows = []
        rows.append(strand)
    yield _side_by_side(rows)


def _side_by_side(strands: Sequence[Strand]) -> Piece:
    T = len(strands[-1].inputs)
    ids_RT = torch.zeros(len(strands), T, dtype=torch.long)
    row, source, slot = list[int](), list[int](), list[int]()
    for r, strand in enumerate(strands):
        ids_RT[r, : len(strand.inputs)] = torch.tensor(strand.inputs)
        first, n = len(strand.prompt_ids) - 1, len(strand.ids)
        row += [r] * n
        source += range(first, first + n)
        slot += range(strand.slot, strand.slot + n)
    depth_RT = torch.arange(T).repeat(len(strands), 1)
    return Piece(ids_RT, depth_RT, torch.tensor(row), torch.tensor(source), torch.tensor(slot))
