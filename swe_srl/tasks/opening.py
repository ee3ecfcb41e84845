"""A task's sandbox as an agent gets it: the tree with the defect, and nothing that tells how it was mended.

The bug-fix suite's tests lie in its trees, those that fail too, as they do where a failing CI is the issue: that is
the suite's published design, its demonstrations run them, and grading puts them back. SWE-bench's are hidden: they are
in the row's test patch, which is applied by the graders alone, in another sandbox.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from swe_srl.errors import ConfigError, SandboxError
from swe_srl.sandboxes import TREE, Sandbox
from swe_srl.sandboxes.choice import OPEN
from swe_srl.sandboxes.pool import Pool
from swe_srl.tasks import bugfix, images
from swe_srl.tasks.future import forget
from swe_srl.types import Task

_LOOK_S = 60.0
_TEST_PATCH = "/tmp/swe-srl-look.patch"


def refuse_images_without_isolation(tasks: Iterable[Task], kind: str) -> None:
    """Raises ConfigError, before anything is begun, where no task's sandbox could be opened."""
    if kind == OPEN and (task := next((one for one in tasks if one.image is not None), None)):
        raise ConfigError(
            f'sandbox.kind = "{OPEN}" has no images, and {task.task_id} begins with one: take "docker" or "runc"'
        )


@contextmanager
def opened(task: Task, pool: Pool) -> Iterator[Sandbox]:
    """A fresh sandbox on a task. Raises SandboxError: "image missing: …" where there is none to begin with."""
    if task.image is None:
        with bugfix.materialised(task) as tree, pool.open(tree) as sandbox:
            yield sandbox
        return
    with pool.open(images.Clean(task.image, pool.kind, pool.pull)) as sandbox:
        forget(sandbox)
        _refuse_hidden_tests(task, sandbox)
        yield sandbox


def _refuse_hidden_tests(task: Task, sandbox: Sandbox) -> None:
    """An image in which the test patch can be taken back holds it."""
    patch = str(task.record.get("test_patch") or "")
    if not patch.strip():
        return
    sandbox.write(_TEST_PATCH, patch.encode("utf-8", "surrogateescape"))
    path = shlex.quote(_TEST_PATCH)
    there = sandbox.exec(f"( cd {TREE} && git apply --check --reverse {path} 2>&1 )", _LOOK_S)
    sandbox.exec(f"rm -f {path}", _LOOK_S)
    if there.exit_code == 0:
        raise SandboxError(f"the image {task.image} holds the hidden tests of {task.task_id}: take the published one")
