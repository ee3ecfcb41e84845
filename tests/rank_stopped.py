"""What torchrun starts for test_distributed.py: a training of which one rank stops at a named point (kill_resume.py).

torchrun --nproc-per-node N tests/rank_stopped.py RANK kill|fail FUNCTION FILE UNDER TIMES -- train CONFIG …
"""

from __future__ import annotations

import os
import sys
import threading
from types import FrameType
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is imported

from kill_resume import Point, killer

from swe_srl.__main__ import main
from swe_srl.errors import TrainingError


def failer(point: Point) -> Any:
    left = point.n

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal left
        if event == "call" and point.met(frame):
            left -= 1
            if left == 0:
                raise TrainingError("this rank's disk is full")

    return profile


if __name__ == "__main__":
    rank, how, function, file, under, times = sys.argv[1:7]
    if os.environ.get("RANK", "0") == rank:
        point = Point("here", function, file, under, None, int(times))
        profile = (killer if how == "kill" else failer)(point)
        sys.setprofile(profile)
        threading.setprofile(profile)  # attempts have threads of their own
    sys.argv = ["swe-srl", *sys.argv[8:]]
    main()
