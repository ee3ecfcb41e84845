"""What torchrun starts for test_rlvr_ranks.py: shares that take longer than ranks wait for each other.

torchrun --nproc-per-node 3 tests/rank_meeting.py FILE      what was made, as rank 0 has it
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch

from swe_srl.train import distributed
from swe_srl.train.distributed import World, leave


def made(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name == "second":
            time.sleep(20)
        yield name


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=8))
    distributed._MEET_S = 1.0
    world = World.here()
    found = list(world.shared(["first", "second"], made, for_long=True))
    assert set(world.gather(tuple(found))) == {tuple(found)}
    if world.leads:
        torch.save(found, sys.argv[1])
    leave()
