"""Which files the commands of an attempt put something else into, or took away, by their words alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from swe_srl.evaluate.command_words import Words, program_of
from swe_srl.sandboxes import TREE
from swe_srl.tools import EDITOR
from swe_srl.types import Turn


def _with_i(words: set[str]) -> bool:
    return any(re.match(r"-[a-zA-Z]*i|--in-place", word) for word in words)


# program → whether it rewrites its operands, with these words
_IN_PLACE: Mapping[str, Callable[[set[str]], bool]] = {
    "sed": _with_i,
    "perl": _with_i,
    "truncate": lambda _: True,
    "tee": lambda words: not {"-a", "--append"} & words,
}


def rewritten(commands: Iterable[Words]) -> Iterator[str]:
    """Files that a command put something else into; what it only adds to is left out."""
    for words in commands:
        yield from targets(words)
        program, rest = program_of(words), _operands(words)
        if program == "ln" and _is_same(rest):
            continue
        if program in ("cp", "ln", "mv", "install") and len(rest) > 1:
            yield path_of(rest[-1])
        elif program in _IN_PLACE and _IN_PLACE[program](set(words)):
            yield from map(path_of, rest)


def targets(words: Words) -> Iterator[str]:
    """Where a command's output goes, in place of what was there: `> FILE`, not `>> FILE` or `2>&1`."""
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if found := re.fullmatch(r"[12&]?>\|?([^>&].*)?", word):
            yield path_of(found[1] or following)


def deleted(commands: Iterable[Words]) -> Iterator[str]:
    """Files and folders that a command removed, or moved away."""
    for words in commands:
        program, rest = program_of(words), _operands(words)
        if program == "git" and rest[:1] in (["rm"], ["mv"]):
            program, rest = rest[0], rest[1:]
        if program in ("rm", "unlink", "shred"):
            yield from map(path_of, rest)
        elif program == "mv":
            yield from map(path_of, rest[:-1])


def edited(turns: Sequence[Turn]) -> Iterator[str]:
    """Files that the editor took something away from, or wrote anew."""
    for turn in turns:
        if turn.action is not None and turn.action.tool == EDITOR.name:
            told = turn.action.arguments
            old, new = told.get("old_str", ""), told.get("new_str", "")
            if told.get("command") == "create" or (told.get("command") == "str_replace" and old not in new):
                yield path_of(told.get("path", ""))


def path_of(word: str) -> str:
    """A file as a patch names it, where it is in the tree."""
    return word.removeprefix(f"{TREE}/").removeprefix("./").rstrip("/")


def folders_of(path: str) -> set[str]:
    return {str(parent) for parent in PurePosixPath(path).parents} - {"."}


def _is_same(paths: Sequence[str]) -> bool:
    """Whether a link gives a program its own name again, as `ln -s /usr/bin/python3 /usr/bin/python` does."""
    return len({PurePosixPath(path).name.rstrip(".0123456789") for path in paths}) == 1


def _operands(words: Words) -> list[str]:
    return [word for word in words[1:] if not word.startswith("-")]
