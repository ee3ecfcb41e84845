"""Configs: overrides, defaults by stage, and words for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from swe_srl.agent_config import AgentConfig
from swe_srl.config import EvaluateConfig, ModelConfig, RecordConfig, RolloutConfig, Strict
from swe_srl.errors import ConfigError
from swe_srl.ladder_config import LadderConfig
from swe_srl.loading import check, load
from swe_srl.runs import Run
from swe_srl.train_config import SrlStage, TrainConfig

CONFIGS = Path(__file__).parents[1] / "configs"
CHAIN = """
run = "runs/x"
[data]
path = "logs"
[train]
batch = 4
kl = 0.1
[[stage]]
name = "warm"
kind = "sft"
steps = 3
[[stage]]
name = "srl"
kind = "srl"
steps = 5
batch = 8
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.toml"
    path.write_text(CHAIN)
    return path


def test_a_stage_takes_its_defaults_from_train(chain: Path) -> None:
    warm, srl = load(TrainConfig, chain).stage
    assert (warm.batch, srl.batch) == (4, 8)  # what a stage sets itself wins
    assert isinstance(srl, SrlStage)
    assert srl.kl == 0.1  # a key that only some kinds have goes to those


def test_overrides(chain: Path) -> None:
    config = load(TrainConfig, chain, ["stage.srl.lr=1e-6", "model.path=owner/name", "prompt.window=all", "seed=3"])
    assert config.stage[1].lr == 1e-6
    assert config.model.path == "owner/name"
    assert config.prompt.settings().window is None
    assert config.seed == 3


def test_home_is_expanded_as_no_shell_does_after_an_equals_sign(chain: Path) -> None:
    config = load(TrainConfig, chain, ["model.path=~/m", "data.path=~/d", "run=~/r"])
    assert [config.model.path, config.data.path, config.run] == [str(Path.home() / name) for name in "mdr"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.pth=x", "did you mean 'path'"),
        ("stage.srl.group_siz=4", "did you mean 'group_size'"),
        ("train.kll=1", "did you mean 'kl'"),
        ("stage.nothing.lr=1", "stage.NAME.KEY, and NAME is one of warm, srl"),
        ("stage.srl=1", "stage.NAME.KEY, and NAME is one of warm, srl"),
        ("engine.kind=nothing", "engine.kind: expected 'hf', 'vllm' or 'openai' .seen 'nothing'.$"),
        ("stage.srl.kind=slr", "line: stage.srl.kind: expected 'sft', 'srl', 'rlvr' .*did you mean 'srl'"),
        ("stage.warm.group_size=4", "mean stage.NAME.group_size of kind srl, rlvr"),  # it would not be used there
        ("steps=1", "unknown key 'steps' .did you mean validation.steps or stage.NAME.steps"),
        ("validation.metric=loss", "did you mean stage.NAME.metric"),
        ("srl.lr=1", "the keys of that stage are stage.srl.KEY"),
        ("stage.srl.name=warm", "different names"),
        ("run.deeper=1", "is a value"),
        ("nothing", "key=value"),
        ("stage.warm.validate_every=0", "greater than or equal to 1"),
        ("stage.srl.group_size=1", "greater than or equal to 2"),
        ("stage.warm.name=a/b", "should match"),
        ("data.validation=10", "less than or equal to 1"),
        ("train=3", "a table of defaults"),
    ],
)
def test_mistakes(chain: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(TrainConfig, chain, [override])


def test_mistakes_say_where_they_are(chain: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        load(TrainConfig, chain, ["stage.srl.nothing=1", "prompt.window=-1", "nowhere.x=1"])
    told = str(wrong.value)
    assert told.startswith("on the command line: ")
    assert str(chain) not in told
    chain.write_text(CHAIN.replace("kl = 0.1", "kl = 0.1\nlr = -1"))
    with pytest.raises(ConfigError, match=r"chain\.toml: stage\.warm\.lr.*; on the command line: unknown key 'limit'$"):
        load(TrainConfig, chain, ["limit=2"])
    with pytest.raises(ConfigError, match=r"chain\.toml is a training's config"):
        load(AgentConfig, chain, ["limit=2"])


@pytest.mark.parametrize("train", ["", "[train]\nlr = 1e-3\n"])
@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("", "there is no ..stage"),
        ('[stage]\nname = "a"\nkind = "sft"\nsteps = 3\n', "two brackets"),
        ('[[stage]]\nkind = "sft"\nsteps = 3\n', "NAME is one of None"),
    ],
)
def test_stages_that_are_none(tmp_path: Path, train: str, stage: str, words: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text('run = "x"\n[data]\npath = "logs"\n' + train + stage)
    for overrides in [["stage.a.lr=1"]] + ([[]] if "None" not in words else []):
        with pytest.raises(ConfigError, match=words):
            load(TrainConfig, path, overrides)


def test_a_stage_needs_a_length(tmp_path: Path) -> None:
    path = tmp_path / "no_length.toml"
    path.write_text(CHAIN.replace("steps = 3", ""))
    with pytest.raises(ConfigError, match="needs a length"):
        load(TrainConfig, path)
    assert load(TrainConfig, path, ["stage.warm.epochs=2"]).stage[0].epochs == 2


def test_a_new_network_is_not_described_where_one_is_named(chain: Path) -> None:
    with pytest.raises(ConfigError, match="leave one out"):
        load(TrainConfig, chain, ["model.path=x", "model.scratch.hidden=64"])


def test_a_training_is_no_model(tmp_path: Path) -> None:
    """Whichever of its folders is given, the nearest checkpoint in it is named."""
    run = tmp_path / "run"
    for stage in ("1-warm", "2-srl"):
        best = run / "stages" / stage / "checkpoints" / "best"
        best.mkdir(parents=True)
        (best / "config.json").touch()
    for given in (run, best.parent.parent, best.parent):
        with pytest.raises(ConfigError, match=rf"{given} holds a training, and is no model: give {best}$"):
            ModelConfig(path=str(given)).origin()
    assert ModelConfig(path=str(best)).origin() == str(best)


def test_a_resolved_config_is_a_config(chain: Path, tmp_path: Path) -> None:
    """A report's, in JSON, and a run's config.toml: what was asked can be asked again."""
    asked = AgentConfig(model=ModelConfig(path="owner/name"))
    written = {key: value for key, value in asked.model_dump(mode="json").items() if value is not None}
    assert check(AgentConfig, written, "report.json") == asked
    trained = load(TrainConfig, chain, ["model.path=owner/name"])
    run = Run(tmp_path / "run", trained)
    with run.held():
        assert load(TrainConfig, run.folder / "config.toml") == trained


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_config_of_the_project_loads(path: Path) -> None:
    kinds: dict[str, type[Strict]] = {"eval_steps": EvaluateConfig, "rollout": RolloutConfig}
    kinds |= dict.fromkeys(("eval_bugfix", "eval_verified", "rollout_bugfix"), AgentConfig)
    kinds |= dict.fromkeys(("ladder", "ladder_tiny"), LadderConfig)
    kinds |= dict.fromkeys(("record", "record_told", "record_spots"), RecordConfig)
    load(kinds.get(path.stem, TrainConfig), path)
