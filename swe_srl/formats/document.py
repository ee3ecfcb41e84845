"""A parsed JSON document, read with suspicion: typed access, and what could not be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Dropped:
    """A part of a file that gave no trajectory: where, a reason to count by, and what was seen."""

    line: int
    reason: str
    detail: str = ""


class Malformed(Exception):
    """A document of a known format has a wrong shape. Caught at the seam, never seen by a user."""

    def __init__(self, where: str, expected: str, seen: object) -> None:
        super().__init__(f"{where}: expected {expected}, saw {type(seen).__name__} {repr(seen)[:60]}")


def mapping(value: object, where: str) -> dict[str, Any]:
    """`value` if it is an object; {} for null, which logs write for "nothing". Raises Malformed."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(where, "an object", value)
    return value


def mappings(value: object, where: str) -> list[dict[str, Any]]:
    """`value` if it is a list of objects; [] for null. Raises Malformed."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(where, "a list", value)
    for item in value:
        if not isinstance(item, dict):
            raise Malformed(where, "a list of objects", item)
    return value


def text(value: object, where: str) -> str:
    """A message's content: a string, null, or a list of parts whose texts are joined. Raises Malformed."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        parts = mappings(value, where)
        texts = [part.get("text") for part in parts if part.get("type", "text") == "text"]
        said = [part for part in texts if isinstance(part, str)]
        if len(said) == len(texts):
            return "\n".join(said)
    raise Malformed(where, "text", value)


def optional_text(value: object) -> str | None:
    """`value` if it is a string that says something, else None: for fields that are nice to have."""
    return value if isinstance(value, str) and value else None


def optional_bool(value: object) -> bool | None:
    """`value` if it is a truth value, else None."""
    return value if isinstance(value, bool) else None


_SUFFIXES = (".gz", ".zst", ".json", ".jsonl", ".ndjson", ".traj", ".yaml", ".yml", ".parquet")


def stem(file: str) -> str:
    """A file's name without the suffixes that logs and their archives have."""
    name = file.replace("\\", "/").rsplit("/", 1)[-1]
    while (dot := name.rfind(".")) > 0 and name[dot:] in _SUFFIXES:
        name = name[:dot]
    return name


def own_id(name: str | None, file: str, line: int) -> str:
    """A trajectory's id: the name that the log gives it, else its file's, with the line where that is not 1."""
    return name or (stem(file) if line == 1 else f"{stem(file)}-{line}")
