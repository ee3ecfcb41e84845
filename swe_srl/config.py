"""The tables of a command's TOML, as strict models: those that several commands have, and the small commands' own.

Training's are in train_config.py, those of whole attempts in agent_config.py; loading.py reads and checks them all.
"""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from swe_srl.errors import ConfigError
from swe_srl.prompts import PromptSettings

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
UserPath = Annotated[str, AfterValidator(expanduser)]  # no shell expands the ~ of model.path=~/x


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scratch(Strict):
    """The Qwen2-architecture network and byte-level BPE that are made on the spot where no model is named."""

    layers: int = 2
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 384
    vocabulary: int = 1024
    max_positions: int = 4096


def existing(path: str) -> str:
    """A model's path, unless it is of a folder that is not there. Raises ConfigError.

    owner/name may be a hub's, but not where `owner` is a folder here: runs/typo is asked of nobody.
    """
    place = Path(path).expanduser()
    hub = not path.startswith((".", "/", "~")) and path.count("/") == 1 and not place.parent.is_dir()
    if not hub and not place.exists():
        raise ConfigError(
            f"model.path: there is no folder {path}. Expected a folder with config.json, weights and tokenizer, such "
            "as a run's checkpoints/best, or the name of a model on the hub (owner/name)"
        )
    inside = [] if (place / "config.json").exists() else sorted(one for at in _BEST for one in place.glob(at))
    if inside:
        raise ConfigError(f"model.path: {path} holds a training, and is no model: give {inside[-1]}")
    return path


_BEST = ("stages/*/checkpoints/best", "checkpoints/best", "best")  # of a run, of a stage, of its checkpoints


class Lora(Strict):
    rank: int = Field(ge=1)
    alpha: int = 32
    targets: list[str] | Literal["all-linear"] = "all-linear"


class ModelConfig(Strict):
    """`path`: a folder or a hub name; None makes a small network from the training logs. `dtype` is the
    compute type; master weights and Adam's state are float32 always."""

    path: UserPath | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    scratch: Scratch = Scratch()
    lora: Lora | None = None

    def origin(self) -> str:
        """The path, where one is needed. Raises ConfigError."""
        if self.path is None:
            raise ConfigError("model.path is not set: the folder of a checkpoint, such as runs/…/checkpoints/best")
        return existing(self.path)

    @model_validator(mode="after")
    def _one_origin(self) -> ModelConfig:
        if self.path is not None and self.scratch != Scratch():  # its defaults are in every config that was written
            raise ValueError("model.scratch describes a new network, but model.path names one: leave one out")
        return self


class DataConfig(Strict):
    """`validation` and `test`: names of repositories, or the share of trajectories to hold out."""

    path: UserPath
    resolved_only: bool = False
    tools: list[str] = []
    include_last: bool = True
    validation: Share | list[str] = 0.1
    test: Share | list[str] = 0.1


class PromptConfig(Strict):
    window: Natural | Literal["all"] = Field(default=2, description="pairs of history: two in the paper (Fig. 5)")
    issue_tokens: int = 4096
    observation_tokens: int = 1024
    action_tokens: int = 1024
    system: Literal["full", "brief"] = "full"
    template: Literal["model", "plain"] = "model"
    thoughts: bool = Field(default=True, description="whether an expert's turn is learnt with its thought")

    def settings(self) -> PromptSettings:
        fields = self.model_dump()
        return PromptSettings(**fields | {"window": None if self.window == "all" else self.window})


class EngineConfig(Strict):
    """Who answers: "hf" or "vllm" here, or "openai" a served model at `base_url`, which gives no ids: it cannot be
    trained.

    `max_batch_tokens` bounds the keys and values that one batch of generation holds. With `sleep` vLLM gives its
    memory back while weights are updated: a GPU that it shares with the trainer (docs/vllm.md). An endpoint is asked
    for the model `served` by its own name; the key is in the environment variable that `api_key_env` names, if it
    needs one. `concurrency` requests are under way at once, each is tried again `retries` times, with growing pauses.
    """

    kind: Literal["hf", "vllm", "openai"] = "hf"
    max_tokens: Count = 1024
    max_batch_tokens: Count = 65_536
    sleep: bool = False
    base_url: str | None = None
    served: str | None = Field(default=None, description="None: the only model that the endpoint lists")
    api_key_env: str = "OPENAI_API_KEY"
    timeout_s: float = Field(default=600.0, gt=0, description="of one request")
    retries: Natural = 5
    concurrency: Count = 32

    @model_validator(mode="after")
    def _an_endpoint_has_an_address(self) -> EngineConfig:
        if self.kind == "openai" and self.base_url is None:
            raise ValueError('engine.kind = "openai" needs engine.base_url, such as http://localhost:8000/v1')
        keys = ("base_url", "served", "api_key_env", "timeout_s", "retries", "concurrency")
        set_here = [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]
        if self.kind != "openai" and set_here:
            raise ValueError(f'{", ".join(set_here)}: of an endpoint, and engine.kind is "{self.kind}"')
        if self.sleep and self.kind != "vllm":
            raise ValueError(f'sleep: of engine.kind = "vllm", and it is "{self.kind}"')
        return self

    def ids(self) -> EngineConfig:
        """This, where answers with ids are needed. Raises ConfigError."""
        if self.kind == "openai":
            raise ConfigError('engine.kind = "openai" gives no ids and log-probabilities, which this needs: "hf" does')
        return self


class RewardConfig(Strict):
    """`workers` processes score answers while the next ones are generated; 0 scores in this process."""

    kind: Literal["similarity"] = "similarity"
    workers: Natural = 0


OWN_THRESHOLD = 0.8  # why so: docs/own-history.md
History = Literal["expert", "own", "both"]


class OwnHistory(Strict):
    """Which history a held-out step is asked in: the log's, the policy's own in a sandbox, or each in turn.

    With the policy's own the steps are those of whole trajectories, and `own_threshold` is how near to the expert's a
    command has to be to be gone on from.
    """

    history: History = "expert"
    own_threshold: Share = OWN_THRESHOLD

    @property
    def walks(self) -> bool:
        """Whether trajectories are walked in sandboxes."""
        return self.history != "expert"

    @model_validator(mode="after")
    def _threshold_is_used(self) -> OwnHistory:
        if not self.walks and self.own_threshold != OWN_THRESHOLD:
            raise ValueError('own_threshold is of history = "own" or "both": leave it out')
        return self


class ValidationConfig(OwnHistory):
    """Held-out steps that choose the best checkpoint; None takes all of them."""

    steps: Count | None = 650


def _is_backend(kind: str) -> str:
    from swe_srl.sandboxes import AUTO, BACKENDS

    if kind != AUTO and kind not in BACKENDS:
        raise ValueError(f"no such sandbox; there are {AUTO}, {', '.join(BACKENDS)}")
    return kind


Backend = Annotated[str, AfterValidator(_is_backend)]


class SandboxConfig(Strict):
    kind: Backend


class Spread(Strict):
    """Where sandboxes of attempts and of graders are opened: here, or with `fleet` on the nodes of a Ray cluster.

    `kind` None or "auto" takes the first that isolates and works there. `ray_address` is the cluster's head's,
    "host:6379", or "auto" for the one that this machine is in (docs/fleet.md). It is no part of what a run is, which
    may go on in another cluster.
    """

    kind: Backend | None = None
    fleet: Literal["ray"] | None = None
    ray_address: str = Field(default="auto", exclude=True)

    @model_validator(mode="after")
    def _address_is_used(self) -> Self:
        if self.fleet is None and self.ray_address != "auto":
            raise ValueError('ray_address is of fleet = "ray": give both, or leave it out')
        if self.ray_address.startswith("ray://"):
            raise ValueError(
                "a Ray client moves every byte twice: let this machine join the cluster "
                "(ray start --address=HOST:6379 --num-cpus=0) and leave ray_address out"
            )
        return self


class LiveSandbox(Strict):
    """Where a policy's commands run. `kind`: "auto" or None takes the first that isolates and works here.

    `workers` commands run at a time; `timeout_s` is for each; `tasks` is the suite of the logs' tasks, None ours.
    """

    kind: Backend | None = None
    workers: Count = 2
    timeout_s: float = Field(default=30.0, gt=0)
    tasks: UserPath | None = None


class TrainSandbox(LiveSandbox, Spread):
    """A training's: `fleet` is of its attempts at tasks; what runs on steps of logs stays on this machine."""


class EvaluateSteps(OwnHistory):
    """Offline evaluation on held-out steps. `samples` answers a step at T = 1, beside one greedy answer.

    `baseline` is another checkpoint on the same steps, such as the warm start: differences are to it, paired.
    """

    split: Literal["train", "validation", "test"] = "test"
    steps: Count | None = None
    samples: Natural = 4
    baseline: UserPath | None = None
    out: UserPath | None = None


class EvaluateConfig(Strict):
    """`swe-srl evaluate`, offline: how near a checkpoint's commands are to the experts'.

    Without `prompt` a checkpoint of ours is asked in the prompts that it was trained on.
    """

    mode: Literal["steps"] = "steps"
    seed: int = 0
    model: ModelConfig
    data: DataConfig
    prompt: PromptConfig | None = None
    engine: EngineConfig = EngineConfig()
    reward: RewardConfig = RewardConfig()
    sandbox: LiveSandbox | None = None
    evaluate: EvaluateSteps = EvaluateSteps()

    @model_validator(mode="after")
    def _sandbox_is_used(self) -> EvaluateConfig:
        if self.sandbox is not None and not self.evaluate.walks:
            raise ValueError('sandbox is where evaluate.history = "own" or "both" runs commands: leave it out')
        return self


class RolloutSteps(Strict):
    """`samples` answers at one step of each trajectory: of `limit` held-out ones, where none is named."""

    samples: Count = 8
    temperature: float = Field(default=1.0, gt=0)
    split: Literal["train", "validation", "test"] = "test"
    limit: Count = 4


class RolloutConfig(Strict):
    """`swe-srl rollout --step K`: a checkpoint's answers at a step, each executed in a fork.

    Without `prompt` a checkpoint of ours is asked in the prompts that it was trained on.
    """

    seed: int = 0
    model: ModelConfig
    data: DataConfig
    prompt: PromptConfig | None = None
    engine: EngineConfig = EngineConfig()
    sandbox: LiveSandbox = LiveSandbox()
    rollout: RolloutSteps = RolloutSteps()


class RecordConfig(Strict):
    """`swe-srl record`: a scripted expert's demonstrations on the tasks of a folder."""

    tasks: UserPath
    out: UserPath
    copies: int = 3
    seed: int = 0
    limit: int | None = None
    workers: Count = 2
    formats: list[Literal["mini-swe-agent", "xml-messages", "openai-chat"]] = Field(
        default=["mini-swe-agent", "xml-messages", "openai-chat"],
        min_length=1,
        description="of the logs; mini-swe-agent's expert has bash alone, the others' an editor",
    )
    sandbox: SandboxConfig
