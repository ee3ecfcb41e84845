"""When two observations of one command are equal: what is not the command's doing is told apart here, and only here.

Both texts go through all rules, in order, and are then compared as they are. A rule replaces a value within a line
by its name; none takes a line away (but empty ones at the very end, which log formats strip), and what no rule
names must be equal to the character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """`pattern` → `replacement` (as in `re.sub`; ^ and $ are of a line), and why."""

    name: str
    pattern: re.Pattern[str]
    replacement: str
    why: str


def _rule(name: str, pattern: str, replacement: str, why: str) -> Rule:
    return Rule(name, re.compile(pattern, re.MULTILINE), replacement, why)


RULES: tuple[Rule, ...] = (
    _rule("colours", r"\x1b\[[0-9;]*m", "", "a terminal's, where the log was made on one"),
    _rule("line ends", r"\r\n", "\n", "as above"),
    _rule("white space at the end of a line", r"[ \t]+$", "", "formats of logs strip it"),
    _rule("white space at the end of the text", r"\s+\Z", "", "as above"),
    _rule("seconds", r"\b\d+\.\d+s\b", "<seconds>s", "how long it took: `0.03s`"),
    _rule("seconds in words", r"(?<=\bin )\d+(?:\.\d+)? seconds?\b", "<seconds> seconds", "as above: `in 0.3 seconds`"),
    _rule("minutes", r"\b\d+m\d+\.\d+s\b", "<minutes>", "as above: bash's `real 0m0.012s`"),
    _rule("addresses", r"\b0x(?:7[0-9a-f]|5[56])[0-9a-f]{10}\b", "0x<address>", "where an object lies: `0x7f…`"),
    _rule("addresses of objects", r"(?<= at )0x[0-9a-f]{6,16}\b", "0x<address>", "as above: `<C object at 0x…>`"),
    _rule("names of temporary files", r"(?<=/tmp/)tmp[a-z0-9_]{8}\b", "<temporary>", "Python's tempfile"),
    _rule("names by mktemp", r"(?<=/tmp/)tmp\.[A-Za-z0-9]{10}\b", "<temporary>", "mktemp"),
    _rule("pytest's folders", r"\bpytest-of-\w+/pytest-\d+\b", "<pytest>", "pytest's tmp_path"),
    _rule(
        "folders of a local sandbox",
        r"/tmp/swe-srl-(?:\d+-\d+-)?[a-z0-9_]{8}/(tmp|home)\b",
        r"<\1>",
        "its TMPDIR and HOME",
    ),
    _rule("process ids", r"(?i)\b(pid[ =:]+)\d+\b", r"\1<pid>", "`pid 123`"),
    _rule("process ids of jobs", r"^(\[\d+\][+-]? +)\d+\b", r"\1<pid>", "bash's `[1] 123`"),
    _rule("process ids of killed", r"(: line \d+:) +\d+(?= +[A-Z])", r"\1 <pid>", "bash's `line 1: 123 Killed`"),
    _rule(
        "owner, group and date of ls -l",
        r"^([-dlbcps][-rwxsStT]{9}[.+@]? +\d+) +\S+ +\S+ +(\d+) +[A-Z][a-z]{2} +\d+ +(?:\d\d:\d\d|\d{4})(?= )",
        r"\1 <owner> \2 <date>",
        "who runs the sandbox, and when",
    ),
    _rule("size of a folder in ls -l", r"^(d\S{9,10} +\d+ <owner>) \d+", r"\1 <size>", "a file system's own"),
    _rule("blocks in ls -l", r"^total \d+$", "total <blocks>", "as above"),
    _rule("times of day", r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?", "<time>", "`2024-05-01 12:34:56`"),
    _rule("dates of git log", r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}\b", "<time>", "a commit's"),
    _rule("hashes of new commits", r"^(\[\S+ |commit )[0-9a-f]{7,40}\b", r"\1<commit>", "they hold its time"),
)


def normalise(observation: str) -> str:
    """An observation after all rules, in order."""
    for rule in RULES:
        observation = rule.pattern.sub(rule.replacement, observation)
    return observation


def equal(logged: str, replayed: str) -> bool:
    """Whether two observations say the same."""
    return logged == replayed or normalise(logged) == normalise(replayed)
