"""Edits as a model writes them in one answer, for where it has no tools: blocks of SEARCH and REPLACE.

The form is Agentless's and Aider's. What a SEARCH says must be in the file exactly once: as it is written, or else
but for white space at the ends of lines. Edits that cannot be applied are named and left out, as Agentless does.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from swe_srl.actions import without_thought
from swe_srl.errors import FormatError, SandboxError
from swe_srl.loading import nearest
from swe_srl.sandboxes import TREE, Sandbox

NO_EDIT = "no edit"  # the answer holds none, or none that could be applied

EDIT_FORMAT = """Answer with edits, each in this form:

### path/of/the/file.py
<<<<<<< SEARCH
the lines to replace, exactly as they are in the file, with their indentation
=======
the lines that take their place
>>>>>>> REPLACE

A SEARCH holds whole lines that are in the file exactly once: where they are not, add the lines around them. Write as \
many edits as are needed; those of one file are applied in their order. An empty SEARCH makes a new file. A file of \
which nothing is left is deleted."""

_OPEN = re.compile(r"(<{5,})\s*SEARCH\s*")
_DIVIDER = re.compile(r"(={5,})\s*")
_CLOSE = re.compile(r"(>{5,})\s*(?:REPLACE)?\s*")
_MARKS = (_OPEN, _DIVIDER, _CLOSE)
_PATH = re.compile(r"\s*(#+\s*)?(?:file(?:\s?name|\s?path)?:?\s+)?([`*\"']*)([^\s`*\"']+?)[`*\"':]*\s*", re.IGNORECASE)
_FILE_S = 60.0
_LISTED = f"cd {TREE} && git ls-files -z >.git/swe-srl-files"


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines of a file, and what takes their place; no lines to search make a new file."""

    path: str
    search: tuple[str, ...]
    replace: tuple[str, ...]


# ------------------------------------------------------------------------------------------------- reading


def parse_edits(answer: str) -> list[Edit]:
    """The edits of an answer, in order; a thought before them is skipped. Raises FormatError where there is none.

    A block's path is the last line before it that is one: blocks after the first may leave it out.
    """
    lines = without_thought(answer).replace("\r\n", "\n").split("\n")
    found, path, at = list[Edit](), "", 0
    while at < len(lines):
        begun = _OPEN.fullmatch(lines[at])
        if not begun:
            path = _path_in(lines[at]) or path
            at += 1
            continue
        size = len(begun[1])
        end = _mark(lines, at + 1, _next_block(lines, at + 1, begun[1]), _CLOSE, size)
        divider = None if end is None else _mark(lines, at + 1, end, _DIVIDER, size)
        if end is None or divider is None:
            at += 1  # never closed: what follows may still hold edits
            continue
        if path:
            found.append(Edit(path, tuple(lines[at + 1 : divider]), tuple(lines[divider + 1 : end])))
        at = end + 1
    if not found:
        raise FormatError(NO_EDIT, "the answer holds no block of SEARCH and REPLACE with a path before it")
    return found


def _mark(lines: Sequence[str], start: int, end: int, pattern: re.Pattern[str], size: int) -> int | None:
    """The first line that is this mark in the size of the block's first one, or else in any."""
    marks = [(at, len(found[1])) for at in range(start, end) if (found := pattern.fullmatch(lines[at]))]
    return next((at for at, length in marks if length == size), marks[0][0] if marks else None)


def _next_block(lines: Sequence[str], start: int, mark: str) -> int:
    """Where the next block begins with the same mark."""
    begun = (at for at in range(start, len(lines)) if (found := _OPEN.fullmatch(lines[at])) and found[1] == mark)
    return next(begun, len(lines))


def _path_in(line: str) -> str | None:
    """The path that a line is: a heading of one word, or a word with a slash or an ending."""
    found = _PATH.fullmatch(line)
    if not found or not (found[1] or "/" in found[3] or re.search(r"\w\.\w+$", found[3])):
        return None
    return tree_path(found[3])


def tree_path(path: str) -> str | None:
    """A path as git names it, from however a model writes it; None where it leads out of the tree."""
    path = posixpath.normpath(path.removeprefix(f"{TREE}/").lstrip("/"))
    return None if path.split("/")[0] in ("..", ".", ".git") or "\0" in path else path


def render_edit(edit: Edit) -> str:
    """An edit as `parse_edits` reads it: its marks are longer than any that it holds."""
    lines = (*edit.search, *edit.replace)
    size = 1 + max([6, *(len(found[1]) for line in lines for mark in _MARKS if (found := mark.fullmatch(line)))])
    return "\n".join(
        [f"### {edit.path}", "<" * size + " SEARCH", *edit.search, "=" * size, *edit.replace, ">" * size + " REPLACE"]
    )


# ------------------------------------------------------------------------------------------------ applying


def apply_edits(sandbox: Sandbox, edits: Sequence[Edit]) -> list[str]:
    """Apply what can be applied, and return why the rest cannot. Raises FormatError where that is all, SandboxError."""
    before = {edit.path: read_text(sandbox, edit.path) for edit in edits}
    after, refused = dict(before), list[str]()
    for edit in edits:
        try:
            after[edit.path] = replaced(after[edit.path], edit)
        except FileNotFoundError:
            refused.append(f"no file {edit.path!r}{nearest(edit.path, list_files(sandbox))}")
        except ValueError as error:
            refused.append(str(error))
    changed = {path: text for path, text in after.items() if text is not None and text != before[path]}
    written = 0
    for path, text in changed.items():
        try:
            _put(sandbox, path, text)
            written += 1
        except OSError as error:  # a folder is there, or a file where a folder is to be
            refused.append(f"{path}: it cannot be written ({error.strerror})")
    if refused and not written:
        raise FormatError(NO_EDIT, "; ".join(refused))
    return refused


def _put(sandbox: Sandbox, path: str, text: str) -> None:
    """Write a file; one of which nothing is left is deleted. Raises OSError and SandboxError."""
    if text:
        sandbox.write(f"{TREE}/{path}", text.encode("utf-8", "surrogateescape"))
        return
    result = sandbox.exec(f"rm -f -- {shlex.quote(f'{TREE}/{path}')}", _FILE_S)
    if result.exit_code != 0:
        raise SandboxError(f"{path} cannot be deleted: {result.output[-200:]}")


def replaced(text: str | None, edit: Edit) -> str:
    """A file's text after an edit; `text` None: there is no such file. Raises FileNotFoundError and ValueError."""
    if not edit.search:
        if text:
            raise ValueError(f"{edit.path}: an empty SEARCH makes a new file, and this one is there")
        return "".join(f"{line}\n" for line in edit.replace)
    if text is None:
        raise FileNotFoundError(edit.path)
    lines, search, new = text.split("\n"), list(edit.search), list(edit.replace)
    places = list(_places(lines, search, lambda line: line))
    if not places:
        places = list(_places(lines, search, str.rstrip))
        if places and all(line.endswith("\r") for line in lines[places[0] : places[0] + len(search)]):
            new = [f"{line}\r" for line in new]
    if len(places) != 1:
        count = f"in it {len(places)} times" if places else "not in it"
        raise ValueError(f"{edit.path}: the SEARCH that begins with {_shown(search)} is {count}")
    return "\n".join([*lines[: places[0]], *new, *lines[places[0] + len(search) :]])


def _places(lines: Sequence[str], search: Sequence[str], same: Callable[[str], str]) -> Iterator[int]:
    wanted, have = list(map(same, search)), list(map(same, lines))
    return (at for at in range(len(have) - len(wanted) + 1) if have[at : at + len(wanted)] == wanted)


def _shown(search: Sequence[str]) -> str:
    return repr(next((line for line in search if line.strip()), "")[:80])


# ------------------------------------------------------------------------------------------- files in a prompt


def read_text(sandbox: Sandbox, path: str) -> str | None:
    """A file of the tree; None where there is none. Bytes that are no UTF-8 survive writing it back."""
    try:
        return sandbox.read(f"{TREE}/{path}").decode("utf-8", "surrogateescape")
    except OSError:
        return None


def list_files(sandbox: Sandbox) -> list[str]:
    """The tree's files that git knows. Raises SandboxError."""
    result = sandbox.exec(_LISTED, _FILE_S)  # through a file: a command's output has a limit
    names = read_text(sandbox, ".git/swe-srl-files")
    if result.exit_code != 0 or names is None:
        raise SandboxError(f"git could not list the files of {TREE}: {result.output.strip()[-300:]}")
    return [name for name in names.split("\0") if name]


def show_files(files: Mapping[str, str]) -> str:
    """Files in full, as a prompt shows them. The count of lines says where each ends, whatever it holds."""
    parts = []
    for path, text in files.items():
        lines = text.removesuffix("\n").split("\n") if text else []
        parts.append("\n".join([f'<file path="{path}" lines="{len(lines)}">', *lines, "</file>"]))
    return "\n\n".join(parts)


def shown_files(prompt: str) -> dict[str, str]:
    """The files that `show_files` put into a prompt."""
    found, lines, at = dict[str, str](), prompt.split("\n"), 0
    while at < len(lines):
        head = re.fullmatch(r'<file path="(.+)" lines="(\d+)">', lines[at])
        count = int(head[2]) if head else 0
        if head:
            found[head[1]] = "".join(f"{line}\n" for line in lines[at + 1 : at + 1 + count])
        at += count + 1
    return found
