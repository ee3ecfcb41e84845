"""What OpenHands' three kinds of log share: its calls, its refusals, the facts of a run. No format by itself."""

from __future__ import annotations

from typing import Any

from swe_srl.actions import without_thought
from swe_srl.formats import calls
from swe_srl.formats.document import Dropped, optional_bool, optional_text, own_id
from swe_srl.formats.task import issue_in, link, patch_in
from swe_srl.formats.turns import Turns
from swe_srl.tools import TOOLS
from swe_srl.types import Action, Outcome, Provenance, Trajectory

# What its SDK calls tools that are exactly ours.
_RENAMED = {"terminal": "execute_bash", "file_editor": "str_replace_editor"}
# No commands, but keys for the process that runs, or a wish to see more of its output.
_KEYS = frozenset({"", "C-c", "C-d", "C-z", "ctrl+c", "ctrl+d", "ctrl+z"})

# How the environment begins when it executed nothing.
_REFUSALS = (
    "ERROR: Cannot execute multiple commands at once.",
    "Cannot execute multiple commands at once.",
    "ERROR: No previous running command",
    "The action has not been executed",
    "Stop button pressed. The action has not been executed",
)
_BUSY = ("[Below is the output of the previous command.]", "is NOT executed. The previous command is still running")


def heard(said: str, name: object, arguments: object) -> tuple[str, Action]:
    """(thought, action): a call as its environment consumes it, under our name where it is exactly our tool's.

    No environment consumes the words of `finish`: they are the model's last thought. Raises Malformed.
    """
    given = calls.texts(arguments)
    if name == "finish":
        return f"{said.strip()}\n\n{given.get('message', '').strip()}", Action("submit")
    call = calls.action(_RENAMED.get(str(name), name), given)
    exact = call.tool in TOOLS and not (call.tool == "bash" and call.arguments.get("command", "").strip() in _KEYS)
    return said, call if exact else Action(str(name), given)


def refused(answer: str) -> bool:
    """Whether the environment says that it executed nothing. A command that failed was executed."""
    begins, says = _BUSY
    return answer.startswith(_REFUSALS) or (answer.startswith(begins) and says in answer)


def shown(content: str, metadata: object) -> str:
    """A command's output as the model saw it: with the terminal's words before and after it, the exit code's."""
    if not isinstance(metadata, dict):
        return content
    prefix, suffix = optional_text(metadata.get("prefix")), optional_text(metadata.get("suffix"))
    return f"{prefix or ''}{content}{suffix or ''}"


def thought(said: str, reasoning: object) -> str:
    """What a model reasoned and said. Some servers leave the reasoning in the text, too: once is enough."""
    reasoned = optional_text(reasoning)
    return f"{reasoned.strip()}\n\n{without_thought(said).strip()}" if reasoned else said


def trajectory(turns: Turns, prompt: str, record: dict[str, Any], provenance: Provenance) -> Trajectory | Dropped:
    """The run of a record of an evaluation, or of a log without one ({}): turns in, whole trajectory out."""
    kept, dropped = turns.close()
    if not any(turn.action for turn in kept):
        reasons = ", ".join(f"{count} × {reason}" for reason, count in dropped.items())
        return Dropped(provenance.line, "no action", reasons or f"{len(kept)} answers, none with a call")
    result = _facts(record.get("test_result"))
    report = _facts(record.get("report") or result.get("report"))
    task = link(record.get("instance_id"), _facts(record.get("instance")).get("base_commit"))
    return Trajectory(
        id=own_id(task.task_id or optional_text(record.get("id")), provenance.file, provenance.line),
        issue=issue_in(prompt),
        turns=kept,
        provenance=provenance,
        task=task,
        outcome=Outcome(
            optional_bool(report.get("resolved")),
            optional_text(record.get("error")),
            patch_in(result.get("git_patch") or record.get("git_patch")),
        ),
        dropped=dropped,
    )


def _facts(value: object) -> dict[str, Any]:
    """An object of facts that are nice to have."""
    return value if isinstance(value, dict) else {}
