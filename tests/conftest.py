"""Fixtures of the whole suite. One thread: sums in a fixed order, and two cores for everyone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is imported, here or in a child
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

if TYPE_CHECKING:
    from swe_srl.sandboxes.pool import Pool


@pytest.fixture
def tokenizer() -> Any:
    """A small BPE with a ChatML template; a fresh one for each test, since a Renderer may set its template."""
    from made import make_tokenizer

    return make_tokenizer()


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    """A TrainConfig of seconds: sft → srl."""
    from made import tiny_config

    return tiny_config(tmp_path)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """Of one node, which holds four sandboxes at a time."""
    from cluster import cluster

    with cluster(nodes=1, slots=4) as found:
        yield found


@pytest.fixture(scope="module")
def fleets(ray_cluster: Any) -> Iterator[Callable[[str], Pool]]:
    """Pools of sandboxes on that node, by kind."""
    from swe_srl.fleet import reach

    with ExitStack() as stack:

        @cache
        def pool(kind: str) -> Pool:
            fleet = stack.enter_context(reach(kind, ray_cluster.address))
            return stack.enter_context(fleet.pool("tests", max_open=2, pull=False))

        yield pool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a laptop a backend that does not work here is skipped, with its reason. In CI nothing is."""
    if os.environ.get("CI"):
        return
    for item in items:
        for kind in ("docker", "runc"):
            if kind in item.nodeid or (kind, item.path.name) in NEEDED:
                item.add_marker(pytest.mark.skipif(_trouble(kind) is not None, reason=f"{kind}: {_trouble(kind)}"))


# Tests that need a backend which their names do not tell.
NEEDED = {
    *(("docker", "test_reaper.py"), ("runc", "test_reaper.py")),
    *(("docker", "test_attacks.py"), ("runc", "test_attacks.py")),
    *(("docker", "test_foreign.py"), ("runc", "test_foreign.py")),
}


@cache
def _trouble(kind: str) -> str | None:
    from swe_srl.sandboxes.choice import trouble

    return trouble(kind)
