"""Sequences → one trie of tokens: a prefix that samples share is there once, whatever made it equal.

The trie is laid out depth-first, the deepest branch first: `end[i]` is the first position after token i's subtree, so

    position q may look at position kv   iff   kv <= q < end[kv]

Position ids are depths, and the first token of a branch is predicted at its parent's last position. The loss and
every gradient equal those of separate sequences, to float rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from swe_srl.engines.prefixes import common_prefix


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
    """A trie of n tokens in depth-first order; for each learnt token where it is predicted, and its number.

    `runs` are (first, last) positions of its unbranched runs, in order.
    """

    ids: list[int]
    depth: list[int]
    end: list[int]
    source: list[int]
    slot: list[int]
    runs: list[tuple[int, int]]


@dataclass(slots=True)
class _Run:
    """Tokens without a branch between them: those of `inputs` from depth `first` to before `last`."""

    inputs: Sequence[int]
    first: int
    last: int
    deepest: int
    after: list[_Run] = field(default_factory=list)
    strands: list[Strand] = field(default_factory=list)  # that end with it


def grow(strands: Iterable[Strand]) -> Tree:
    """Merge sequences by their longest common prefixes: linear in their tokens, once they are sorted."""
    tree = Tree([], [], [], [], [], [])
    strands = list(strands)
    assert all(strand.prompt_ids for strand in strands), "nothing comes before the first learnt token"
    path: list[int] = []  # the position of each depth above
    for run in _depth_first(_merged(strands)):
        here = len(tree.ids)
        for position in path[run.first :]:  # what the last branch had below this depth is over
            tree.end[position] = here
        path[run.first :] = range(here, here + run.last - run.first)
        tree.ids.extend(run.inputs[run.first : run.last])
        tree.depth.extend(range(run.first, run.last))
        tree.end.extend([0] * (run.last - run.first))
        tree.runs.append((here, len(tree.ids)))
        for strand in run.strands:
            first = len(strand.prompt_ids) - 1
            tree.source.extend(path[first : first + len(strand.ids)])
            tree.slot.extend(range(strand.slot, strand.slot + len(strand.ids)))
    for position in path:
        tree.end[position] = len(tree.ids)
    return tree


def _depth_first(roots: Sequence[_Run]) -> Iterator[_Run]:
    waiting = sorted(roots, key=lambda run: run.deepest)
    while waiting:
        run = waiting.pop()
        yield run
        waiting += sorted(run.after, key=lambda run: run.deepest)


def _merged(strands: Iterable[Strand]) -> list[_Run]:
    """The compressed trie, as the runs that begin it. In sorted order a prefix comes before what it begins."""
    root = _Run((), 0, 0, 0)
    above = [root]  # the path to where the last sequence ends
    last: Sequence[int] = ()
    for strand in sorted(strands, key=lambda strand: strand.inputs):
        inputs, length = strand.inputs, len(strand.inputs)
        shared = common_prefix(last, inputs)
        while above[-1].first >= shared and len(above) > 1:
            above.pop()
        top = above[-1]
        if shared < top.last:  # the last sequence goes on where this one leaves it
            rest = _Run(top.inputs, shared, top.last, top.deepest, top.after, top.strands)
            top.last, top.after, top.strands = shared, [rest], []
        if shared < length:
            above.append(_Run(inputs, shared, length, length))
            top.after.append(above[-1])
        above[-1].strands.append(strand)
        for run in above:
            run.deepest = max(run.deepest, length)
        last = inputs
    return root.after
