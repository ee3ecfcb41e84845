"""One subject of `sandbox.py`, measured: `python sandbox_subjects.py NAME IMAGE ROUND REPEATS` prints a JSON object.

The peers' rows run with the Python of an environment that has them, where nothing of ours is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from sandbox_measures import BRANCHES, Box, Subject, measure

SOURCE = Path(__file__).parent.parent / "environments" / "bugfix" / "packages" / "spans"


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def processes(container: str, line: str) -> int:
    rows = docker("top", container, "-eo", "pid,args").splitlines()
    return [row.split(maxsplit=1)[-1] for row in rows].count(line)


# --------------------------------------------------------------------------------------------------- ours


class OurBox:
    def __init__(self, sandbox: Any) -> None:
        self.sandbox = sandbox

    def run(self, command: str, timeout_s: float) -> str:
        return str(self.sandbox.exec(command, timeout_s).output)

    def runs(self, line: str) -> int:
        listing = "for it in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$it; echo; done 2>/dev/null"
        return [row.strip() for row in self.run(listing, 20).splitlines()].count(line)

    def close(self) -> None:
        self.sandbox.close()


class Ours:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def open(self) -> OurBox:
        from swe_srl.sandboxes import BACKENDS

        return OurBox(BACKENDS[self.kind](SOURCE))

    def branches(self, box: OurBox) -> list[Callable[[], OurBox]]:
        forks = [box.sandbox.fork() for _ in range(BRANCHES)]
        return [lambda fork=fork: OurBox(fork) for fork in forks]


# ------------------------------------------------------------------------------------------ mini-swe-agent


class MiniBox:
    def __init__(self, environment: Any, image: str | None = None) -> None:
        self.environment, self.image = environment, image

    def run(self, command: str, timeout_s: float) -> str:
        return str(self.environment.execute({"command": command}, timeout=timeout_s)["output"])

    def runs(self, line: str) -> int:
        return processes(self.environment.container_id, line)

    def close(self) -> None:  # its own clean-up waits ten seconds for a `sleep` that takes no notice
        container, self.environment.container_id = self.environment.container_id, None
        docker("rm", "-f", container)


class Mini:
    """`bash -lc` is its default; `bash -c` is its `interpreter` set to what ours starts."""

    def __init__(self, image: str, interpreter: list[str]) -> None:
        self.image, self.interpreter = image, interpreter
        self.committed: list[str] = []

    def open(self, image: str | None = None) -> MiniBox:
        from minisweagent.environments.docker import DockerEnvironment

        return MiniBox(DockerEnvironment(image=image or self.image, interpreter=self.interpreter, cwd="/testbed"))

    def branches(self, box: MiniBox) -> list[Callable[[], MiniBox]]:
        """It has no fork; this is what one would do: commit, and run the image 8 times."""
        image = docker("commit", box.environment.container_id)
        self.committed.append(image)
        return [lambda: self.open(image)] * BRANCHES


# --------------------------------------------------------------------------------------------------- SWE-ReX


class Loop:
    """An event loop in a thread. One for each box: while SWE-ReX waits for a server it blocks its loop, and of
    several that start in one none ever does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __call__(self, task: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


class RexBox:
    def __init__(self, loop: Loop, deployment: Any, *, session: bool) -> None:
        self.loop, self.deployment, self.session = loop, deployment, session

    def run(self, command: str, timeout_s: float) -> str:
        from swerex.runtime.abstract import BashAction, Command

        runtime = self.deployment.runtime
        if self.session:
            action = BashAction(command=command, timeout=timeout_s, check="silent")
            return str(self.loop(runtime.run_in_session(action)).output)
        words = Command(command=["bash", "-c", command], timeout=timeout_s, cwd="/testbed")
        return str(self.loop(runtime.execute(words)).stdout)

    def runs(self, line: str) -> int:
        return processes(self.deployment.container_name, line)

    def close(self) -> None:
        name = self.deployment.container_name
        with contextlib.suppress(Exception):  # its server may wait for a command that never ends
            docker("rm", "-f", name)
        with contextlib.suppress(Exception):
            self.loop(self.deployment.stop())
        self.loop.end()


class Rex:
    def __init__(self, image: str, *, session: bool) -> None:
        self.image, self.session = image, session

    def open(self) -> RexBox:
        from swerex.deployment.docker import DockerDeployment
        from swerex.runtime.abstract import BashAction, CreateBashSessionRequest

        loop, deployment = Loop(), DockerDeployment(image=self.image, pull="never")
        loop(deployment.start())
        deployment.runtime._config.timeout = 60  # its own 0.15 s is for asking whether it is up
        if self.session:
            loop(deployment.runtime.create_session(CreateBashSessionRequest(startup_timeout=20)))
            loop(deployment.runtime.run_in_session(BashAction(command="cd /testbed", timeout=20)))
        return RexBox(loop, deployment, session=self.session)

    def branches(self, box: Box) -> None:
        return None


def subject(name: str, image: str) -> Subject:
    table: dict[str, Callable[[], Any]] = {
        "runc": lambda: Ours("runc"),
        "docker": lambda: Ours("docker"),
        "local": lambda: Ours("local"),
        "mini": lambda: Mini(image, ["bash", "-lc"]),
        "mini bash -c": lambda: Mini(image, ["bash", "-c"]),
        "rex session": lambda: Rex(image, session=True),
        "rex execute": lambda: Rex(image, session=False),
    }
    made: Subject = table[name]()
    return made


def main() -> None:
    logging.disable(logging.CRITICAL)
    name, image, repeats = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    answers = os.dup(1)
    os.dup2(2, 1)  # the peers greet on stdout
    one = subject(name, image)
    try:
        found = measure(one, repeats)
    finally:
        for committed in getattr(one, "committed", []):
            docker("rmi", "-f", committed)
    os.write(answers, json.dumps(found).encode())


if __name__ == "__main__":
    main()
