"""Demonstrations: the scripted expert solves tasks with the real tools in a sandbox, and logs are written.

Copy c of a task is made on its variant c, so that no two demonstrations share a vocabulary: names have to be
read, not known. The same tasks, copies and seed give the same bytes: every choice comes from a `Random` of
(seed, variant), and the tools are used so that they print neither times nor hashes of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import groupby
from pathlib import Path
from random import Random
from typing import IO, Any

from swe_srl.expert import Habits, find_fix, moves
from swe_srl.formats import WRITERS
from swe_srl.sandboxes import AUTO, changes
from swe_srl.sandboxes.choice import chosen
from swe_srl.sandboxes.held import Held
from swe_srl.tasks.bugfix import grade, load_tasks, task_sandbox
from swe_srl.tasks.variants import variant
from swe_srl.threads import in_order
from swe_srl.tools import execute
from swe_srl.types import Outcome, Provenance, Task, TaskLink, Trajectory, Turn

# mini-swe-agent has bash alone; the others have the editor. A task's copies go round.
FORMATS = ("mini-swe-agent", "xml-messages", "openai-chat")
_TIMEOUT_S = 60.0


def record(
    tasks_path: Path | str,
    out: Path | str,
    *,
    copies: int,
    seed: int,
    sandbox_kind: str,
    limit: int | None = None,
    workers: int = 2,
    formats: Sequence[str] = FORMATS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write `out/<format>/<repository>.jsonl` with `copies` demonstrations of each task, copy c of its variant c.

    A task's copies go round the `formats`. `limit` takes the first so many tasks; `workers` are demonstrated at a
    time, and written in order; `progress` is told (done, total) after each. Files of one repository appear together
    when it is finished: an interrupted run leaves whole files only. Returns
    {"tasks", "trajectories", "steps", "files": [{"path", "format", "trajectories", "steps"}]}.
    """
    tasks = load_tasks(tasks_path)[:limit]
    kind = chosen(sandbox_kind) if sandbox_kind == AUTO else sandbox_kind
    held = Held()

    def demonstrated(job: tuple[Task, int]) -> tuple[int, Trajectory]:
        task, turn = job
        return turn, demonstrate(task, formats[turn], seed=seed, sandbox_kind=kind, held=held)

    files: list[dict[str, Any]] = []
    done = 0
    for repository, group in groupby(enumerate(tasks), lambda item: item[1].repository):
        paths = [Path(out, format, f"{repository}.jsonl") for format in formats]
        rows: list[dict[str, Any]] = [
            {"path": str(path), "format": path.parent.name, "trajectories": 0, "steps": 0} for path in paths
        ]
        jobs = [(variant(task, c), (number + c) % len(formats)) for number, task in group for c in range(copies)]
        every = in_order(demonstrated, jobs, workers, held.close)
        with _written_aside(paths) as streams, closing(every):
            for turn, trajectory in every:
                line = json.dumps(WRITERS[formats[turn]](trajectory), ensure_ascii=False)
                streams[turn].write(line + "\n")
                streams[turn].flush()
                rows[turn]["trajectories"] += 1
                rows[turn]["steps"] += len(trajectory.acted)
                done += 1
                if progress:
                    progress(done, len(tasks) * copies)
        files += [row for row in rows if row["trajectories"]]
    return {
        "tasks": len(tasks),
        "trajectories": sum(row["trajectories"] for row in files),
        "steps": sum(row["steps"] for row in files),
        "files": files,
    }


def demonstrate(task: Task, format: str, *, seed: int, sandbox_kind: str, held: Held | None = None) -> Trajectory:
    """One demonstration, graded. The expert not solving its task is a defect of ours (AssertionError)."""
    rng = Random(f"{seed}/{task.task_id}")
    with task_sandbox(task, sandbox_kind) as sandbox, (held or Held()).keep(sandbox):
        habits = Habits.draw(rng, editor=format != "mini-swe-agent")
        turns = []
        for move in moves(find_fix(task, sandbox), habits, rng):
            observation = execute(move.action, sandbox, _TIMEOUT_S)
            assert move.expects in observation, f"{task.task_id}: {move.action} gave {observation!r}"
            turns.append(Turn(move.thought, move.action, observation))
        patch = changes(sandbox)
        verdict = grade(task, sandbox)
    assert verdict.resolved, f"{task.task_id}: the expert's patch fails {verdict.failed}: {verdict.reason}"
    return Trajectory(
        id=task.task_id,
        issue=task.issue,
        turns=tuple(turns),
        provenance=Provenance(f"{task.repository}.jsonl", 1, format),
        task=TaskLink(task.task_id, task.repository),
        outcome=Outcome(resolved=True, exit_status="submitted", patch=patch),
        shell="persistent",
    )


@contextmanager
def _written_aside(paths: Sequence[Path]) -> Iterator[list[IO[str]]]:
    """Open files under other names; they take their own when the block ends well, and go when it does not.

    A file into which nothing was written does not appear.
    """
    parts = [path.with_name(f"{path.name}.part") for path in paths]
    try:
        with ExitStack() as stack:
            for part in parts:
                part.parent.mkdir(parents=True, exist_ok=True)
            yield [stack.enter_context(part.open("w", encoding="utf-8")) for part in parts]
        for part, path in zip(parts, paths, strict=True):
            if part.stat().st_size:
                part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
