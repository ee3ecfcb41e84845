"""The nouns of the project: frozen, slotted dataclasses, and nothing of ours imported.

A dict stops at the file edge (formats, config, JSON out); inside, these flow from room to room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Shell = Literal["fresh", "persistent"]
StageKind = Literal["sft", "srl", "rlvr"]
Went = Literal["own", "ahead", "done", "put back", "lost"]


# ------------------------------------------------------------------------------- what an agent did


@dataclass(frozen=True, slots=True)
class Action:
    """One tool call: what the environment consumes, and only that.

    `arguments` maps a parameter's name to its text. A value that a log holds as JSON (a line number, a
    view range) is kept as its JSON text, because text is what the policy writes: "[1, 50]".
    """

    tool: str
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """Thought, action, and what the environment answered.

    `action` is None for a turn that only talked; such a turn is never a target.
    `observation` is None where the log holds none (a last `submit`, usually).
    """

    thought: str
    action: Action | None
    observation: str | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a trajectory was read: `line` is 1-based; 1 for a file that is one document."""

    file: str
    line: int
    format: str


@dataclass(frozen=True, slots=True)
class TaskLink:
    """What the log says of its task; None where it is silent. `repository` is "owner/name" or a bare name."""

    task_id: str | None = None
    repository: str | None = None
    base_commit: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. `resolved` is None where the log does not say; `patch` is the final diff."""

    resolved: bool | None = None
    exit_status: str | None = None
    patch: str | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One agent's attempt at one issue: an expert's from a log, or a policy's own rollout.

    `id` is stable for the same input and unique within a store. `shell` says whether each command had a
    fresh shell or one shell persisted. `dropped` counts, by reason, the log's turns that executed nothing.
    """

    id: str
    issue: str
    turns: tuple[Turn, ...]
    provenance: Provenance
    task: TaskLink = TaskLink()
    outcome: Outcome = Outcome()
    shell: Shell = "persistent"
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def acted(self) -> tuple[Turn, ...]:
        """The turns with an action, in order: step k of the trajectory is `acted[k - 1]`."""
        return tuple(turn for turn in self.turns if turn.action is not None)


@dataclass(frozen=True, slots=True)
class Step:
    """(trajectory, k): one training instance. `k` counts the turns with an action, from 1 as in the paper."""

    trajectory: Trajectory
    k: int

    @property
    def id(self) -> str:
        return f"{self.trajectory.id}#{self.k}"

    @property
    def expert(self) -> Turn:
        """The expert's k-th turn: what the policy's answer is compared with."""
        return self.trajectory.acted[self.k - 1]

    @property
    def action(self) -> Action:
        """The expert's k-th action."""
        action = self.expert.action
        assert action is not None
        return action

    @property
    def history(self) -> tuple[Turn, ...]:
        """The expert's turns before this one, those with an action, oldest first."""
        return self.trajectory.acted[: self.k - 1]


# ---------------------------------------------------------------------------- what a policy answered


@dataclass(frozen=True, slots=True)
class Tokens:
    """A completion as it was sampled: `ids` end with the end-of-turn id unless it was truncated.

    `logps[i]` is the sampler's log-probability of `ids[i]`, under logits / T, in float32.
    """

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """A policy's answer. Only an engine's has `tokens`: without them it cannot be trained on.

    `truncated` means that `max_tokens` ended it, not the model. `usage` is what an endpoint says that it took: tokens
    of the prompt and of the answer, reasoning included.
    """

    text: str
    truncated: bool = False
    tokens: Tokens | None = None
    usage: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A reward and what it is made of. `value` None: nothing could be scored, and nothing is learnt from it.

    `format_error` is the reason why the completion holds no action, else None.
    """

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    format_error: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What the trainer may learn from: a completion with its tokens, and its score.

    `weights` are relative ones of `tokens.ids`, for SFT; empty where all are 1. The turns of one episode share its
    number in the group, and its score.
    """

    tokens: Tokens
    score: Score
    text: str = ""
    weights: tuple[float, ...] = ()
    episode: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The samples of one prompt, from draw number `draw`. `key` names the prompt: a step, a task.

    `went` says how a trajectory that the policy walks itself went on from here (`train/own.py`), else None.
    """

    key: str
    draw: int
    samples: tuple[Sample, ...]
    went: Went | None = None

    @property
    def responses(self) -> list[list[Sample]]:
        """What is rewarded as a whole: a sample, or all turns of an episode; in order of their first samples."""
        found: dict[tuple[str, int], list[Sample]] = {}
        for place, sample in enumerate(self.samples):
            key = ("alone", place) if sample.episode is None else ("episode", sample.episode)
            found.setdefault(key, []).append(sample)
        return list(found.values())


# ----------------------------------------------------------------------------------- tasks and verdicts


@dataclass(frozen=True, slots=True)
class Task:
    """An issue in a repository, and the tests that decide whether it is solved.

    `source` is the folder that the tree is made from; where `image` is set the tree is that image's /testbed, and
    `source` is empty. `gold_patch` and the tests are never shown to a policy. `record` is the row of a data set as
    its own graders read it; the bug-fix suite has none. `difficulty` and `clarity` are that suite's words.
    """

    task_id: str
    repository: str
    issue: str
    source: str
    test_command: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    gold_patch: str
    kind: str = ""
    difficulty: str = ""
    clarity: str = ""
    image: str | None = None
    base_commit: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict, hash=False)


VerdictKind = Literal[
    "resolved", "no patch", "does not apply", "tests fail", "regressions", "tests timed out", "infrastructure"
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the hidden tests say of a patch; `resolved` is None, with a reason, where they did not run.

    `failed` are the tests that should pass and did not. "tests fail": one of `fail_to_pass` is among them (or the
    patch left the tests as they were); "regressions": only tests that passed before. `offline`: graded without the
    network that the official graders have, though it was asked for; a failure may be for that alone.
    """

    task_id: str
    resolved: bool | None
    failed: tuple[str, ...] = ()
    reason: str | None = None
    kind: VerdictKind = "tests fail"
    seconds: float = 0.0
    offline: bool = False
