"""A scripted expert: it knows the fix, and walks to it as someone would who does not.

Look, grep for the issue's function, reproduce, view, edit, test, submit: each step can be foreseen from the
issue and the last two commands with their observations. Where the issue names no function, the failing tests
do; where it names one that only calls the wrong one, the view of it leads on; where it says what to write, that is
written; where more than one place is wrong, the tests that still fail name the next. The path is in grep's
output, the line range follows from its line number, the text to replace stands in what was viewed. Observations
are short: what is viewed is little more than the function. What varies, by the caller's `Random`, are a few
habits of the whole demonstration and the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from random import Random

from unidiff.patch import Hunk, Line, PatchSet

from swe_srl.expert_words import WORDS, diagnosis
from swe_srl.sandboxes import TREE, Sandbox
from swe_srl.types import Action, Task

VIEWED_LINES = 6  # after the def line; no task of the suite has its defect further down
ALL_TESTS = "python -m pytest"


@dataclass(frozen=True, slots=True)
class Place:
    """`function` begins at `line` of `path`; `old`, once in the file, is what is wrong in it, if anything is."""

    path: str
    function: str
    line: int
    old: str = ""
    new: str = ""

    @property
    def package(self) -> str:
        """Its name in this task: a variant's differs from its repository."""
        return self.path.partition("/")[0]

    @property
    def test_file(self) -> str:
        return re.sub(r".*/", "tests/test_", self.path)

    def tested_by(self, test: str) -> bool:
        """Whether a test, as pytest names it, is of this function."""
        return re.search(rf"::test_{self.function}(?:_|$)", test) is not None


@dataclass(frozen=True, slots=True)
class Fix:
    """What is wrong, in the order in which it is found, and what the issue shows: a call of `asked`, or none.

    `told`: the issue says what to write instead. `spot`: it says which few signs of the function are to be which.
    """

    places: tuple[Place, ...]
    kind: str
    call: str = ""
    asked: Place | None = None
    told: bool = False
    spot: tuple[str, str] | None = None

    @property
    def first(self) -> Place:
        return self.places[0]

    @property
    def caller(self) -> Place | None:
        """What the issue calls, where nothing is wrong in it but in what it calls."""
        functions = {place.function for place in self.places}
        return self.asked if self.asked and self.asked.function not in functions else None


@dataclass(frozen=True, slots=True)
class Habits:
    """How this demonstration goes about it. `editor` off: bash alone, as in mini-swe-agent.

    What is viewed with a tool is edited with it: one can be foreseen from the other.
    """

    editor: bool
    look: str | None
    grep: str
    reproduce: str | None  # "call", "test"
    reproduce_after_view: bool
    test: str
    check: str | None

    @classmethod
    def draw(cls, rng: Random, *, editor: bool) -> Habits:
        looks = ["ls", "git ls-files"]
        return cls(
            editor=editor,
            look=rng.choice(looks) if rng.random() < 0.35 else None,
            grep=rng.choice(['grep -n "def {function}" {package}/*.py', 'grep -rn "def {function}" {package}']),
            reproduce=rng.choices(["test", "call", None], [4, 3, 3])[0],
            reproduce_after_view=rng.random() < 0.3,
            test=rng.choice(["python -m pytest {test_file}", "python -m pytest {test_file} -k {function}"]),
            check=rng.choices([None, "git diff --stat", "git diff -U0", "python -m pytest"], [5, 2, 1, 2])[0],
        )


@dataclass(frozen=True, slots=True)
class Move:
    """A thought and what follows from it; the observation must hold `expects`, or the expert is wrong."""

    thought: str
    action: Action
    expects: str = ""


def find_fix(task: Task, sandbox: Sandbox) -> Fix:
    """Read the gold patch against the broken tree."""
    texts = {
        path: sandbox.read(f"{TREE}/{path}").decode()
        for path in sandbox.exec(f"cd {TREE} && git ls-files", 20).output.split()
        if path.endswith(".py") and not path.startswith("tests/")
    }
    patch = PatchSet(task.gold_patch)
    places = [_place(file.path, texts[file.path], run) for file in patch for hunk in file for run in _runs(hunk)]
    assert len(places) == 1 or not any("\n" in place.new for place in places), f"{task.task_id}: lines will move"
    if task.clarity == "spot":
        _, _, wrong, right = re.findall(r"`([^`]*)`", task.issue)
        return Fix(tuple(places), task.kind, told=True, spot=(wrong, right))
    calls = re.findall(rf"`({places[0].package}\.(\w+)\([^`]*)`", task.issue)
    assert len(calls) <= 1, f"{task.task_id}: the issue calls more than one function"
    call, function = calls[0] if calls else ("", "")
    heads = [(path, re.search(rf"^def {function}\(", text, re.MULTILINE)) for path, text in texts.items()]
    asked = [Place(path, function, _line_of(texts[path], head.start())) for path, head in heads if head]
    # In pytest's order: by file, and a variant's files have other names.
    failing = sorted(task.fail_to_pass, key=lambda test: test.partition("::")[0])
    tests = [[place.tested_by(test) for test in (*failing, f"::test_{place.function}")] for place in places]
    order = sorted(
        range(len(places)), key=lambda number: (places[number].function != function, tests[number].index(True))
    )
    found = tuple(places[number] for number in order)
    return Fix(found, task.kind, call, asked[0] if asked else None, told=task.clarity == "told")


def _runs(hunk: Hunk) -> Iterator[list[Line]]:
    """Lines of a hunk that are changed together, and the line after them."""
    lines = list(hunk)
    for changed, run in groupby(range(len(lines)), lambda number: not lines[number].is_context):
        if changed:
            numbers = list(run)
            yield lines[numbers[0] : numbers[-1] + 2]


def _place(path: str, text: str, run: list[Line]) -> Place:
    removed = [line.value for line in run if line.is_removed]
    added = [line.value for line in run if line.is_added]
    # A pure insertion is written as: this line becomes the new lines and this line.
    anchor = [] if removed else [run[-1].value]
    old, new = "".join(removed + anchor).strip(), "".join(added + anchor).strip()
    assert "\n" not in old, f"{path}: {old!r} is more than one line"
    assert text.count(old) == 1, f"{path}: {old!r} does not occur once"
    before = text[: text.index(old) + len(old)]  # with the line itself: a default is wrong in the def line
    head = list(re.finditer(r"^def (\w+)", before, re.MULTILINE))[-1]
    return Place(path, head[1], _line_of(text, head.start()), old, new)


def _line_of(text: str, offset: int) -> int:
    """The number, from 1, of the line that an offset is in."""
    return text.count("\n", 0, offset) + 1


def moves(fix: Fix, habits: Habits, rng: Random) -> Iterator[Move]:
    """The demonstration, step by step."""
    walk = Walk(fix, habits, rng)
    if habits.look:
        yield Move(walk.say("look"), _bash(habits.look), fix.first.package)
    if not fix.told:
        yield from walk.to_what_is_wrong()
    yield walk.edit(fix.first)
    for place in fix.places[1:]:
        yield walk.all_tests("rest", place)
        yield walk.grep(place, "grep failed")
        yield walk.view(place)
        yield walk.edit(place)
    yield from walk.to_the_end()


@dataclass(frozen=True, slots=True)
class Walk:
    """The parts of a demonstration: their commands by habit, their words by chance."""

    fix: Fix
    habits: Habits
    rng: Random

    def say(self, step: str, place: Place | None = None) -> str:
        return self.rng.choice(WORDS[step]).format(**self.names(place or self.fix.first))

    def names(self, place: Place) -> dict[str, str]:
        asked = (self.fix.asked or place).function
        named = {"function": place.function, "package": place.package, "path": place.path}
        return {**named, "test_file": place.test_file, "asked": asked}

    def grep(self, place: Place, words: str = "grep") -> Move:
        command = _bash(self.habits.grep.format(**self.names(place)))
        return Move(self.say(words, place), command, f"{place.path}:{place.line}:def {place.function}")

    def view(self, place: Place) -> Move:
        return Move(self.say("view", place), _view(place, self.habits), place.old or f"{self.fix.first.function}(")

    def edit(self, place: Place) -> Move:
        if self.fix.spot:
            return Move(self.say("told", place), _sed(*self.fix.spot, place.path, f"/def {place.function}(/,/^$/"))
        if self.fix.told:
            return Move(self.say("told", place), _edit(place, self.habits))
        return Move(diagnosis(place.function, place.old, place.new, self.fix.kind, self.rng), _edit(place, self.habits))

    def all_tests(self, words: str, failing: Place) -> Move:
        return Move(self.say(words, failing), _bash(ALL_TESTS), f"{failing.test_file}::test_{failing.function}")

    def call(self) -> Move:
        command = f"python -c 'import {self.fix.first.package}; print({self.fix.call})' 2>&1 | tail -n 1"
        return Move(self.say("call", self.fix.asked), _bash(command))

    def to_what_is_wrong(self) -> Iterator[Move]:
        first = self.fix.first
        if self.fix.asked is None:
            yield self.all_tests("all", first)
            yield self.grep(first, "grep failed")
            yield self.view(first)
        elif self.fix.caller:
            yield from self.to_caller(self.fix.caller)
            yield self.grep(first, "grep called")
            yield self.view(first)
        else:
            yield from self.to_place()

    def to_place(self) -> Iterator[Move]:
        """The issue names the function that is wrong."""
        place = self.fix.first
        yield self.grep(place)
        view = self.view(place)
        if self.habits.reproduce_after_view:
            yield view
        if self.habits.reproduce == "call":
            yield self.call()
        elif self.habits.reproduce == "test":
            test = self.habits.test.format(**self.names(place))
            yield Move(self.say("test"), _bash(test), f"FAILED {place.test_file}")
        if not self.habits.reproduce_after_view:
            yield view

    def to_caller(self, caller: Place) -> Iterator[Move]:
        """The issue names a function that calls the wrong one."""
        yield self.grep(caller)
        if self.habits.reproduce:
            yield self.call()
        yield self.view(caller)

    def to_the_end(self) -> Iterator[Move]:
        several = len(self.fix.places) > 1
        tested = self.fix.caller or self.fix.first
        test = ALL_TESTS if several else self.habits.test.format(**self.names(tested))
        yield Move(self.say("again", self.fix.places[-1]), _bash(test), ".")
        if self.habits.check and self.habits.check != test:
            yield Move(self.say(self.habits.check.partition(" -")[0]), _bash(self.habits.check))
        yield Move(self.say("submit"), Action("submit"), self.fix.first.path)


# ---------------------------------------------------------------------------------------------- actions


def _bash(command: str) -> Action:
    return Action("bash", {"command": command})


def _view(place: Place, habits: Habits) -> Action:
    if not habits.editor:
        return _bash(f"sed -n '/def {place.function}(/,/^$/p' {place.path}")
    first, last = place.line, place.line + VIEWED_LINES
    path = f"{TREE}/{place.path}"
    return Action("str_replace_editor", {"command": "view", "path": path, "view_range": f"[{first}, {last}]"})


def _edit(place: Place, habits: Habits) -> Action:
    if not habits.editor:
        return _sed(place.old, place.new, place.path)
    path = f"{TREE}/{place.path}"
    values = {"command": "str_replace", "path": path, "old_str": place.old, "new_str": place.new}
    return Action("str_replace_editor", values)


def _sed(old: str, new: str, path: str, lines: str = "") -> Action:
    mark = "|" if "/" in old + new else "/"
    old = re.sub(r"([\\*\[])", r"\\\1", old)
    new = re.sub(r"([\\&])", r"\\\1", new).replace("\n", "\\n")
    return _bash(f"sed -i '{lines}s{mark}{old}{mark}{new}{mark}' {path}")
