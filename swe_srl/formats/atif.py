"""ATIF, harbor's Agent Trajectory Interchange Format, versions 1.0 to 1.8: read and written.

    {schema_version, session_id, agent: {name, …}, steps: [{source, message, tool_calls, observation, …}], extra}

A step of the agent holds its calls and what answered them. Many files are made from other agents' logs by
harbor's converters. Two of these keep no calls, and are read as the log that they were made from: of
mini-swe-agent's version 1 the fenced block is in the message, and of SWE-agent each call is a command line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from swe_srl import __version__
from swe_srl.formats import command_lines, mini_swe_agent
from swe_srl.formats.calls import action
from swe_srl.formats.canonical import ANNEX, annex, with_annex
from swe_srl.formats.document import Dropped, Malformed, mapping, mappings, optional_text, own_id, text
from swe_srl.formats.task import issue_in, link, patch_in, repository_of
from swe_srl.formats.turns import UNREADABLE, Turns
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory, Turn

name = "atif"

VERSION = "ATIF-v1.7"
COPIED = "step copied from an earlier trajectory"
DISPATCHED = "step made without the model"
SHARED = "several calls with one observation"

_MINI, _SWE_AGENT = mini_swe_agent.name, "swe-agent"  # agents whose converted steps keep no calls
_LINE = "swe_agent_action"  # what the converter calls any command line of SWE-agent's
# SWE-agent's tools whose command line cannot be undone to a call. Its others are the old agent's own commands.
_FLATTENED = ("str_replace_editor", "filemap")

Steps = list[dict[str, Any]]


def detect(document: object) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("steps"), list):
        return False
    version = document.get("schema_version")
    return isinstance(version, str) and version.startswith("ATIF-")


# ------------------------------------------------------------------------------------------- reading


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    """The document's own trajectory, then those of its subagents: each is a run of its own."""
    steps = mappings(document.get("steps"), "steps")
    agent = optional_text(mapping(document.get("agent"), "agent").get("name"))
    turns, dropped = _read_turns(steps, agent)
    if any(turn.action for turn in turns):
        prompt = next((step for step in steps if step.get("source") == "user"), {})
        named = optional_text(document.get("trajectory_id")) or optional_text(document.get("session_id"))
        trajectory = Trajectory(
            id=own_id(named, provenance.file, provenance.line),
            issue=issue_in(text(prompt.get("message"), "steps[].message")),
            turns=turns,
            provenance=provenance,
            task=_task(document),
            outcome=Outcome(patch=_submitted(turns[-1])),
            shell="fresh" if agent == _MINI else "persistent",
            dropped=dropped,
        )
        yield with_annex(trajectory, mapping(document.get("extra"), "extra"))
    else:
        yield Dropped(provenance.line, "no action", f"{len(steps)} steps, no call with an answer")
    for subagent in mappings(document.get("subagent_trajectories"), "subagent_trajectories"):
        yield from read(subagent, provenance)


def _read_turns(steps: Steps, agent: str | None) -> tuple[tuple[Turn, ...], dict[str, int]]:
    """What is not the agent's own answer is counted and left out, and so is what answered it."""
    own: Steps = []
    others: Counter[str] = Counter()
    for step in steps:
        reason = _not_own(step)
        if reason is None:
            own.append(step)
        elif step.get("source") == "agent":
            others[reason] += 1
    if agent == _MINI:
        turns, dropped = mini_swe_agent.read_turns(_mini_messages(own))
    else:
        turns, dropped = _turns(own, agent == _SWE_AGENT)
    return turns, dropped | dict(others)


def _not_own(step: dict[str, Any]) -> str | None:
    """Why a step is none that the agent made in this trajectory, or None if it made it."""
    if step.get("is_copied_context") is True:
        return COPIED
    calls = step.get("llm_call_count")
    return DISPATCHED if calls == 0 and not isinstance(calls, bool) else None


def _turns(steps: Steps, by_swe_agent: bool) -> tuple[tuple[Turn, ...], dict[str, int]]:
    turns, begun = Turns(), False
    for step in steps:
        if step.get("source") == "agent":
            begun = True
            calls = mappings(step.get("tool_calls"), "tool_calls")
            if by_swe_agent and all(call.get("function_name") == _LINE for call in calls):
                _hear_line(turns, step, calls)
            else:
                _hear(turns, step, calls)
        elif step.get("source") == "user" and begun:
            turns.remark(text(step.get("message"), "steps[].message"))
    return turns.close()


def _hear(turns: Turns, step: dict[str, Any], calls: Steps) -> None:
    """A step with its calls and what answered them, by id; answers without one are in the calls' order.

    One answer for several calls shows the work of all of them (terminus-2's screen): which did what is lost.
    """
    results = _results(step)
    unnamed = sum(1 for id, _ in results if id is None)
    waiting = len(calls) - len(results) + unnamed
    if waiting > 1 and unnamed not in (0, waiting):
        for _ in calls:
            turns.drop(SHARED)
        return
    try:
        called = [
            (optional_text(call.get("tool_call_id")), action(call.get("function_name"), call.get("arguments")))
            for call in calls
        ]
    except Malformed:
        turns.drop(UNREADABLE)
        return
    if called:
        turns.act(_thought(step), called)
    else:
        turns.talk(_thought(step))
    for id, content in results:
        if not turns.observe(content, id):
            turns.remark(content)


def _hear_line(turns: Turns, step: dict[str, Any], calls: Steps) -> None:
    """A row of SWE-agent's: a command line, and no observation where it was empty."""
    arguments = mapping(calls[0].get("arguments") if calls else None, "arguments")
    line = text(arguments.get("raw_action"), "raw_action")
    thought = text(step.get("reasoning_content"), "reasoning_content")
    if line.lstrip().startswith(_FLATTENED):
        turns.act(thought, [(None, Action(_LINE, {"raw_action": line}))])
    else:
        command_lines.say(turns, thought, line)
    turns.observe("\n".join(content for _, content in _results(step)))


def _mini_messages(steps: Steps) -> Steps:
    """The steps as the messages that they were made from."""
    messages: Steps = []
    for step in steps:
        role = "assistant" if step.get("source") == "agent" else "user"
        message = {"role": role, "content": step.get("message")}
        if calls := mappings(step.get("tool_calls"), "tool_calls"):
            message["tool_calls"] = [_tool_call(call) for call in calls]
        messages.append(message)
        messages += [{"role": "user", "content": content, "tool_call_id": id} for id, content in _results(step)]
    return messages


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function = {"name": call.get("function_name"), "arguments": call.get("arguments")}
    return {"id": call.get("tool_call_id"), "function": function}


def _results(step: dict[str, Any]) -> list[tuple[str | None, str]]:
    """(id of the call, text) of each result; an image or a reference to a subagent's run has no text."""
    if (observation := step.get("observation")) is None:
        return []
    results = mappings(mapping(observation, "observation").get("results"), "results")
    return [(optional_text(r.get("source_call_id")), text(r.get("content"), "results[].content")) for r in results]


def _thought(step: dict[str, Any]) -> str:
    """What the agent reasoned and then said; converters give many a text as both."""
    reasoned = text(step.get("reasoning_content"), "reasoning_content")
    said = text(step.get("message"), "steps[].message")
    return said if reasoned.strip() == said.strip() else f"{reasoned}\n\n{said}"


def _submitted(last: Turn) -> str | None:
    return patch_in(last.observation) if last.action == Action("submit") else None


def _task(document: dict[str, Any]) -> TaskLink:
    """The instance as the environment's name or the session's, which may have a word before it."""
    extra = mapping(document.get("extra"), "extra")
    made_from = mapping(mapping(document.get("agent"), "agent").get("extra"), "agent.extra")
    session = optional_text(document.get("session_id")) or ""
    names = (
        *(extra.get("task_id"), extra.get("instance_id"), made_from.get("environment")),
        *("__".join(session.split("__")[-2:]), session),
    )
    return link(next((name for name in names if isinstance(name, str) and repository_of(name)), None))


# ------------------------------------------------------------------------------------------- writing


def write(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as ATIF, one call a step. What was said to a step without a call is the user's next step."""
    steps: Steps = [{"source": "user", "message": trajectory.issue}]
    for number, turn in enumerate(trajectory.turns, 1):
        step: dict[str, Any] = {"source": "agent", "message": turn.thought}
        steps.append(step)
        if turn.action is not None:
            id, arguments = f"call_{number}", dict(turn.action.arguments)
            step["tool_calls"] = [{"tool_call_id": id, "function_name": turn.action.tool, "arguments": arguments}]
            if turn.observation is not None:
                step["observation"] = {"results": [{"source_call_id": id, "content": turn.observation}]}
        elif turn.observation is not None:
            steps.append({"source": "user", "message": turn.observation})
    return {
        "schema_version": VERSION,
        "session_id": trajectory.id,
        "trajectory_id": trajectory.id,
        "agent": {"name": "swe-srl", "version": __version__},
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, 1)],
        "extra": {
            "task_id": trajectory.task.task_id,
            ANNEX: annex(trajectory, issue_in(trajectory.issue)),
        },
    }
