"""Episodes of a training on disk, with their tokens, before anything is learnt from them.

episodes/update_N.jsonl            as they end; once the update has used them a last line says with which rewards
episodes/validation_N.jsonl        those at the held-out tasks, after N updates
episodes/….rank_R.jsonl            those that another rank than the first has made
rollouts/episodes_N.jsonl.zst      those that were drawn for step N, for people: no ids, but what the tests said
rollouts/validation_N.jsonl.zst    and those at the held-out tasks
tasks.json                         which tasks were resolved never, always, or now and then, up to now

A run that was killed goes on from a state that may be several updates old. It makes none of these episodes again, and
those that were used it uses as they were: an episode that was lost then is lost now. What an update did not use it
may still hope for: lost episodes are tried again. When a state is saved, what it covers goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import orjson
import zstandard

from swe_srl import episodes
from swe_srl.disk import of_rank, of_ranks, write_aside
from swe_srl.episodes import Episode
from swe_srl.errors import DataError
from swe_srl.formats.document import Malformed
from swe_srl.runs import read_rows
from swe_srl.types import Score, Tokens

_FOLDER = "episodes"


class Kept:
    """A stage's, of each update or `of` each validation: there an episode's number (`Episode.sample`) is its name.

    A rank adds to its own files.
    """

    def __init__(self, folder: Path, rank: int = 0, of: Literal["update", "validation"] = "update") -> None:
        self._folder, self._rank, self._of = folder / _FOLDER, rank, of

    def take_up(self, update: int) -> tuple[dict[int, Episode], dict[int, Score]]:
        """What an update has, by number: its episodes, of all ranks, and the scores with which it used them.

        What a kill tore is cut off. Raises DataError for a line that is none of ours.
        """
        found: dict[int, Episode] = {}
        scores: dict[int, Score] = {}
        for path in of_ranks(self._plain(update)):
            for number, line in enumerate(_whole_lines(path), 1):
                try:
                    document = json.loads(line)
                    if "scores" in document:
                        scores = {name: Score(value, parts) for name, value, parts in document["scores"]}
                        continue
                    episode = _episode(document)
                except (ValueError, KeyError, TypeError, AttributeError, Malformed) as error:
                    raise DataError(f"{path}:{number}: no episode of ours ({error!r}); take the line out") from None
                if episode.finished or episode.sample not in found:  # what one rank lost another may have made since
                    found[episode.sample] = episode
        if not scores:
            found = {name: episode for name, episode in found.items() if episode.finished}
        return found, scores

    def add(self, update: int, episode: Episode) -> None:
        """Append one, on disk when this returns."""
        tokens = [None if one.tokens is None else asdict(one.tokens) for one in episode.completions]
        episodes.append(self._path(update), {**episodes.to_json(episode), "tokens": tokens})

    def used(self, update: int, scores: Mapping[int, Score]) -> None:
        """Note with which rewards the update learns from them."""
        rewards = [[name, one.value, dict(one.parts)] for name, one in scores.items()]
        episodes.append(self._path(update), {"scores": rewards})

    def _path(self, update: int) -> Path:
        return of_rank(self._plain(update), self._rank)

    def _plain(self, update: int) -> Path:
        return self._folder / f"{self._of}_{update}.jsonl"


Made = Sequence[tuple[Episode, Score, bool]]  # with its reward, and whether its group was live


class Told:
    """What people read of a stage's episodes: each step's, and which tasks teach nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tries: dict[str, list[bool]] = {}

    @classmethod
    def of(cls, folder: Path) -> Told:
        """A stage's, from what its steps have left."""
        self = cls(folder)
        for path in sorted(folder.glob("rollouts/episodes_*.jsonl.zst")):
            for row in read_rows(path):
                self._count(row["task"]["task_id"], row["outcome"]["resolved"])
        return self

    def add(self, step: int, made: Made) -> None:
        """Write down a step's, and count them."""
        rows = []
        for episode, score, live in made:
            resolved = bool(score.parts["resolved"]) if score.parts else None
            self._count(episode.task_id, resolved)
            told = {"reward": score.value, "parts": dict(score.parts), "live": live}
            rows.append({**episodes.to_json(episode.judged(resolved)), **told})
        self._write(f"episodes_{step}", rows)
        write_aside(self._folder / "tasks.json", orjson.dumps(self._tasks(), option=orjson.OPT_INDENT_2))

    def validated(self, step: int, judged: Iterable[Episode]) -> None:
        """Write down the attempts at the held-out tasks after so many updates."""
        rows = map(episodes.to_json, sorted(judged, key=lambda one: one.sample))
        self._write(f"validation_{step}", rows)

    def _write(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        path = self._folder / "rollouts" / f"{name}.jsonl.zst"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, zstandard.ZstdCompressor(level=3).compress(b"".join(map(episodes.as_line, rows))))

    def row(self) -> dict[str, int]:
        return {f"rlvr/tasks_{name}": len(tasks) for name, tasks in self._tasks().items()}

    def _count(self, task_id: str, resolved: bool | None) -> None:
        if resolved is not None:
            self._tries.setdefault(task_id, []).append(resolved)

    def _tasks(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"always_0": [], "always_1": [], "mixed": []}
        for task_id, tries in sorted(self._tries.items()):
            found["mixed" if any(tries) and not all(tries) else f"always_{int(tries[0])}"].append(task_id)
        return found


def covered(folder: Path, step: int) -> Iterable[Path]:
    """Files of a stage's updates, and of its validations, that a state after `step` updates covers."""

    def is_covered(path: Path) -> bool:
        what, number = path.name.split(".")[0].split("_")
        return int(number) < step or (what == "validation" and int(number) == step)

    return [path for path in (folder / _FOLDER).glob("*_*.jsonl") if is_covered(path)]


def _whole_lines(path: Path) -> list[bytes]:
    """A file's; what a kill tore is cut off."""
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        write_aside(path, b"".join(line + b"\n" for line in lines))
    return lines


def _episode(document: Mapping[str, Any]) -> Episode:
    episode = episodes.from_json(document)
    completions = tuple(
        replace(one, tokens=tokens and Tokens(*(tuple(tokens[name]) for name in ("prompt_ids", "ids", "logps"))))
        for one, tokens in zip(episode.completions, document["tokens"], strict=True)
    )
    return replace(episode, completions=completions)
