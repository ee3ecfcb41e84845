"""A patch as files and lines: what it adds, what it takes away, and which of its files are tests."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchedFile, PatchSet


def files_of(patch: str) -> list[PatchedFile]:
    """The files of a patch; of one that is malformed, those that can be read."""
    try:
        return list(PatchSet(patch))
    except UnidiffParseError:
        found: list[PatchedFile] = []
        for section in re.split(r"^(?=diff --git )", patch, flags=re.MULTILINE):
            with contextlib.suppress(UnidiffParseError):
                found += PatchSet(section)
        return found


def is_test(path: str) -> bool:
    """Whether a file is a test, and not what helps tests."""
    *folders, name = PurePosixPath(path).parts or ("",)
    if name == "conftest.py" or not name.endswith(".py"):
        return False
    return folders[-1:] == ["tests"] or re.fullmatch(r"(test_.*|.*_tests?|tests?)\.py", name) is not None


def added(files: Iterable[PatchedFile]) -> Iterator[str]:
    return (line.value for file in files for hunk in file for line in hunk if line.is_added)


def removed(files: Iterable[PatchedFile]) -> Iterator[str]:
    return (line.value for file in files for hunk in file for line in hunk if line.is_removed)
