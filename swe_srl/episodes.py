"""An episode: a policy's attempt at a task, as a Trajectory, with what each turn cost and how it ended.

A run keeps its episodes in `rollouts/episodes.jsonl`, one line each, written when the episode ends: our own log format
with more keys, so that `inspect`, `ingest`, `replay` and a training's `data.path` read it. Grading puts
`outcome.resolved` into the same file (`judge`): it is the one that a user points at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from swe_srl.disk import sync_folder, write_aside
from swe_srl.errors import DataError
from swe_srl.formats.canonical import from_json as trajectory_of
from swe_srl.formats.canonical import to_json as json_of
from swe_srl.formats.document import Malformed
from swe_srl.types import Completion, Outcome, Provenance, Shell, Task, TaskLink, Trajectory, Turn

FILE = "episodes.jsonl"

# How an episode ended. "infrastructure": its sandbox or its endpoint was lost, which is never the policy's doing.
End = Literal[
    "submitted", "max steps", "token budget", "wall time", "format errors", "context too long", "infrastructure"
]


@dataclass(frozen=True, slots=True)
class Cost:
    """One turn's. Token counts are None where an endpoint does not tell; times in seconds.

    `sandbox_s` is 0 for an answer that was refused; `format_error` says why it was.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    generation_s: float
    sandbox_s: float
    format_error: str | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """`sample` numbers the attempts at one task, from 0. `costs` and `completions` are of `trajectory.turns`.

    `trajectory.outcome.patch` is what its sandbox had become, however it ended; None where the sandbox was lost.
    `detail` is the error's text of an end by infrastructure, or why a sandbox that was not lost has no patch.
    `attempts` counts the tries, of which infrastructure ended all but perhaps the last. `flags` are rules of
    `evaluate.hacking` that it falls under, whatever it earned.
    """

    task_id: str
    sample: int
    trajectory: Trajectory
    costs: tuple[Cost, ...]
    end: End
    detail: str | None = None
    seconds: float = 0.0
    attempts: int = 1
    completions: tuple[Completion, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        return self.task_id, self.sample

    @property
    def finished(self) -> bool:
        """Whether the policy ended it: what infrastructure ended is run again."""
        return self.end != "infrastructure"

    def judged(self, resolved: bool | None) -> Episode:
        """This one with what the hidden tests say."""
        outcome = replace(self.trajectory.outcome, resolved=resolved)
        return replace(self, trajectory=replace(self.trajectory, outcome=outcome))


def episode_id(task_id: str, sample: int) -> str:
    """Unique in a run. No task's own id: `trajectory.task` has that."""
    return f"{task_id}~~sample{sample}"


def as_trajectory(
    task: Task, sample: int, turns: Sequence[Turn], end: End, patch: str | None, shell: Shell
) -> Trajectory:
    """An attempt at a task as a trajectory; nobody has judged it yet."""
    id = episode_id(task.task_id, sample)
    return Trajectory(
        id=id,
        issue=task.issue,
        turns=tuple(turns),
        provenance=Provenance(id, 1, "swe-srl"),
        task=TaskLink(task.task_id, task.repository, task.base_commit, task.image),
        outcome=Outcome(None, end, patch),
        shell=shell,
    )


# ------------------------------------------------------------------------------------------------- JSON


def to_json(episode: Episode) -> dict[str, Any]:
    """A trajectory's JSON and the keys of an attempt. Of completions the text is kept, not the token ids."""
    return {
        **json_of(episode.trajectory),
        "sample": episode.sample,
        "end": episode.end,
        "detail": episode.detail,
        "seconds": episode.seconds,
        "attempts": episode.attempts,
        "flags": list(episode.flags),
        "costs": [asdict(cost) for cost in episode.costs],
        "completions": [{"text": one.text, "truncated": one.truncated} for one in episode.completions],
    }


def from_json(document: Mapping[str, Any]) -> Episode:
    """What `to_json` wrote. Raises Malformed, KeyError and TypeError."""
    trajectory = trajectory_of(document)
    if document["end"] not in get_args(End) or trajectory.task.task_id is None:
        raise Malformed("end", "how an attempt at a task ended", document["end"])
    return Episode(
        task_id=trajectory.task.task_id,
        sample=document["sample"],
        trajectory=trajectory,
        costs=tuple(Cost(**cost) for cost in document["costs"]),
        end=document["end"],
        detail=document["detail"],
        seconds=document["seconds"],
        attempts=document["attempts"],
        flags=tuple(document.get("flags", ())),  # older files have none
        completions=tuple(Completion(one["text"], one["truncated"]) for one in document["completions"]),
    )


# ------------------------------------------------------------------------------------------------- file


def write(path: Path, episode: Episode) -> None:
    """Append one, on disk when this returns. What a kill left of a last line is to be cut first (`take_up`)."""
    append(path, to_json(episode))


def append(path: Path, document: Mapping[str, Any]) -> None:
    """Append a line of JSON, on disk when this returns."""
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(as_line(document))
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


def read(path: Path) -> list[Episode]:
    """The episodes of a file, of a key the last one, in order of first appearance; none where there is no file.

    A last line that a kill tore is left out. Raises DataError for any other line that is no episode.
    """
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")
    found: dict[tuple[str, int], Episode] = {}
    for number, line in enumerate(lines, 1):
        try:
            episode = from_json(_document(line))
        except (ValueError, KeyError, TypeError, AttributeError, Malformed) as error:
            raise DataError(f"{path}:{number}: no episode of ours ({error!r}); mend the line or take it out") from None
        found[episode.key] = episode
    return list(found.values())


def take_up(path: Path) -> list[Episode]:
    """The finished episodes; the file holds these alone afterwards, and can be appended to.

    What a kill tore goes, and what infrastructure ended, which is run again.
    """
    finished = [episode for episode in read(path) if episode.finished]
    if path.exists():
        rewrite(path, finished)
    return finished


def rewrite(path: Path, episodes: Iterable[Episode]) -> None:
    """Replace the file at once by these, a line each."""
    write_aside(path, b"".join(as_line(to_json(episode)) for episode in episodes))


def judge(path: Path, resolved: Callable[[Episode], bool | None]) -> list[Episode]:
    """Put what the hidden tests say into `outcome.resolved` of each episode, and return them.

    The file is replaced at once, in the order of tasks' ids and samples: it does not tell who was faster.
    """
    episodes = [episode.judged(resolved(episode)) for episode in sorted(read(path), key=lambda one: one.key)]
    if episodes:
        rewrite(path, episodes)
    return episodes


def as_line(document: Mapping[str, Any]) -> bytes:
    """A document as a line; what `_document` reads back exactly."""
    try:
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a patch of bytes that are no UTF-8: escapes that Python reads back exactly
        return json.dumps(document).encode() + b"\n"


def _document(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)
