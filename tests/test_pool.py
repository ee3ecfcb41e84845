"""The pool: its bound, what waits, what is kept ready, and how it ends; with a backend that really opens and closes."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swe_srl.errors import ConfigError, SandboxError
from swe_srl.sandboxes import Sandbox, owner
from swe_srl.sandboxes.pool import Pool
from swe_srl.sandboxes.reaper import FOLDERS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_text("one\n")
    return tmp_path / "source"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.txt").write_text("two\n")
    return tmp_path / "other"


def opened() -> int:
    """How many `local` sandboxes of this process there are: each is a folder."""
    return len(list(Path(tempfile.gettempdir()).glob(f"{FOLDERS}{owner.me()}-*")))


def eventually(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_no_more_are_open_than_may_be(source: Path) -> None:
    most = 0

    def one(number: int) -> str:
        nonlocal most
        with pool.open(source) as sandbox:
            most = max(most, opened())
            return sandbox.exec(f"cat a.txt; echo {number}", 20).output

    with Pool("local", max_open=3) as pool, ThreadPoolExecutor(12) as threads:
        assert list(threads.map(one, range(12))) == [f"one\n{n}\n" for n in range(12)]
    assert most <= 3
    assert opened() == 0


def test_hundreds_wait_in_one_event_loop(source: Path) -> None:
    async def one(pool: Pool, number: int) -> str:
        async with pool.open(source) as sandbox:
            return (await pool.run(sandbox.exec, f"echo {number}", timeout_s=20)).output

    async def all_of_them() -> list[str]:
        with Pool("local", max_open=8, warm=2) as pool:
            return await asyncio.gather(*(one(pool, number) for number in range(200)))

    before = threading.active_count()
    assert asyncio.run(all_of_them()) == [f"{n}\n" for n in range(200)]
    assert opened() == 0
    eventually(lambda: threading.active_count() <= before + 1)


def test_some_are_kept_ready_and_make_room(source: Path, other: Path) -> None:
    with Pool("local", max_open=3, warm=2) as pool:
        with pool.open(source) as sandbox:
            assert sandbox.exec("ls", 20).output == "a.txt\n"
            eventually(lambda: opened() == 3)
            with pool.open(other) as one, pool.open(other) as two:
                assert [one.exec("ls", 20).output, two.exec("ls", 20).output] == ["b.txt\n"] * 2
        eventually(lambda: opened() == 2)
    assert opened() == 0


def test_under_docker_containers_wait_for_any_folder_and_for_forks(source: Path, other: Path) -> None:
    from swe_srl.sandboxes.docker import place

    with Pool("docker", max_open=4, warm=2) as pool:
        eventually(lambda: len(place()._waiting) == 2)
        with pool.open(source) as one, pool.open(other) as two:
            assert [one.exec("ls", 20).output, two.exec("ls", 20).output] == ["a.txt\n", "b.txt\n"]
            fork = two.fork()
            assert fork.exec("ls", 20).output == "b.txt\n"
            fork.close()
            eventually(lambda: len(place()._waiting) == 2)
    eventually(lambda: place()._waiting == [])


def test_a_cancelled_coroutine_gives_its_place_back(source: Path) -> None:
    async def run() -> None:
        with Pool("local", max_open=1) as pool:
            async with pool.open(source):
                waits = asyncio.create_task(pool.open(source).__aenter__())
                await asyncio.sleep(0.1)
                waits.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waits
            async with asyncio.timeout(20), pool.open(source) as sandbox:
                assert (await pool.run(sandbox.exec, "cat a.txt", 20)).output == "one\n"

    asyncio.run(run())
    assert opened() == 0


def test_closing_ends_those_in_use_and_tells_those_who_wait(source: Path) -> None:
    pool = Pool("local", max_open=1)
    asked: list[BaseException | None] = []

    def wait() -> None:
        try:
            with pool.open(source):
                asked.append(None)
        except SandboxError as error:
            asked.append(error)

    lease = pool.open(source)
    sandbox: Sandbox = lease.__enter__()
    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.1)
    pool.close()
    waiting.join(20)
    assert isinstance(asked[0], SandboxError)
    with pytest.raises(SandboxError):
        sandbox.exec("true", 5)
    lease.__exit__(None, None, None)
    with pytest.raises(SandboxError), pool.open(source):
        pass
    assert opened() == 0


def test_what_cannot_be_opened_is_told_and_keeps_no_place(source: Path, tmp_path: Path) -> None:
    with Pool("local", max_open=2, warm=1) as pool:
        for _ in range(4):
            with pytest.raises(SandboxError, match="no folder"), pool.open(tmp_path / "none"):
                pass
        with pool.open(source) as sandbox:
            assert sandbox.exec("ls", 20).output == "a.txt\n"


def test_a_pool_that_cannot_be(source: Path) -> None:
    with pytest.raises(ConfigError, match="cloud"):
        Pool("cloud", max_open=1)
    with pytest.raises(ConfigError, match="warm"):
        Pool("local", max_open=2, warm=2)
