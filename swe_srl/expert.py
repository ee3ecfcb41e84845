"""A scripted expert: it knows the fix, and walks to it as someone would who does not.

Look, grep for the issue's function, reproduce, view, edit, test, submit: 5 to 8 steps, each foreseeable from
the issue and the last two commands with their observations. The path is in grep's output, the line range
follows from its line number, the text to replace stands in what was viewed. Observations are short: what is
viewed is little more than the function. What varies, by the caller's `Random`, are a few habits of the whole
demonstration and the words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from unidiff.patch import PatchSet

from swe_srl.sandboxes import TREE, Sandbox
from swe_srl.types import Action, Task

VIEWED_LINES = 6  # after the def line; no task of the suite has its defect further down


@dataclass(frozen=True, slots=True)
class Fix:
    """What is wrong, where: `old` occurs once in `path`, in the function that begins at `line`."""

    path: str
    function: str
    line: int
    old: str
    new: str
    kind: str
    call: str

    @property
    def package(self) -> str:
        """Its name in this task: a variant's differs from its repository."""
        return self.path.partition("/")[0]

    @property
    def test_file(self) -> str:
        return re.sub(r".*/", "tests/test_", self.path)


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
    (hunk,) = PatchSet(task.gold_patch)[0]
    path = PatchSet(task.gold_patch)[0].path
    text = sandbox.read(f"{TREE}/{path}").decode()
    changed = [place for place, line in enumerate(hunk) if not line.is_context]
    removed = [line.value for line in hunk if line.is_removed]
    added = [line.value for line in hunk if line.is_added]
    # A pure insertion is written as: this line becomes the new lines and this line.
    anchor = [] if removed else [list(hunk)[changed[-1] + 1].value]
    old, new = "".join(removed + anchor).strip(), "".join(added + anchor).strip()
    assert "\n" not in old, f"{task.task_id}: {old!r} is more than one line"
    assert text.count(old) == 1, f"{task.task_id}: {old!r} does not occur once in {path}"
    before = text[: text.index(old) + len(old)]  # with the line itself: a default is wrong in the def line
    head = list(re.finditer(r"^def (\w+)", before, re.MULTILINE))[-1]
    calls = re.findall(rf"`({path.partition('/')[0]}\.{head[1]}\([^`]*)`", task.issue)
    assert len(calls) == 1, f"{task.task_id}: the issue does not call {head[1]}"
    line = before[: head.start()].count("\n") + 1
    return Fix(path, head[1], line, old, new, task.kind, calls[0])


def moves(fix: Fix, habits: Habits, rng: Random) -> Iterator[Move]:
    """The demonstration, step by step."""
    names = {"function": fix.function, "package": fix.package, "path": fix.path, "test_file": fix.test_file}
    test = habits.test.format(**names)

    def say(step: str) -> str:
        return rng.choice(WORDS[step]).format(**names)

    if habits.look:
        yield Move(say("look"), _bash(habits.look), fix.package)
    grep = habits.grep.format(**names)
    yield Move(say("grep"), _bash(grep), f"{fix.path}:{fix.line}:def {fix.function}")
    view = Move(say("view"), _view(fix, habits), fix.old)
    if habits.reproduce_after_view:
        yield view
    if habits.reproduce == "call":
        command = f"python -c 'import {fix.package}; print({fix.call})' 2>&1 | tail -n 1"
        yield Move(say("call"), _bash(command))
    elif habits.reproduce == "test":
        yield Move(say("test"), _bash(test), f"FAILED {fix.test_file}")
    if not habits.reproduce_after_view:
        yield view
    yield Move(_diagnosis(fix, rng), _edit(fix, habits))
    yield Move(say("again"), _bash(test), ".")
    if habits.check:
        yield Move(say(habits.check.partition(" -")[0]), _bash(habits.check))
    yield Move(say("submit"), Action("submit"), fix.path)


# ---------------------------------------------------------------------------------------------- actions


def _bash(command: str) -> Action:
    return Action("bash", {"command": command})


def _view(fix: Fix, habits: Habits) -> Action:
    if not habits.editor:
        return _bash(f"sed -n '/def {fix.function}(/,/^$/p' {fix.path}")
    first, last = fix.line, fix.line + VIEWED_LINES
    path = f"{TREE}/{fix.path}"
    return Action("str_replace_editor", {"command": "view", "path": path, "view_range": f"[{first}, {last}]"})


def _edit(fix: Fix, habits: Habits) -> Action:
    if not habits.editor:
        mark = "|" if "/" in fix.old + fix.new else "/"
        old = re.sub(r"([\\*\[])", r"\\\1", fix.old)
        new = re.sub(r"([\\&])", r"\\\1", fix.new).replace("\n", "\\n")
        return _bash(f"sed -i 's{mark}{old}{mark}{new}{mark}' {fix.path}")
    path = f"{TREE}/{fix.path}"
    values = {"command": "str_replace", "path": path, "old_str": fix.old, "new_str": fix.new}
    return Action("str_replace_editor", values)


# ------------------------------------------------------------------------------------------------ words

WORDS = {
    "look": [
        "I look at what is here first.",
        "First I see which files there are.",
        "Let me see the files.",
    ],
    "grep": [
        "The issue is about {function}. I search for it.",
        "Where is {function} defined?",
        "I look for {function} in {package}.",
        "Let me find {function}.",
    ],
    "call": [
        "I run the call of the issue.",
        "Let me see what {function} returns.",
        "I try {function} as the issue does.",
    ],
    "test": [
        "{function} is in {path}. I run its tests.",
        "I run {test_file} to see it fail.",
        "Do the tests of {function} fail?",
    ],
    "view": [
        "Now I read {function} in {path}.",
        "Let me view {function}.",
        "{function} is in {path}. I read it.",
    ],
    "again": [
        "I run the tests of {function}.",
        "{path} is changed. Do the tests pass?",
        "Let me test {function} now.",
    ],
    "git diff": [
        "The tests pass. I check my change to {path}.",
        "Let me see the diff of {path}.",
    ],
    "python": [
        "{function} works. I run all the tests.",
        "Now all tests of {package}.",
    ],
    "submit": [
        "{function} is fixed and the tests pass. I submit.",
        "All is well with {function}. I submit.",
        "The work on {path} is done.",
    ],
}
_REPLACED = [
    "In {function} `{old}` should be `{new}`.",
    "{kind} in {function}: `{old}` must be `{new}`.",
    "`{old}` is wrong in {function}. I write `{new}`.",
]
_ADDED = [
    "{function} lacks `{new}`. I add it.",
    "{kind} in {function}: `{new}` is not there.",
]
_TAKEN = [
    "`{old}` does not belong in {function}.",
    "{kind} in {function}: I take `{old}` out.",
]


def _diagnosis(fix: Fix, rng: Random) -> str:
    """What is wrong, by the words that differ."""
    if fix.new.endswith(fix.old):
        wrong, right = "", fix.new.split("\n")[0]
    else:
        wrong, right = _difference(fix.old, fix.new)
    templates = _REPLACED if wrong and right else _ADDED if right else _TAKEN
    kind = fix.kind[0].upper() + fix.kind[1:]
    return rng.choice(templates).format(function=fix.function, old=wrong, new=right, kind=kind)


def _difference(old: str, new: str) -> tuple[str, str]:
    """The parts of two lines from the first word that differs to the last, with the brackets they open."""
    a, b = (re.findall(r"\d+\.\d+|\w+|[()\[\]{}]|[^\w\s()\[\]{}]+|\s+", text) for text in (old, new))
    blocks = [
        block for block in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes() if block[0] != "equal"
    ]
    left, right = a[blocks[0][1] : blocks[-1][2]], b[blocks[0][3] : blocks[-1][4]]
    for token in a[blocks[-1][2] :]:  # which is also how the new line goes on
        if all(sum(t in "([{" for t in part) <= sum(t in ")]}" for t in part) for part in (left, right)):
            break
        left, right = [*left, token], [*right, token]
    return "".join(left).strip(), "".join(right).strip()
