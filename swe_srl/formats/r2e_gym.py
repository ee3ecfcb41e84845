"""R2E-Gym: one run a line, its steps under `trajectory_steps`.

Each step has a thought, one call as XML text and what answered it. R2E-Gym writes that text itself, from the call
that it parsed, so it is undone exactly: values stand between the tags as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from swe_srl.formats.document import Dropped, Malformed, mapping, mappings, optional_text, own_id, text
from swe_srl.formats.task import issue_in, link, patch_in
from swe_srl.formats.turns import REJECTED, UNREADABLE, Turns
from swe_srl.tools import EDITOR
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory

name = "r2e-gym"

_OPEN, _PARAMETER, _END, _CLOSE = "<function=", "  <parameter=", "</parameter>\n", "</function>"

# How R2E-Gym answers a call that it did not run: the shell tool's refusal (of cd, pip, nohup and such), and what
# its environment's failure says when there is no such tool.
_BLOCKED = ("[execute_bash]:\nBash command '", "is not allowed. Please use a different command or tool.")
_NO_TOOL = "local variable 'bash_output'"


def detect(document: object) -> bool:
    return isinstance(document, dict) and "trajectory_steps" in document and "exit_reason" in document


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    """`reward` is 1 where the hidden tests pass; a run that was not tested has none."""
    run = mapping(document, "run")
    steps = mappings(run.get("trajectory_steps"), "trajectory_steps")
    exit_reason = optional_text(run.get("exit_reason"))
    turns = Turns()
    for step in steps:
        _step(turns, step)
    kept, dropped = turns.close()
    if not any(turn.action for turn in kept):
        yield Dropped(provenance.line, "no action", f"{len(steps)} steps, exit reason {exit_reason!r}")
        return
    task, reward = _task(run), run.get("reward")
    yield Trajectory(
        id=own_id(task.task_id, provenance.file, provenance.line),
        issue=issue_in(text(run.get("problem_statement"), "problem_statement")),
        turns=kept,
        provenance=provenance,
        task=task,
        outcome=Outcome(bool(reward) if reward in (0, 1) else None, exit_reason, patch_in(run.get("output_patch"))),
        shell="fresh",
        dropped=dropped,
    )


def _step(turns: Turns, step: dict[str, Any]) -> None:
    thought = text(step.get("thought"), "thought")
    observation = text(step.get("observation"), "observation")
    try:
        called = _call(text(step.get("action"), "action"))
    except Malformed:
        turns.drop(UNREADABLE)
        return
    if called is None:
        turns.talk(thought)
        turns.remark(observation)
    elif _refused(observation[:300]):
        turns.drop(REJECTED)
    else:
        turns.act(thought, [(None, called)])
        turns.observe(observation)


def _refused(head: str) -> bool:
    return all(mark in head for mark in _BLOCKED) or (_NO_TOOL in head and "Execution output of" not in head)


def _call(said: str) -> Action | None:
    """The call in R2E-Gym's own writing; None for its form of no call. Raises Malformed."""
    head, _, rest = said.removeprefix(_OPEN).partition(">\n")
    if not (said.startswith(_OPEN) and rest.endswith(_CLOSE)):
        raise Malformed("action", f"{_OPEN}NAME> … {_CLOSE}", said)
    values: dict[str, str] = {}
    *parts, tail = rest.removesuffix(_CLOSE).split(_END)
    for part in parts:
        key, tag_end, value = part.removeprefix(_PARAMETER).partition(">")
        if not (part.startswith(_PARAMETER) and tag_end) or key in values:
            raise Malformed("action", "parameters that can be told apart", part)
        values[key] = value
    if tail:
        raise Malformed("action", "closed parameters", tail)
    return _ours(head, values) if head else None


def _ours(tool: str, values: dict[str, str]) -> Action:
    """Our call that does exactly the same, else this one under its own name.

    Paths are relative to the repository. The editor condenses a long file unless it is asked for a range, so a
    plain view is not ours; flags that ours has not are left out where they are off.
    """
    if tool == "finish":  # it reads neither of its parameters
        return Action("submit")
    if tool == "execute_bash" and values.keys() == {"cmd"}:
        return Action("bash", {"command": values["cmd"]})
    if tool != "file_editor" or not values.get("path", "").startswith("/"):
        return Action(tool, values)
    given = {key: value for key, value in values.items() if key in EDITOR.names or value.lower() != "false"}
    plain_view = given.get("command") == "view" and "view_range" not in given
    exact = given.keys() <= set(EDITOR.names) and not plain_view
    return Action(EDITOR.name, given) if exact else Action(tool, values)


def _task(run: dict[str, Any]) -> TaskLink:
    """`ds` is the data set's row: SWE-bench's, or R2E-Gym's own, which names a repository and no instance."""
    ds = mapping(run.get("ds"), "ds")
    task = link(ds.get("instance_id"), ds.get("base_commit"), run.get("docker_image"))
    repository = optional_text(ds.get("repo")) or optional_text(ds.get("repo_name")) or task.repository
    return replace(task, repository=repository)
