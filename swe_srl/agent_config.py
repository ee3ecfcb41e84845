"""The TOML of whole attempts at tasks: `swe-srl evaluate` in its three protocols, and `swe-srl rollout`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from swe_srl.config import Count, EngineConfig, ModelConfig, Natural, PromptConfig, Spread, Strict, UserPath
from swe_srl.fingerprint import fingerprint

Protocol = Literal["agent", "oracle_edit", "localize_repair"]
Agent = Literal["policy", "gold", "empty", "noop", "random", "peek"]


class TasksConfig(Strict):
    """`source`: "bugfix" for this project's suite, its folder's or a JSON, JSONL or Parquet file's path, or a data
    set's name ("SWE-bench/SWE-bench_Verified"). `split` is the suite's or the data set's; None takes all. `complete`
    is another file or data set, whose rows give classic ones the image and the evaluation script that they lack.
    `variants` takes each task of a suite under its first so many other names, instead of its own.
    """

    source: UserPath = "bugfix"
    split: str | None = None
    ids: list[str] = Field(default=[], description="only these, in this order")
    repositories: list[str] = Field(default=[], description="only tasks of these")
    variants: Natural = 0
    complete: UserPath | None = None


class AttemptSandbox(Spread):
    """Where attempts are made."""

    timeout_s: float = Field(default=30.0, gt=0, description="of each command")


class Limits(Strict):
    """When an attempt ends, and how many are made at a time.

    `token_budget` counts prompts and answers of all turns; `wall_s` begins with the first prompt, when the sandbox is
    open. `workers` sandboxes are open at a time.
    """

    max_steps: Count = 30
    token_budget: Count | None = None
    wall_s: float = Field(default=1800.0, gt=0)
    format_errors: Count = Field(default=3, description="in a row, that end an attempt")
    workers: Count = 4
    open_s: float = Field(default=600.0, gt=0, description="to open a sandbox: never of the attempt's own time")
    attempts: Count = Field(default=2, description="tries of an attempt that infrastructure ended")


class EpisodeLimits(Limits):
    """`swe-srl rollout` and `evaluate`: how many attempts, too. A training's stage says that itself."""

    samples: Count = Field(default=1, description="attempts a task")
    temperature: float = Field(default=0.0, ge=0)


class ImagesConfig(Strict):
    """Docker's images of the tasks: absent ones are pulled before the run; with `prune` each when it is needed, and
    every one is removed after its task, but for `--official`, which needs them at the end. Without `pull` nothing is
    pulled: attempts at tasks whose image is absent are lost to infrastructure.
    """

    pull: bool = True
    prune: bool = False


class GradeConfig(Strict):
    """`network` is that of the graders' sandboxes: "official" as the official harness has it (on), or "none"."""

    network: Literal["official", "none"] = "official"
    timeout_s: float = Field(default=1800.0, gt=0)
    workers: Count = 2
    attempts: Count = 2


class AgentConfig(Strict):
    """`swe-srl evaluate` of whole attempts, and `swe-srl rollout`.

    `run` is the run directory; without it `folder` names one by what is asked, so that the same command goes on in it.

    `agent` is the policy of `model` and `engine`, or a scripted one that needs neither. Without `prompt` a checkpoint
    of ours is asked in the prompts that it was trained on. `baseline` is another run's report, compared task by task.
    """

    run: UserPath | None = None
    mode: Protocol = "agent"
    agent: Agent = "policy"
    seed: int = 0
    limit: Count | None = Field(default=None, description="only the first so many tasks")
    model: ModelConfig = ModelConfig()
    prompt: PromptConfig | None = None
    engine: EngineConfig = EngineConfig()
    tasks: TasksConfig = TasksConfig()
    images: ImagesConfig = ImagesConfig()
    sandbox: AttemptSandbox = AttemptSandbox()
    rollout: EpisodeLimits = EpisodeLimits()
    grade: GradeConfig = GradeConfig()
    baseline: UserPath | None = None

    def folder(self, *also: str, named: str | None = None) -> Path:
        """`run`, or a folder under runs/: named by what is done, on what and by whom, and by a hash of all the rest.

        The weights of a checkpoint are part of the hash, as is what `also` tells; the baseline is not.
        """
        if self.run is not None:
            return Path(self.run)
        path = self.model.path if self.agent == "policy" else None
        asked = self.model_dump_json(exclude={"run", "baseline"}, exclude_defaults=True)
        parts = [asked, *also, *([fingerprint(path) or ""] if path else [])]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
        words = re.sub(r"[^\w.-]", "_", named or f"{self.mode}-{self.subject}")
        return Path("runs", f"{words}-{digest}")

    @property
    def subject(self) -> str:
        """On what and by whom, in two words: the last parts of the names."""
        name = (self.engine.served or self.model.path) if self.agent == "policy" else None
        return f"{Path(self.tasks.source).stem}-{Path(name).name if name else self.agent}"
