"""`swe-srl rollout`: whole attempts, kept as training data or to look at, and graded as they end.

found, table = roll(config)
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from swe_srl import episodes
from swe_srl.agent_config import AgentConfig
from swe_srl.attempts import attempts, episodes_path, refuse_what_cannot_act, with_served
from swe_srl.episodes import Episode
from swe_srl.errors import ConfigError
from swe_srl.evaluate.judging import Judging
from swe_srl.evaluate.outcomes import RESOLVED, Result, failures, result
from swe_srl.inspection import View
from swe_srl.places import Place, patient, placed, told
from swe_srl.progress import bar
from swe_srl.runs import Run
from swe_srl.sandboxes.pool import Pool
from swe_srl.tasks import load
from swe_srl.tasks.images import Behind
from swe_srl.tasks.opening import opened

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swe_srl.types import Task, Verdict

Key = tuple[str, int]  # a task and a sample


def roll(config: AgentConfig) -> View:
    """Make the attempts that the run does not hold yet, grade them, and tell what all of them came to.

    `outcome.resolved` of each episode is set in `rollouts/episodes.jsonl`. Raises UserErrors, and PolicyError where an
    endpoint does not answer at all; what else fails is a row.
    """
    if config.baseline is not None:
        raise ConfigError("baseline is of swe-srl evaluate, which compares; rollout only makes attempts: leave it out")
    tasks = load(config.tasks, config.limit)
    refuse_what_cannot_act(config)
    config = with_served(config)
    what = "rollout" if config.mode == "agent" else f"rollout-{config.mode}"
    run = Run(config.folder(named=f"{what}-{config.subject}"), config)
    with placed(config.sandbox, tasks) as place, run.held():
        place.ahead(tasks, prune=config.images.prune, pull=config.images.pull)
        over = Behind(tasks, config.rollout.samples, place.behind) if config.images.prune else None
        with (
            place.pool("grading", max_open=config.grade.workers, pull=config.images.pull) as pool,
            Judging(run.folder, pool, config.grade, over) as judging,
        ):
            made = attempted(config, tasks, place, run, judging)
            verdicts = judging.finish(made)
        words = {one.key: _word(one, verdicts) for one in made}
        episodes.judge(episodes_path(run), lambda one: _resolved(words[one.key]))
    found = {
        "run_dir": str(run.folder),
        "rollouts": str(episodes_path(run)),
        "episodes": len(made),
        "resolved": sum(word == RESOLVED for word in words.values()),
        "failures": failures(words.values()),
        "ends": dict(Counter(one.end for one in made)),
        "flags": dict(Counter(flag for one in made for flag in one.flags)),
        "turns": sum(len(one.trajectory.turns) for one in made),
        "tokens": sum(map(_tokens, made)),
    }
    return found, Group(_table(made, words, found), _places(found))


def attempted(config: AgentConfig, tasks: Sequence[Task], place: Place, run: Run, judging: Judging) -> list[Episode]:
    """The run's episodes in the order of samples and tasks, each given to the graders when it ends, beside a bar."""
    by_id = {task.task_id: task for task in tasks}
    made: list[Episode] = []
    tokens, began = 0, time.monotonic()
    total = len(tasks) * config.rollout.samples
    with (
        place.pool("attempts", max_open=config.rollout.workers, pull=config.images.pull) as rooms,
        told(place, run) as tell,
        bar("attempts", total) as tick,
        contextlib.closing(_attempts(config, tasks, rooms, run)) as episodes_made,
    ):
        for episode in episodes_made:
            made.append(episode)
            judging.take(by_id[episode.task_id], episode)
            tokens += _tokens(episode)
            speed = f"{tokens / (time.monotonic() - began):.0f} tokens/s" if tokens else ""  # a script has none
            tell()
            tick(len(made), ", ".join(filter(None, (judging.words, speed, place.words))))
    order = {task_id: place for place, task_id in enumerate(by_id)}
    return sorted(made, key=lambda one: (one.sample, order[one.task_id]))


def _attempts(config: AgentConfig, tasks: Sequence[Task], rooms: Pool, run: Run) -> Generator[Episode]:
    config = config.model_copy(update={"rollout": patient(config.rollout, rooms)})
    return attempts(config, tasks, partial(opened, pool=rooms), run)


def _word(episode: Episode, verdicts: Mapping[Key, Verdict]) -> Result:
    return result(episode.end, episode.trajectory.outcome.patch, verdicts.get(episode.key))


def _resolved(word: Result) -> bool | None:
    return None if word == "infrastructure" else word == RESOLVED


def _tokens(episode: Episode) -> int:
    return sum((cost.prompt_tokens or 0) + (cost.completion_tokens or 0) for cost in episode.costs)


def lost_words(count: int) -> list[str]:
    """The last line of a command whose attempts were lost, if any was."""
    return [f"{count} lost to infrastructure: the same command tries them again"] * (count > 0)


def _places(found: Mapping[str, Any]) -> RenderableType:
    """Where all is, and what may come next."""
    lines = [
        f"run          {found['run_dir']}",
        f"rollouts     {found['rollouts']}",
        f"look at them swe-srl inspect {found['run_dir']}/rollouts",
        *lost_words(found["failures"].get("infrastructure", 0)),
    ]
    return Group(*map(Text, lines))


def _table(
    made: Sequence[Episode], words: Mapping[tuple[str, int], Result], found: Mapping[str, Any]
) -> RenderableType:
    table = Table("what became of it", "episodes", "turns", "seconds", "tokens", title=escape(found["rollouts"]))
    for word in (RESOLVED, *found["failures"]):
        group = [one for one in made if words[one.key] == word]
        if group:
            means = (fmean(len(one.trajectory.turns) for one in group), fmean(one.seconds for one in group))
            table.add_row(
                word, str(len(group)), *(f"{mean:.1f}" for mean in means), f"{fmean(map(_tokens, group)):,.0f}"
            )
    table.caption = f"{found['resolved']} of {found['episodes']} resolved; turns, seconds and tokens are means"
    if found["flags"]:
        flagged = ", ".join(f"{flag} {count}" for flag, count in found["flags"].items())
        table.caption += f"\n{sum(bool(one.flags) for one in made)} flagged: {flagged}"
    return table
