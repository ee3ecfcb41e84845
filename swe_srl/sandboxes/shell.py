"""A shell that persists without a process that does: each command is a fresh bash on a saved state.

Three files in a control folder make it: `command` (what to run), `state` (a script that restores directory,
exported variables, functions and options) and `state.next` (what the command left). Because nothing waits
between two commands, a time-out is a kill, a fork is a copy of `state`, and `exit 3` is only an exit code.

What does not persist, unlike in one long bash: variables that are not exported, aliases, jobs, and an EXIT
trap of the command's own (which takes the place of ours, so that command leaves the state as it was).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath

TIMED_OUT = 124  # as timeout(1) has it
OUTPUT_CAP_BYTES = 64 * 1024
_SAVED = "# saved"

# Only builtins, no variables and no functions of ours: the command may have changed PATH or read them all.
# `>|` for noclobber. `set +o` comes last and in this very shell: a subshell would not show errexit.
_SAVE = (
    """{{ printf 'builtin cd -- %q\\n' "${{PWD-.}}"; export -p; declare -f; declare -F; umask -p; """
    """shopt -p; set +o; printf '%s\\n' '{saved}'; }} 2>/dev/null >| {next}"""
)


def script(control: PurePath | str) -> str:
    """What to give to `bash --noprofile --norc -c`, with `control` as that bash sees the folder.

    The command is read from a file (an argument ends at 128 KiB) and run by `eval`. All is one line, and
    the trap comes first, so that bash names errors "bash: line 1:" as it would on a terminal and a `set -x`
    that is restored shows little but the command.
    """
    state, command = (shlex.quote(f"{control}/{name}") for name in ("state", "command"))
    save = _SAVE.format(saved=_SAVED, next=shlex.quote(f"{control}/state.next"))
    return f'trap {shlex.quote(save)} EXIT; . {state} >/dev/null 2>&1; eval "$(<{command})"'


def first_state(directory: str, variables: Mapping[str, str]) -> str:
    """The state before the first command. The bash itself starts with no environment at all."""
    exports = [f"declare -x {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join([f"builtin cd -- {shlex.quote(directory)}", *exports, _SAVED, ""])


def is_whole(state: str) -> bool:
    """Whether a saved state was written to its end: only then may it replace the one before."""
    return state.endswith(f"\n{_SAVED}\n")


class Output:
    """Bytes of a command as they come, the middle dropped once they exceed the cap."""

    def __init__(self, cap_bytes: int = OUTPUT_CAP_BYTES) -> None:
        self._half = cap_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._cut = 0

    def feed(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        surplus = len(self._tail) - self._half
        if surplus > 0:
            del self._tail[:surplus]
            self._cut += surplus

    @property
    def truncated(self) -> bool:
        return self._cut > 0

    def text(self) -> str:
        """The output; bytes that are no UTF-8 become replacement characters."""
        note = f"\n[... {self._cut} bytes cut out ...]\n".encode() if self._cut else b""
        return bytes(self._head + note + self._tail).decode("utf-8", "replace")
