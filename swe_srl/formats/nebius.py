"""nebius/SWE-agent-trajectories: runs of SWE-agent's old kind, one row a run.

`trajectory` is the conversation, each message with its words under `text` (a system message's are under
`system_prompt`). The model's answer is a thought and one command in an unnamed fenced block; the environment's
answer ends with SWE-agent's prompt, "(Open file: …)\\n(Current directory: …)\\nbash-$", which stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from swe_srl.formats.command_lines import say
from swe_srl.formats.document import Dropped, mapping, mappings, optional_bool, optional_text, own_id, text
from swe_srl.formats.task import issue_in, link, patch_in
from swe_srl.formats.turns import REJECTED, Turns
from swe_srl.types import Outcome, Provenance, Trajectory

name = "nebius"

_FENCE = re.compile(r"\n```(\S*)[^\S\n]*(?=\n|\Z)")  # begins with plain text, which is sought fast


def detect(document: object) -> bool:
    """By its messages' keys: no other log has `text` beside `mask`."""
    messages = document.get("trajectory") if isinstance(document, dict) else None
    if not isinstance(messages, list) or not messages:
        return False
    first = messages[0]
    return isinstance(first, dict) and {"role", "text", "mask"} <= first.keys()


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    """`target` says whether the hidden tests passed. A row's id may have a run's number; the task's has not."""
    row = mapping(document, "row")
    exit_status = optional_text(row.get("exit_status"))
    turns, begun, prompt = Turns(), False, ""
    for message in mappings(row.get("trajectory"), "trajectory"):
        said = text(message.get("text"), "trajectory[].text")
        if message.get("role") == "ai":
            begun = True
            _hear(turns, said)
        elif message.get("role") == "user" and begun:
            turns.observe(said)
        elif message.get("role") == "user":
            prompt = prompt or said
    kept, dropped = turns.close()
    if not any(turn.action for turn in kept):
        yield Dropped(provenance.line, "no action", f"exit status {exit_status!r}")
        return
    yield Trajectory(
        id=own_id(optional_text(row.get("instance_id")), provenance.file, provenance.line),
        issue=issue_in(prompt),
        turns=kept,
        provenance=provenance,
        task=link(row.get("instance_id")),
        outcome=Outcome(optional_bool(row.get("target")), exit_status, patch_in(row.get("generated_patch"))),
        dropped=dropped,
    )


def _hear(turns: Turns, said: str) -> None:
    """One answer of the model. Without a block SWE-agent ran nothing: it asked again, or gave up."""
    said = f"\n{said}"
    if found := _block(said):
        start, end = found
        say(turns, said[: start.start()] + said[end.end() :], said[start.end() : end.start()])
    else:
        turns.drop(REJECTED)


def _block(said: str) -> tuple[re.Match[str], re.Match[str]] | None:
    """Opening and closing fence of the command: the last block that is in no other, as SWE-agent finds it.

    An unnamed fence closes what is open, and opens a block where nothing is; a named one always opens.
    """
    opened: list[re.Match[str]] = []
    last = None
    for fence in _FENCE.finditer(said):
        if opened and not fence[1]:
            start = opened.pop()
            last = last if opened else (start, fence)
        else:
            opened.append(fence)
    return last
