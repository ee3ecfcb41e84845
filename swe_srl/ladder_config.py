"""The TOML of `swe-srl ladder`: what all arms share, the base that they start from, and each arm's own stages."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, model_validator

from swe_srl.agent_config import GradeConfig, ImagesConfig, Limits, TasksConfig
from swe_srl.config import (
    Count,
    DataConfig,
    EngineConfig,
    LiveSandbox,
    ModelConfig,
    Natural,
    OwnHistory,
    PromptConfig,
    RewardConfig,
    Strict,
    UserPath,
    ValidationConfig,
)
from swe_srl.loading import nearest
from swe_srl.train_config import AnyStage, RlvrStage, SrlStage, TrainConfig, with_defaults

BASE = "base"


class Base(Strict):
    """A chain of stages, with lengths of their own, that makes what every arm starts from."""

    stage: list[AnyStage] = Field(min_length=1)


class Arm(Strict):
    """A chain of stages from the base on. `against`: the arm that it is compared with, beside the base; by default
    the one before it."""

    name: str = Field(pattern=r"^[\w-]+$", description="of a folder")
    against: str | None = None
    stage: list[AnyStage] = Field(min_length=1)


class HeldOutSteps(OwnHistory):
    """The held-out steps that every arm answers: `samples` times at T = 1, beside one greedy answer.

    With `history = "both"` greedily after its own history, too.
    """

    steps: Count | None = None
    samples: Natural = 4


class HeldOutTasks(Strict):
    """The held-out tasks that every arm attempts: `count` of `tasks`, spread over their order; None takes all.

    [rollout] and [grade] hold for these attempts as for training's.
    """

    tasks: TasksConfig = TasksConfig(split="test")
    count: Count | None = None
    samples: Count = Field(1, description="attempts a task")
    temperature: float = Field(0.0, ge=0)


class LadderConfig(Strict):
    """`swe-srl ladder`. `budget_cpu_s` is what each arm's updates and sampling take, after the base.

    A stage of an arm has `share`, its part of the budget (by default its stages' parts are equal), and no length of its
    own but `epochs` and `steps` that may end it earlier. `[train]` holds defaults for all stages, the base's too.
    Without `[base]` the base is `model.path`.
    """

    run: UserPath
    seeds: list[int] = Field(min_length=1)
    budget_cpu_s: float = Field(gt=0)
    data: DataConfig
    model: ModelConfig = ModelConfig()
    prompt: PromptConfig = PromptConfig()
    engine: EngineConfig = EngineConfig()
    reward: RewardConfig = RewardConfig()
    validation: ValidationConfig = ValidationConfig()
    sandbox: LiveSandbox = LiveSandbox()
    tasks: TasksConfig = TasksConfig()
    rollout: Limits = Limits()
    grade: GradeConfig = GradeConfig()
    images: ImagesConfig = ImagesConfig()
    base: Base | None = None
    arm: list[Arm] = Field(min_length=1)
    evaluate: HeldOutSteps = HeldOutSteps()
    attempts: HeldOutTasks | None = Field(None, description="None: no resolved rate")

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, data: Any) -> Any:
        """`[train]` becomes every stage's defaults, and an arm's budget its stages' CPU seconds."""
        if not isinstance(data, dict):
            return data
        chains = [one for one in (data.get("base"), *_tables(data, "arm")) if isinstance(one, dict)]
        stages = [stage for chain in chains for stage in _tables(chain, "stage")]
        spread = iter(with_defaults(data.get("train", {}), stages))
        found = {key: value for key, value in data.items() if key != "train"}
        if isinstance(data.get("base"), dict):
            found["base"] = data["base"] | {"stage": [next(spread) for _ in _tables(data["base"], "stage")]}
        budget = data.get("budget_cpu_s")
        found["arm"] = [
            arm | {"stage": _shared([next(spread) for _ in _tables(arm, "stage")], budget, str(arm.get("name")))}
            for arm in _tables(data, "arm")
        ]
        return found

    @model_validator(mode="after")
    def _arms_are_told_apart(self) -> LadderConfig:
        names = [BASE, *(arm.name for arm in self.arm)]
        if len(set(names)) < len(names):
            raise ValueError(f"arms need different names, and {BASE!r} is the base's; seen {', '.join(names[1:])}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed twice is no second measurement")
        for place, arm in enumerate(self.arm):
            if arm.against is not None and arm.against not in names[: place + 1]:
                before = names[: place + 1]
                raise ValueError(
                    f"arm {arm.name!r}: against = {arm.against!r} is no arm before it; expected one of "
                    f"{', '.join(before)}{nearest(arm.against, before)}"
                )
        return self

    @model_validator(mode="after")
    def _there_is_a_base(self) -> LadderConfig:
        if self.base is None and self.model.path is None:
            raise ValueError("the arms start from a base: give [[base.stage]], or model.path")
        for name, stages in self.chains.items():
            try:  # what a training refuses is told before anything is trained
                self.training(name, stages, "x", 0, self.run)
            except ValidationError as error:
                told = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
                raise ValueError(f"{name}: {told}") from None
        return self

    @property
    def chains(self) -> dict[str, list[AnyStage]]:
        """The stages of the base, if it has any, and of each arm."""
        return {**({BASE: self.base.stage} if self.base else {}), **{arm.name: arm.stage for arm in self.arm}}

    def against(self, name: str) -> list[str]:
        """What an arm is compared with: the base, and another arm if it is one."""
        names = [BASE, *(arm.name for arm in self.arm)]
        if name == BASE:
            return []
        arm = self.arm[names.index(name) - 1]
        return list(dict.fromkeys([BASE, arm.against or names[names.index(name) - 1]]))

    def training(self, name: str, stages: list[AnyStage], origin: str | None, seed: int, run: str) -> TrainConfig:
        """One arm's training, or the base's, with the tables that it uses."""
        attempts = any(isinstance(stage, RlvrStage) for stage in stages)
        on_logs = self.validation.walks or any(isinstance(one, SrlStage) and one.runs_commands for one in stages)
        sandbox = self.sandbox if on_logs else LiveSandbox(kind=self.sandbox.kind, timeout_s=self.sandbox.timeout_s)
        model = self.model if name == BASE else self.model.model_copy(update={"path": origin, "scratch": _SCRATCH})
        of_attempts = ("tasks", "rollout", "grade", "images") if attempts else ()
        return TrainConfig.model_validate(
            {
                "run": run,
                "seed": seed,
                "model": model,
                "sandbox": sandbox.model_dump() if on_logs or attempts else None,
                "stage": [stage.model_dump() for stage in stages],
            }
            | {name: getattr(self, name) for name in (*_SHARED, *of_attempts)}
        )


_SHARED = ("data", "prompt", "engine", "reward", "validation")
_SCRATCH = ModelConfig().scratch


def _tables(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The `[[key]]` tables as they were read. Raises ValueError."""
    found = data.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"{key} is a list of tables: write [[…{key}]], with two brackets, before each")
    return found


def _shared(stages: list[dict[str, Any]], budget: Any, arm: str) -> list[dict[str, Any]]:
    """An arm's stages with their CPU seconds. Raises ValueError."""
    if any("cpu_s" in stage for stage in stages):
        raise ValueError(f"arm {arm!r}: a stage's cpu_s is its share of budget_cpu_s: give share")
    given = [stage["share"] for stage in stages if "share" in stage]
    shares = given or [1 / len(stages)] * len(stages)
    if len(shares) != len(stages) or not all(isinstance(share, int | float) and share > 0 for share in shares):
        raise ValueError(f"arm {arm!r}: each of its stages has a share of the budget between 0 and 1, or none has")
    if stages and abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"arm {arm!r}: its stages' shares are {sum(shares):g} together, and have to be 1")
    known = budget if isinstance(budget, int | float) else 1.0  # what is wrong with it is told where it stands
    return [
        {key: value for key, value in stage.items() if key != "share"} | {"cpu_s": share * known}
        for stage, share in zip(stages, shares, strict=True)
    ]
