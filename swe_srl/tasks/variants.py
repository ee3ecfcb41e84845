"""The same bug under other names: task `spans__3~7` is `spans__3` in another vocabulary.

The package's own names (itself, its modules, functions, parameters and variables) become words of the suite's
`words.toml`, in its tree, tests, issue and gold patch alike. Which ones follows from the package's names and the
task's id alone, so an id is enough to have the task again. The suite's packages have no classes and no names of
their own in strings; what this module makes of a package is checked by running (`check.py --variants`).
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Lock

from swe_srl.types import Task, Trajectory

MARK = "~"
_TAKEN_FROM = 4  # free words, of which the one nearest in length is the new name
_SHORTEST = 3  # letters; i, x and by stay
_PARSING = Lock()  # Python 3.11's parser counts the depths of all threads in one place: cpython issue 106905
_LEXEME = re.compile(
    r"""(?P<comment>\#[^\n]*)
    |(?P<prefix>(?:(?<!\w)[rbf]{1,2})?)(?P<string>\"{3}[^\0]*?\"{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?<![\w.])(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)""",
    re.VERBOSE,
)


def base_id(task_id: str) -> str:
    """The id of the task that this is a variant of: its own, if it is none."""
    return task_id.partition(MARK)[0]


def instance_of(trajectory: Trajectory) -> str:
    """What a trajectory is an attempt at, whatever the names: what intervals are clustered by."""
    return base_id(trajectory.task.task_id or trajectory.id)


def variant(task: Task, number: int) -> Task:
    """A base task under the names that belong to `number`. Its repository stays: splits by package hold."""
    task_id = f"{task.task_id}{MARK}{number}"
    names = Names.of(task, task_id)
    return replace(
        task,
        task_id=task_id,
        issue=names.prose(task.issue),
        fail_to_pass=tuple(map(names.test_id, task.fail_to_pass)),
        pass_to_pass=tuple(map(names.test_id, task.pass_to_pass)),
        gold_patch=names.patch(task.gold_patch),
    )


def package_files(task: Task) -> dict[str, bytes]:
    """Path → content of a task's package in its fixed state, under the task's names."""
    files = _read(Path(task.source))
    if MARK not in task.task_id:
        return {path: text.encode() for path, text in files.items()}
    names = Names.of(task, task.task_id)
    return {names.path(path): names.file(path, text).encode() for path, text in files.items()}


class Names:
    """One vocabulary: old name → new name, and how it is applied to each sort of text."""

    def __init__(self, package: str, new: Mapping[str, str]) -> None:
        self.package = package
        self.new = new

    @classmethod
    def of(cls, task: Task, task_id: str) -> Names:
        source = Path(task.source)
        words = tomllib.loads((source.parents[1] / "words.toml").read_text("utf-8"))
        files = _read(source)
        found = set(re.findall(r"[a-z]+", "\n".join(files.values()).lower()))
        free = {kind: [word for word in words[kind].split() if word not in found] for kind in ("verbs", "nouns")}
        functions, others = _own_names(files, task.repository)
        rng = Random(task_id)
        new = {}
        for name in sorted(functions | others):
            first = "verbs" if name in functions else "nouns"
            parts = name.strip("_").split("_")[:2]
            taken = [_take(free["nouns" if place else first], part, rng) for place, part in enumerate(parts)]
            new[name] = "_" * (len(name) - len(name.lstrip("_"))) + "_".join(taken)
        return cls(task.repository, new)

    def name(self, old: str) -> str:
        """A name alone; a test's holds the name of what it tests: test_gap_none."""
        if old in self.new or not old.startswith("test_"):
            return self.new.get(old, old)
        words = old.split("_")
        for last in range(len(words), 1, -1):
            if (tested := "_".join(words[1:last])) in self.new:
                return "_".join(["test", self.new[tested], *words[last:]])
        return old

    def code(self, text: str) -> str:
        """Python. Attributes stay (`text.count`), but for the package's (`spans.gap`)."""
        return _LEXEME.sub(self._lexeme, text)

    def prose(self, text: str) -> str:
        """Words with code in back quotes."""
        return re.sub(r"`[^`]*`", lambda quoted: self.code(quoted[0]), text)

    def path(self, path: str) -> str:
        """A file's path: each part is a name, and the last has an ending."""
        return "/".join(self.name(stem) + dot + end for stem, dot, end in (p.partition(".") for p in path.split("/")))

    def file(self, path: str, text: str) -> str:
        """The content of the package's file at (old) `path`."""
        if path.endswith(".py"):
            return self.code(text)
        return self.prose(text).replace(f"# {self.package}\n", f"# {self.new[self.package]}\n")

    def test_id(self, test: str) -> str:
        path, _, name = test.partition("::")
        return f"{self.path(path)}::{self.name(name)}"

    def patch(self, patch: str) -> str:
        """A diff of Python files; the hashes of its `index` line are of other files, so that line goes."""
        lines = [line for line in patch.splitlines(keepends=True) if not line.startswith("index ")]
        heads = ("diff --git ", "--- ", "+++ ")
        return "".join(
            re.sub(r"(?<= )\S+", lambda path: self.path(path[0]), line) if line.startswith(heads) else self.code(line)
            for line in lines
        )

    def _lexeme(self, found: re.Match[str]) -> str:
        if found["name"]:
            first, *rest = found["name"].split(".")
            return ".".join([self.name(first), *(map(self.name, rest) if first == self.package else rest)])
        if found["string"] and "f" in found["prefix"]:
            return re.sub(r"\{[^{}]+\}", lambda value: self.code(value[0]), found[0])
        return self.prose(found[0])


def _read(folder: Path) -> dict[str, str]:
    """The text files of a package, hidden ones and caches left out."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = [path for path in paths if not any(part[0] == "." or part == "__pycache__" for part in path.parts)]
    return {path.as_posix(): (folder / path).read_text("utf-8") for path in kept}


def parsed(code: str | bytes) -> ast.Module:
    """Python's own parser, one thread at a time. Raises SyntaxError and ValueError."""
    with _PARSING:
        return ast.parse(code)


def _own_names(files: Mapping[str, str], package: str) -> tuple[set[str], set[str]]:
    """What the package's code defines: its functions, and all else. What a call names by keyword stays as it is."""
    functions, others, keywords = set[str](), {package}, set[str]()
    for path, text in files.items():
        if not path.endswith(".py"):
            continue
        nodes = list(ast.walk(parsed(text)))
        keywords |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
        if not path.startswith(f"{package}/"):
            continue
        others.add(Path(path).stem)
        functions |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        others |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        others |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stay = {name for name in functions | others if len(name) < _SHORTEST or name.startswith("__")} | keywords
    return functions - stay, others - functions - stay


def _take(free: list[str], old: str, rng: Random) -> str:
    """Take a word about as long as the old one out of the free ones."""
    word = min(rng.sample(free, _TAKEN_FROM), key=lambda candidate: abs(len(candidate) - len(old)))
    free.remove(word)
    return word
