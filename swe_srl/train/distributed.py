"""The processes of one training under torchrun: who they are, what they share, and how they end together.

    torchrun --nproc-per-node 8 -m swe_srl train CONFIG

Every process runs the same program (SPMD). Each makes its share of what can be shared and all have the whole of it
afterwards, in the order in which one process would have made it: so each forms the same batch, and decides the same.
Rank 0 alone writes and tells. Without torchrun there is one process, `ALONE`, and nothing here does anything.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
U = TypeVar("U")

# How long ranks wait for the slowest one's share of a round, or for one that is lost without a word on another node.
WAIT = timedelta(minutes=30)
_MEET_S = 5.0  # between two meetings of ranks that are at work for longer than that
_LAST_WORDS = 16_384  # characters of what a rank would have said, kept for the case that it fails first


@dataclass(frozen=True, slots=True)
class World:
    """This process among the training's. Every method but `leads` is called by all ranks, in the same order."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> World:
        """As `ranks` has set it up."""
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return ALONE
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every rank's, by rank. Small Python objects: they are pickled."""
        if self.size == 1:
            return [value]
        from torch import distributed

        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def agreed(self, value: T) -> T:
        """Rank 0's: of what depends on a clock, or on files that only it writes."""
        if self.size == 1:
            return value
        from torch import distributed

        found = [value]
        distributed.broadcast_object_list(found, src=0)
        return found[0]

    def shared(
        self, items: Sequence[T], made: Callable[[Sequence[T]], Iterable[U]], *, for_long: bool = False
    ) -> Iterator[U]:
        """What is made of the items, in their order: each rank makes that of a block, and has that of all.

        What may take longer than the slowest rank is waited for is made `for_long`, in a thread of its own.
        """
        if self.size == 1:
            yield from made(items)
            return
        first, last = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))

        def own() -> list[U]:
            return list(made(items[first:last])) if first < last else []

        for found in self.gather(self._meeting(own) if for_long else own()):
            yield from found

    def _meeting(self, make: Callable[[], U]) -> U:
        """What is made, when every rank has made its own. They meet meanwhile: who is slow is not taken for lost."""
        made: Future[U] = Future()

        def work() -> None:
            try:
                made.set_result(make())
            except BaseException as error:  # raised where it is waited for
                made.set_exception(error)

        threading.Thread(target=work, name="swe-srl-share", daemon=True).start()
        while True:
            done = bool(wait([made], _MEET_S).done)
            if done and made.exception() is not None:
                return made.result()
            if all(self.gather(done)):
                return made.result()

    def wait(self) -> None:
        """Until all are here: what rank 0 wrote before is there afterwards."""
        if self.size > 1:
            self.gather(None)


ALONE = World()


def take_device() -> None:
    """This rank's GPU is this thread's: a thread begins with the first one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def ranks(command: str) -> Iterator[None]:
    """The processes that torchrun started, as a group: gloo between CPUs, nccl between GPUs.

    Rank 0 has the terminal. Whoever fails first says why, whichever rank that is; the others, who only lost it, say
    nothing: torchrun ends them.
    """
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    if command != "train":
        print(f"swe-srl: of the commands only train is for torchrun, seen {command or 'none'}", file=sys.stderr)
        sys.exit(2)
    rank = int(os.environ["RANK"])
    take_device()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    said = _Tail()
    real = sys.stderr
    with contextlib.ExitStack() as quiet:
        if rank:
            quiet.enter_context(contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())))
            quiet.enter_context(contextlib.redirect_stderr(said))
        store, _, size = next(rendezvous("env://", timeout=WAIT))
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
        try:
            yield
        except BaseException as error:
            if not isinstance(error, SystemExit) or error.code:
                _fail(error, rank, store, said, real)
        leave()


def leave() -> NoReturn:
    """End a rank that has done its work.

    Not as Python ends: a thread of gloo's may free a tensor while the interpreter goes, and that aborts the process.
    """
    from torch import distributed

    distributed.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _fail(error: BaseException, rank: int, store: Any, said: _Tail, real: Any) -> None:
    """Say why, if nobody else has failed before, and end. No waiting for collectives that will never be whole."""
    if rank:
        time.sleep(1.0)  # where all fail alike it is rank 0 that says so
    first = False
    with contextlib.suppress(RuntimeError):  # torchrun, which holds the store, is gone
        first = store.compare_set("swe-srl/failed", "", str(rank)).decode() == str(rank)
    if not isinstance(error, SystemExit | KeyboardInterrupt):
        said.write("".join(traceback.format_exception(error)))
    if first:
        for line in said.text().strip().splitlines():
            print(f"rank {rank}: {line}" if rank else line, file=real)
    real.flush()
    code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
    os._exit(code)


class _Tail(io.TextIOBase):
    """The last words that were written here."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> int:
        self._text = (self._text + text)[-_LAST_WORDS:]
        return len(text)

    def text(self) -> str:
        return self._text
