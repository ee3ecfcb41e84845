"""A TOML file → a checked config: a typo names the nearest key, and nothing set goes unused.

config = load(TrainConfig, "configs/srl.toml", ["model.path=Qwen/…", "stage.srl.lr=1e-6"])
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from swe_srl.errors import ConfigError

AnyConfig = TypeVar("AnyConfig", bound=BaseModel)


def load(model: type[AnyConfig], path: str | Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a TOML file, apply `a.b=c` overrides, and check all of it. Raises ConfigError."""
    return check(model, overridden(read_toml(path), overrides), str(path), overrides)


def read_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file as it is. Raises ConfigError."""
    try:
        return tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        folder = Path(path).parent
        near = nearest(Path(path).name, [file.name for file in folder.glob("*.toml")] if folder.is_dir() else [])
        raise ConfigError(f"there is no config {path}{near}. The project's own lie in configs/.") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; a config is a TOML file, such as configs/srl.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None


def overridden(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The same with each `a.b=c` in its place. Raises ConfigError."""
    for override in overrides:
        _apply(data, override)
    return data


def check(model: type[AnyConfig], data: Mapping[str, Any], where: str, overrides: Sequence[str] = ()) -> AnyConfig:
    """A mapping as a config. Raises ConfigError with all that is wrong, and where: in the file or in an override."""
    if "stage" in data and "stage" not in model.model_fields:
        raise ConfigError(f"{where} is a training's config, as its [[stage]] says: it is for swe-srl train")
    given = [override.partition("=")[0] for override in overrides]
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines: dict[str, list[str]] = {}  # by where
        for detail in error.errors():
            place = "on the command line" if _is_given(_key(detail["loc"], data), detail, given) else where
            lines.setdefault(place, []).append(_explain(model, detail["loc"], detail, data))
        told = (f"{place}: {'; '.join(dict.fromkeys(found))}" for place, found in lines.items())
        raise ConfigError("; ".join(told)) from None


def _is_given(key: str, detail: Any, given: Sequence[str]) -> bool:
    """Whether an override set what is wrong; a table that is not known may be one's that a key was to be in."""
    table = key + "." if detail["type"] == "extra_forbidden" else None
    return any(f"{key}.".startswith(f"{one}.") or (table is not None and one.startswith(table)) for one in given)


def stages_in(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `[[stage]]` tables as they were read. Raises ValueError where there is none, or something else."""
    stages = data.get("stage", [])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise ValueError("stage is a list of tables: write [[stage]], with two brackets, before each")
    if not stages:
        raise ValueError("there is no [[stage]]: a training config is a chain of them, each with name, kind and steps")
    return stages


def nearest(word: str, known: Sequence[str] | set[str]) -> str:
    """ " (did you mean …?)" for the nearest of the known names, or nothing where none is near."""
    from rapidfuzz import fuzz, process

    match = process.extractOne(word, sorted(known), scorer=fuzz.ratio, score_cutoff=60)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"an override is key=value, such as model.path=my/model; seen {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string, as a shell user expects
    *path, last = key.split(".")
    table: Any = data
    if path[:1] == ["stage"]:
        try:
            stages = stages_in(data)
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from None
        names = [str(stage.get("name")) for stage in stages]
        if len(path) < 2 or path[1] not in names:
            raise ConfigError(f"{key}: a stage's key is stage.NAME.key, and NAME is one of {', '.join(names)}")
        table, path = stages[names.index(path[1])], path[2:]
    for name in path:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{key}: {name!r} is a value, not a table")
    table[last] = value


def _key(location: tuple[int | str, ...], data: Mapping[str, Any]) -> str:
    """As a user writes it: (stage, its number, its kind, …) is stage.NAME.…"""
    words = list(location)
    if words[:1] == ["stage"] and len(words) > 2:
        words = ["stage", data["stage"][words[1]].get("name", words[1]), *words[3:]]
    return ".".join(map(str, words))


def _explain(model: type[BaseModel], location: tuple[int | str, ...], detail: Any, data: Mapping[str, Any]) -> str:
    key = _key(location, data)
    if detail["type"] == "extra_forbidden":
        stages = [stage for stage in data.get("stage", []) if key in (stage.get("name"), stage.get("kind"))]
        if stages:  # only a key of the top has so short a name
            return f"unknown key {key!r}: the keys of that stage are stage.{stages[0].get('name', key)}.KEY"
        return f"unknown key {key!r}{nearest(str(location[-1]), _known(model, location[:-1]))}"
    if detail["type"] == "missing":
        return f"{key!r} is not set, and has no default"
    seen = detail.get("input")
    shown = f" (seen {seen!r})" if isinstance(seen, str | int | float | bool) else ""
    return (
        f"{key}: {detail['msg'].removeprefix('Value error, ')}{shown}"
        if key
        else detail["msg"].removeprefix("Value error, ")
    )


def _known(model: type[BaseModel], location: Sequence[int | str]) -> set[str]:
    """Names of the keys that are allowed at `location`; it may lead through a list and a stage's kind."""
    models = [model]
    for part in location:
        if isinstance(part, int):
            continue
        if tagged := [known for known in models if _tag(known) == part]:
            models = tagged
            continue
        fields = [known.model_fields[str(part)].annotation for known in models if part in known.model_fields]
        models = [found for annotation in fields for found in _models_in(annotation)]
    return {name for known in models for name in known.model_fields}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def _tag(model: type[BaseModel]) -> Any:
    """What tells a model from the others of its union."""
    kind = model.model_fields.get("kind")
    return kind.default if kind is not None else None
