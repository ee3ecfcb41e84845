"""The TOML of `swe-srl train`: a chain of stages.

`[train]` holds defaults for every stage that has the key; what a stage sets itself wins. Defaults are the paper's where
it states one (§5.1, Tables 5 and 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from swe_srl.agent_config import GradeConfig, ImagesConfig, Limits, TasksConfig
from swe_srl.config import (
    OWN_THRESHOLD,
    Count,
    DataConfig,
    EngineConfig,
    LiveSandbox,
    ModelConfig,
    Natural,
    PromptConfig,
    RewardConfig,
    Share,
    Strict,
    TrainSandbox,
    UserPath,
    ValidationConfig,
)
from swe_srl.loading import nearest, stages_in

SPENT = "its CPU seconds are spent"  # why a stage ended


class Stage(Strict):
    """What every kind of stage has. A length is `steps`, or `epochs` over the training steps (RLVR's: its tasks), or
    `cpu_s`, CPU seconds of this process in sampling and updates; of several it ends at the first.

    With `cpu_s` the schedule runs over them. Validation is not counted, nor are other processes: sandboxes, and
    reward.workers.
    """

    name: str = Field(pattern=r"^[\w-]+$", description="part of a folder's name and of stage.NAME.key")
    kind: str
    steps: Natural | None = None
    epochs: float | None = Field(None, gt=0)
    cpu_s: float | None = Field(None, gt=0)
    batch: Count
    lr: float = Field(ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = Field(0.0, ge=0, le=1, description="share of the steps")
    final_lr: float = Field(0.0, ge=0, le=1, description="share of lr that the schedule ends at")
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    token_budget: Count = Field(16_384, description="tokens of one forward pass, padding included")
    prefix_sharing: bool = True
    activation_checkpointing: bool = Field(False, description="layers are computed again in backward, not kept")
    validate_every: Count = 50
    metric: Literal["loss", "similarity", "own_similarity", "resolved"] = "similarity"
    patience: Count | None = Field(None, description="validations without a better one that end the stage")
    save_every: Count = 50
    keep_last: Count = 2

    @model_validator(mode="after")
    def _has_a_length(self) -> Stage:
        if self.steps is None and self.epochs is None and self.cpu_s is None:
            raise ValueError(f"stage {self.name!r} needs a length: steps, epochs or cpu_s")
        return self


MAX_UNSCORED = 0.5


class SftStage(Stage):
    kind: Literal["sft"] = "sft"
    batch: Count = 64
    lr: float = Field(default=5e-6, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: Share = 0.3
    prompt_weight: float = Field(0.0, ge=0, description="of a token of issue or observation; for networks from scratch")
    metric: Literal["loss", "similarity"] = "loss"


class RlStage(Stage):
    """Of groups of answers, rewarded each: what SRL and RLVR share."""

    batch: Count = Field(512, description="live groups an update")
    lr: float = Field(default=5e-7, ge=0)
    group_size: int = Field(8, ge=2, description="answers a prompt; one alone has no advantage")
    temperature: float = Field(1.0, gt=0)
    min_group_std: float = Field(1e-6, ge=0)
    dynamic_sampling: bool = Field(True, description="False: groups whose rewards are alike fill the batch, too")
    max_draws: Count = Field(10, description="draws a batch, as a multiple of batch")
    updates_per_batch: Count = 1
    clip_epsilon: float = 0.2
    kl: float = 0.0
    sampler_weight_cap: float | None = Field(None, description="truncated importance weight; None is off")
    max_unscored: float = Field(MAX_UNSCORED, description="share of answers without a reward that stops the run")


class SrlStage(RlStage):
    kind: Literal["srl"] = "srl"
    metric: Literal["loss", "similarity", "own_similarity"] = "similarity"
    execute: bool = Field(False, description="run each answer's command at its step, and keep what it did")
    history: Literal["expert", "own"] = Field("expert", description="what a step is asked after: the log, or its own")
    own_threshold: Share = Field(OWN_THRESHOLD, description="similarity from which an own command is gone on from")
    reward_per: Literal["step", "trajectory"] = Field("step", description='"trajectory": the mean of its answers\'')

    @model_validator(mode="after")
    def _a_whole_trajectory_is_the_experts(self) -> SrlStage:
        if self.reward_per == "trajectory" and self.runs_commands:
            raise ValueError('reward_per = "trajectory" asks after the log\'s history: leave execute and history out')
        return self

    @model_validator(mode="after")
    def _one_place_to_run(self) -> SrlStage:
        if self.history == "own" and self.execute:
            raise ValueError('execute runs answers where the expert was, history = "own" asks elsewhere: choose one')
        if self.history != "own" and self.own_threshold != OWN_THRESHOLD:
            raise ValueError('own_threshold is of history = "own": leave it out')
        return self

    @property
    def runs_commands(self) -> bool:
        return self.execute or self.history == "own"


class RlvrStage(RlStage):
    """Whole attempts at tasks, rewarded by the hidden tests. `batch` is tasks, `group_size` attempts at each.

    An attempt is overlong that its limits ended: the steps, the tokens, the wall time, the model's context.
    """

    kind: Literal["rlvr"] = "rlvr"
    batch: Count = Field(128, description="live groups, each of a task, an update (the paper's RLVR, Table 6)")
    format_penalty: float = Field(-1.0, description="reward of an attempt that format errors ended")
    partial_credit: bool = Field(False, description="the share of FAIL_TO_PASS that pass, if no PASS_TO_PASS is lost")
    overlong: Literal["count", "mask"] = Field("count", description="with what the tests say, or left out")
    max_lag: Natural = Field(0, description="updates that the weights which draw a batch may be behind")

    @model_validator(mode="after")
    def _older_samples_are_weighted(self) -> RlvrStage:
        if self.max_lag and self.sampler_weight_cap is None:
            raise ValueError(
                "max_lag > 0 learns from samples of older weights, which need importance weights: set "
                "sampler_weight_cap, such as 2.0"
            )
        return self


AnyStage = Annotated[SftStage | SrlStage | RlvrStage, Field(discriminator="kind")]
STAGES: dict[str, type[Stage]] = {"sft": SftStage, "srl": SrlStage, "rlvr": RlvrStage}


def with_defaults(defaults: Any, stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stages as they were read, with `[train]`'s keys where they have them and set nothing themselves.

    Raises ValueError: a key that no stage has is an error, here as everywhere.
    """
    if not isinstance(defaults, dict):
        raise ValueError("train is a table of defaults for the stages: [train]")
    kinds = [STAGES[stage["kind"]] for stage in stages if stage.get("kind") in STAGES]
    for key in defaults if len(kinds) == len(stages) else ():  # a kind that is none is told first
        if not any(key in kind.model_fields for kind in kinds):
            fields = {name for kind in kinds for name in kind.model_fields}
            raise ValueError(f"train.{key}: no stage has such a key{nearest(key, fields)}")
    return [
        {k: v for k, v in defaults.items() if k in STAGES[stage["kind"]].model_fields} | stage
        if stage.get("kind") in STAGES
        else stage
        for stage in stages
    ]


class RolloutsConfig(Strict):
    """Answers that a stage learns from in place of its own: those that another run's stage of its name has kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    from_run: UserPath = Field(alias="from", description="a run directory")


class TrainConfig(Strict):
    """`swe-srl train`. `run` is the run directory; the seed and each stage's name feed every draw.

    `tasks`, `rollout`, `grade` and `images` are of RLVR's attempts; those at tasks of held-out repositories validate.
    """

    run: UserPath
    seed: int = 0
    model: ModelConfig = ModelConfig()
    data: DataConfig
    prompt: PromptConfig = PromptConfig()
    engine: EngineConfig = EngineConfig()
    reward: RewardConfig = RewardConfig()
    validation: ValidationConfig = ValidationConfig()
    sandbox: TrainSandbox | None = None
    tasks: TasksConfig | None = None
    rollout: Limits | None = None
    grade: GradeConfig | None = None
    images: ImagesConfig | None = None
    rollouts: RolloutsConfig | None = None
    tensorboard: bool = False
    wandb: str | None = Field(None, min_length=1, description="a project of Weights & Biases")
    stage: list[AnyStage] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _spread_train_defaults(cls, data: Any) -> Any:
        """`[train]` becomes each stage's defaults."""
        if not isinstance(data, dict):
            return data
        spread = with_defaults(data.get("train", {}), stages_in(data))
        return {key: value for key, value in data.items() if key != "train"} | {"stage": spread}

    @model_validator(mode="after")
    def _names_differ(self) -> TrainConfig:
        names = [stage.name for stage in self.stage]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need different names, seen {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _one_vllm_a_process(self) -> TrainConfig:
        lagging = [one.name for one in self.stage if isinstance(one, RlvrStage) and one.max_lag > 0]
        if self.engine.kind == "vllm" and lagging:
            raise ValueError(
                f"stage {lagging[0]!r}: max_lag wants a second engine in this process, beside the first one's work, "
                'and vLLM is one at a time: set max_lag = 0, or engine.kind = "hf"'
            )
        return self

    @model_validator(mode="after")
    def _recorded_answers_are_used(self) -> TrainConfig:
        if self.rollouts is None:
            return self
        srl = [one for one in self.stage if isinstance(one, SrlStage)]
        if not srl or self.attempts_tasks:
            raise ValueError("rollouts.from is of answers to the logs' steps: a chain with an srl stage, and no rlvr")
        if one := next((one for one in srl if one.execute or one.reward_per == "trajectory"), None):
            raise ValueError(
                f"stage {one.name!r}: recorded answers are neither executed, nor regrouped by trajectory: leave "
                "execute and reward_per out, or rollouts.from"
            )
        return self

    @property
    def attempts_tasks(self) -> bool:
        return any(isinstance(one, RlvrStage) for one in self.stage)

    @model_validator(mode="after")
    def _sandbox_is_used(self) -> TrainConfig:
        on_logs = self.validation.walks or any(isinstance(one, SrlStage) and one.runs_commands for one in self.stage)
        if self.sandbox is not None and not (on_logs or self.attempts_tasks):
            raise ValueError(
                'sandbox is where commands run, and no srl stage has execute = true or history = "own", nor has '
                "validation, and no stage is rlvr: leave it out"
            )
        if self.sandbox is not None and self.sandbox.fleet and not self.attempts_tasks:
            raise ValueError("sandbox.fleet spreads attempts at tasks, and no stage is rlvr: leave it out")
        plain = LiveSandbox()
        if self.sandbox and not on_logs and (self.sandbox.workers, self.sandbox.tasks) != (plain.workers, plain.tasks):
            raise ValueError(
                "sandbox.workers and sandbox.tasks are of the logs' steps; attempts have rollout.workers and [tasks]"
            )
        return self

    @model_validator(mode="after")
    def _tables_of_attempts_are_used(self) -> TrainConfig:
        unused = [name for name in ("tasks", "rollout", "grade", "images") if getattr(self, name) is not None]
        if unused and not self.attempts_tasks:
            raise ValueError(f"{', '.join(unused)}: of attempts at tasks, and no stage is rlvr: leave it out")
        if self.images is not None and self.images.prune:
            raise ValueError("images.prune removes what the next epoch needs: leave it out")
        return self

    @model_validator(mode="after")
    def _metrics_are_measured(self) -> TrainConfig:
        missing = {"own": "similarity", "expert": "own_similarity"}.get(self.validation.history)
        if one := next((stage for stage in self.stage if stage.metric == missing), None):
            raise ValueError(
                f"stage {one.name!r} chooses its best by {missing}, which validation.history = "
                f'"{self.validation.history}" does not measure: "both" measures each'
            )
        return self
