"""What a process has one of: made when it is first asked for, by whichever thread asks first."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def per_process(make: Callable[P, T]) -> Callable[P, T]:
    """`make`, called once for its arguments. A forked child makes its own: it shares no sandbox with its parent."""
    made: dict[object, T] = {}
    lock = threading.Lock()

    @wraps(make)
    def the_one(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (os.getpid(), args, tuple(sorted(kwargs.items())))
        with lock:
            if key not in made:
                made[key] = make(*args, **kwargs)
            return made[key]

    return the_one
