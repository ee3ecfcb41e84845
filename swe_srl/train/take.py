"""Dynamic sampling: a batch is the first B live groups in draw order (§4.2)."""

from __future__ import annotations

from dataclasses import dataclass

from swe_srl.errors import TrainingError
from swe_srl.train.checkpoint import Progress
from swe_srl.train.sources import Cursor, Source
from swe_srl.train_config import RlStage, SftStage
from swe_srl.types import Group


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn for one batch. `cursor` is where the next batch begins; surplus draws come again there.

    `converged` is the reason why the stage ends instead of learning from it.
    """

    seen: tuple[Group, ...]
    live: tuple[Group, ...]
    cursor: Cursor
    converged: str | None = None


def take(source: Source, settings: SftStage | RlStage, progress: Progress) -> Draw:
    """The first `batch` live groups, or fewer where the bound on draws is met first.

    Raises TrainingError where too many answers have no reward: that is infrastructure, not learning.
    """
    seen: list[Group] = []
    live: list[Group] = []
    for group in source.groups(progress.step, progress.cursor):
        seen.append(group)
        if source.is_live(group):
            live.append(group)
            if len(live) == settings.batch:
                break
    if isinstance(settings, RlStage):
        _refuse_unscored(seen, settings.max_unscored)
    cursor = Cursor(seen[-1].draw + 1, len(live) / len(seen))  # a draw may have no group (`own_source.py`)
    converged = None
    if len(live) < max(settings.batch / 4, 1):
        converged = (
            f"converged: {len(live)} of {len(seen)} groups had rewards that differ, fewer than a quarter of the "
            f"{settings.batch} that an update needs"
        )
        if _malformed(seen):
            converged += "; nearly all answers were format errors: warm the student up by SFT first (paper §5.4)"
        elif _nothing_resolved(seen):
            converged += "; no attempt resolved its task: train by SRL first, until some do (paper §4)"
    return Draw(tuple(seen), tuple(live), cursor, converged)


def _malformed(groups: list[Group]) -> bool:
    """Whether nearly every answer was a format error."""
    errors = [sample.score.format_error is not None for group in groups for sample in group.samples]
    return sum(errors) >= 0.9 * len(errors)


def _nothing_resolved(groups: list[Group]) -> bool:
    """Whether these are attempts at tasks that all failed."""
    seen = [sample.score.parts for group in groups for sample in group.samples if sample.score.parts]  # else lost
    return bool(seen) and not any(parts.get("resolved", 1.0) for parts in seen)


def _refuse_unscored(groups: list[Group], bound: float) -> None:
    """What has parts was looked at, and left out on purpose (`overlong = "mask"`)."""
    responses = [turns[0].score for group in groups for turns in group.responses]
    unscored = sum(score.value is None and not score.parts for score in responses)
    refuse_unscored(unscored, len(responses), bound)


def refuse_unscored(unscored: int, of: int, bound: float, what: str = "answers") -> None:
    """Raises TrainingError where more than the bound, or all, were lost: nothing is learnt or chosen by the rest."""
    if unscored > bound * of or unscored == of > 0:
        raise TrainingError(
            f"{unscored} of {of} {what} could not be scored, over the bound of {bound:.0%} "
            "(max_unscored): mend the infrastructure and start the same command again, it goes on from the last state"
        )
