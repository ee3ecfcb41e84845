"""A TOML file → a checked config: a typo names the nearest key, and nothing set goes unused.

config = load(TrainConfig, "configs/srl.toml", ["model.path=Qwen/…", "stage.srl.lr=1e-6"])

A key is written as an override is: the keys of a table in a list are LIST.NAME.KEY, by what its `name` says.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

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
    if isinstance(data.get("stage"), list) and "stage" not in model.model_fields:
        raise ConfigError(f"{where} is a training's config, as its [[stage]] says: it is for swe-srl train")
    given = [override.partition("=")[0] for override in overrides]
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines: dict[str, list[str]] = {}  # by where
        for detail in error.errors():
            key = _key(detail, data)
            place = "on the command line" if _is_given(key, detail, given) else where
            lines.setdefault(place, []).append(_explain(model, key, detail, data))
        told = (f"{place}: {'; '.join(dict.fromkeys(found))}" for place, found in lines.items())
        raise ConfigError("; ".join(told)) from None


def _is_given(key: str, detail: Any, given: Sequence[str]) -> bool:
    """Whether an override set what is wrong; a table that is not known may be one's that a key was to be in."""
    table = key + "." if detail["type"] == "extra_forbidden" else None
    return any(f"{key}.".startswith(f"{one}.") or (table is not None and one.startswith(table)) for one in given)


def stages_in(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `[[stage]]` tables as they were read. Raises ValueError where there is none, or something else."""
    stages = data.get("stage", [])
    if not _is_list_of_tables(stages):
        raise ValueError(
            "there is no [[stage]]: a training config is a chain of them, each with two brackets, and with name, kind "
            "and steps"
        )
    return list(stages)


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
    for place, name in enumerate(path):
        table = _named(table, name, key, path[:place]) if isinstance(table, list) else table.setdefault(name, {})
        if not isinstance(table, dict) and not _is_list_of_tables(table):
            raise ConfigError(f"{key}: {name!r} is a value, not a table")
    if isinstance(table, list):
        table = _named(table, "", key, path)
    table[last] = value


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _named(tables: Sequence[dict[str, Any]], name: str, key: str, path: Sequence[str]) -> dict[str, Any]:
    """The table of that name in a list of them. Raises ConfigError."""
    names = [str(table.get("name")) for table in tables]
    if name not in names:
        at = ".".join(path)
        raise ConfigError(f"{key}: a key of [[{at}]] is {at}.NAME.KEY, and NAME is one of {', '.join(names)}")
    return tables[names.index(name)]


def _key(detail: Any, data: Mapping[str, Any]) -> str:
    """As a user writes it: a table in a list by its name. A stage's kind and a union's member are pydantic's own."""
    words: list[str] = []
    at: Any = data
    for part in (*detail["loc"], *(["kind"] if detail["type"].startswith("union_tag") else [])):
        if isinstance(at, list) and isinstance(part, int):
            at = at[part]
            words.append(str(at.get("name", part) if isinstance(at, dict) else part))
        elif isinstance(at, dict) and (part == "kind" or part != at.get("kind")):
            at = at.get(part)
            words.append(str(part))
    return ".".join(words)


def _explain(model: type[BaseModel], key: str, detail: Any, data: Mapping[str, Any]) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_meant(model, key, detail['loc'], data)}"
    if detail["type"] in ("missing", "union_tag_not_found"):
        return f"{key!r} is not set, and has no default"
    about = detail.get("ctx", {})
    seen = about.get("tag", detail.get("input"))
    shown = f" (seen {seen!r})" if isinstance(seen, str | int | float | bool) else ""
    if choices := about.get("expected_tags") or (detail["type"] == "literal_error" and about["expected"]):
        near = nearest(str(seen), re.findall("'(.*?)'", choices))
        return f"{key}: expected {choices}{shown}{near}"
    told = detail["msg"].removeprefix("Value error, ")
    return f"{key}: {told}{shown}" if key else told


def _meant(model: type[BaseModel], key: str, location: Sequence[int | str], data: Mapping[str, Any]) -> str:
    """What a key that is not known may have been meant for."""
    for name, tables in data.items():
        for table in tables if _is_list_of_tables(tables) else []:
            if key in (table.get("name"), table.get("kind")):  # only a key of the top has so short a name
                return f": the keys of that {name} are {name}.{table.get('name', key)}.KEY"
    last = str(location[-1])
    if homes := list(dict.fromkeys(_homes(model, last))):
        return f" (did you mean {' or '.join(homes)}?)"
    return nearest(last, _known(model, location[:-1]))


def _homes(model: type[BaseModel], word: str, at: str = "") -> Iterator[str]:
    """Every key of a config that ends so."""
    for name, field in model.model_fields.items():
        place = f"{at}{name}." + ("NAME." if get_origin(field.annotation) is list else "")
        tables = list(_models_in(field.annotation))
        having = [table for table in tables if word in table.model_fields]
        kinds = ", ".join(str(_tag(table)) for table in having)
        if having:
            yield f"{place}{word}" + (f" of kind {kinds}" if len(having) < len(tables) else "")
        for table in tables:
            yield from _homes(table, word, place)


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
