"""Prompts → one row of tokens in which every prefix is there once, and who looks at which of them.

The prompts come sorted, so a prefix comes before what it begins, and what a prompt shares with any earlier one it
shares with the one just before it. What is new of each prompt is laid down after what is there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from swe_srl.range_attention import Look, together

Ids = tuple[int, ...]
Ranges = tuple[tuple[int, int], ...]  # of places in the row


@dataclass(slots=True)
class Block:
    """Places [first, last), each seeing those before it in the block, and all of `above`."""

    first: int
    last: int
    above: Ranges


@dataclass(slots=True)
class Row:
    """The trie of some prompts. Of each prompt: the ranges that it consists of, the last of them with its end."""

    ids: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    prompts: list[Ranges] = field(default_factory=list)

    def looks(self, first: int, last: int) -> list[Look]:
        """Of the tokens [first, last), numbered from 0, at the places of the whole row."""
        found, above = list[Look](), list[tuple[int, int, Ranges]]()
        for block in self.blocks:
            low, high = max(block.first, first), min(block.last, last)
            if low < high:
                found.append(Look(low - first, high - first, None, low, high, causal=True))
                before = ((block.first, low),) if block.first < low else ()
                above.append((low - first, high - first, _joined(block.above + before)))
        return found + together((first, last, [(None, *where) for where in ranges]) for first, last, ranges in above)


def lay_out(prompts: Iterable[Ids]) -> Row:
    """The row of prompts that are sorted, and of which no two are equal."""
    row = Row()
    last: Ids = ()
    path: np.ndarray = np.empty(0, dtype=np.int64)  # the place of each token of the last prompt
    for prompt in prompts:
        shared, here = common_prefix(last, prompt), len(row.ids)
        if not row.blocks or shared < len(last):  # else it goes on where the last one ends
            row.blocks.append(Block(here, here, _ranges(path[:shared])))
        row.ids.extend(prompt[shared:])
        row.depth.extend(range(shared, len(prompt)))
        row.blocks[-1].last = len(row.ids)
        path = np.concatenate([path[:shared], np.arange(here, len(row.ids))])
        row.prompts.append(_ranges(path))
        last = prompt
    return row


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a[:n]) != np.asarray(b[:n]))
    return int(differ[0]) if len(differ) else n


def new_tokens(prompts: Iterable[Ids]) -> Iterator[int]:
    """How many tokens of each, in sorted order, no earlier one begins with."""
    return (len(prompt) - common_prefix(last, prompt) for last, prompt in pairwise([(), *prompts]))


def _ranges(path: np.ndarray) -> Ranges:
    """Places as ranges, those that follow one another in one."""
    parts = np.split(path, np.flatnonzero(np.diff(path) != 1) + 1)
    return tuple((int(part[0]), int(part[-1]) + 1) for part in parts if len(part))


def _joined(ranges: Ranges) -> Ranges:
    """The last two in one where the last goes on there."""
    if len(ranges) > 1 and ranges[-2][1] == ranges[-1][0]:
        return *ranges[:-2], (ranges[-2][0], ranges[-1][1])
    return ranges
