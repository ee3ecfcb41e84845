"""Which programs a bash command runs, as far as its text tells without running it.

A command is cut where the shell would begin another one (a pipe, `&&`, `;`, a line end, a parenthesis), and each
part's first word counts, less its folder: `cd /testbed && /usr/bin/python -m pytest | head` runs python and head.
Passed over: `cd`, assignments, redirections, the shell's own words (`if`, `do`, …) and what only starts another
program (`sudo`, `timeout 60`). Not looked into: what is quoted, here-documents, and what xargs or find starts.
"""

from __future__ import annotations

import re

_HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1([^\n]*)\n.*?(?:^[ \t]*\2[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
# Left to right, so that a quote in a comment and a # in a quote mean nothing. A quote that never closes is kept.
_OPAQUE = re.compile(r"\\\n|\\.|'[^']*+'|\"(?:\\.|[^\"\\])*+\"|(?<![^\s;&|(])#[^\n]*", re.DOTALL)
_REDIRECTION = re.compile(r"(?:&|\d{0,2})>[>|&]?[ \t]*[^\s;&|()<>]*|\d{0,2}<+[ \t]*[^\s;&|()<>]*")
_PART = re.compile(r"[;&|\n()`]+")
_ASSIGNMENT = re.compile(r"\w+\+?=.*")
_PROGRAM = re.compile(r"[A-Za-z_\[][\w.+\-\[]{0,39}")

_QUOTED = '"'  # stands for a quoted text; a name that holds one is not known
_WORDS = frozenset(("if", "then", "else", "elif", "do", "while", "until", "!", "{", "}"))  # another command follows
_NO_COMMAND = frozenset(("for", "case", "select", "function", "esac", "fi", "done", "in"))  # none does
_STARTERS = frozenset(("sudo", "env", "nohup", "time", "timeout", "exec", "command", "nice", "stdbuf"))
_STARTERS_ARGUMENT = re.compile(r"-.*|\d+(?:\.\d+)?[smhd]?|\w+=.*")


def programs(command: str) -> list[str]:
    """The programs in the order of their first use, each once."""
    if "<<" in command:
        command = _HEREDOC.sub(r" \3\n", command)
    command = _OPAQUE.sub(_stand_in, command)
    if ">" in command or "<" in command:
        command = _REDIRECTION.sub(" ", command)
    found = (_program(part.split()) for part in _PART.split(command))
    return list(dict.fromkeys(name for name in found if name is not None))


def _stand_in(found: re.Match[str]) -> str:
    return "" if found[0].startswith("#") else " " if found[0] == "\\\n" else _QUOTED


def _program(words: list[str]) -> str | None:
    """The program that a simple command runs, or None."""
    started = False
    for word in words:
        if word in _NO_COMMAND:
            return None
        if word in _WORDS or _ASSIGNMENT.fullmatch(word) or (started and _STARTERS_ARGUMENT.fullmatch(word)):
            continue
        name = word.rsplit("/", 1)[-1]
        if name in _STARTERS:
            started = True
            continue
        return name if name != "cd" and _PROGRAM.fullmatch(name) else None
    return None
