"""What the scripted expert says: templates by sort of step, and what it finds wrong, by the words that differ."""

from __future__ import annotations

import difflib
import re
from random import Random

SEVERAL = "several"  # the kind of a task with more than one place

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
    "grep failed": [
        "The test of {function} fails. Where is it?",
        "{function} is wrong, say the tests. I search for it.",
        "I look for {function}, whose test fails.",
    ],
    "grep called": [
        "{asked} calls {function}. I search for it.",
        "{asked} looks right, but it calls {function}.",
        "What does {function} do, which {asked} calls?",
    ],
    "all": [
        "The issue names no function. I run the tests.",
        "I run all tests to see what fails.",
        "Which tests fail?",
    ],
    "rest": [
        "That may not be all. I run all tests.",
        "Is that all? I run the tests.",
        "Now all tests: what still fails?",
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
    "told": [
        "I write it as the issue says.",
        "The issue says what to write in {path}.",
        "I change that line of {path}.",
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


def diagnosis(function: str, old: str, new: str, kind: str, rng: Random) -> str:
    """What is wrong, by the words that differ."""
    if new.endswith(old):
        wrong, right = "", new.split("\n")[0]
    else:
        wrong, right = _difference(old, new)
    templates = _REPLACED if wrong and right else _ADDED if right else _TAKEN
    if kind == SEVERAL:
        templates = [words for words in templates if "{kind}" not in words]
    kind = kind[0].upper() + kind[1:]
    return rng.choice(templates).format(function=function, old=wrong, new=right, kind=kind)


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
