"""SWE-agent's actions before it had tool calls: a command line, for bash or for one of the agent's own commands.

Two logs hold them: the agent's old `.traj` files, and nebius' training messages.
"""

from __future__ import annotations

from swe_srl.formats.turns import REJECTED, Turns
from swe_srl.types import Action

# The agent's own commands: they exist in no shell, so they keep their names. `submit` with an argument (a
# capture-the-flag answer) is one of them; a bare `submit` is ours.
OWN_COMMANDS = frozenset(
    {
        *("open", "goto", "scroll_up", "scroll_down", "create", "edit", "insert", "append", "set_cursors"),
        *("search_dir", "search_file", "find_file", "search", "submit", "exit_forfeit", "skip"),
        *("connect_start", "connect_sendline", "connect_exec", "connect_stop"),
        *("debug_start", "debug_add_breakpoint", "debug_continue", "debug_step", "debug_exec", "debug_stop"),
        *("decompile", "disassemble", "view_image"),
    }
)


def say(turns: Turns, thought: str, line: str) -> None:
    """A turn with this command line. An empty one or an exit_* mark of the agent executed nothing."""
    line = line.strip()
    word = line.split(maxsplit=1)[0] if line else ""
    if not line or (word.startswith("exit_") and word not in OWN_COMMANDS):
        turns.drop(REJECTED)
    elif line == "submit":
        turns.act(thought, [(None, Action("submit"))])
    else:
        tool = word if word in OWN_COMMANDS else "bash"
        turns.act(thought, [(None, Action(tool, {"command": line}))])
