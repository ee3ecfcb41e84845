"""mini-swe-agent: `.traj.json` of version 1 (fenced bash) and 2 (tool calls), and bare lists of messages.

Every command runs in a fresh shell. Version 1 takes an answer only if it holds exactly one fenced block;
any other answer is rejected, and the next user message says so. The block is found as the agent finds it, by
its regular expression: a ```python fence or a fence inside a here-document is none of its business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from swe_srl.actions import read_call
from swe_srl.errors import FormatError, UnrenderableError
from swe_srl.formats.calls import action_of, tool_call_of
from swe_srl.formats.canonical import ANNEX, annex, with_annex
from swe_srl.formats.chat import XML_CALL, messages_of, plain, style_of
from swe_srl.formats.document import (
    Dropped,
    Malformed,
    mapping,
    mappings,
    optional_bool,
    optional_text,
    own_id,
    text,
)
from swe_srl.formats.task import issue_in, link, patch_in
from swe_srl.formats.turns import REJECTED, UNREADABLE, Turns
from swe_srl.types import Action, Outcome, Provenance, Trajectory, Turn

name = "mini-swe-agent"

_V1_FENCE, _V2_FENCE = "```bash", "```mswea_bash_command"
_BLOCKS = {fence: re.compile(fence + r"\s*\n(.*?)\n```", re.DOTALL) for fence in (_V1_FENCE, _V2_FENCE)}
_PROMPTS = 3  # messages among which a log of version 2 tells the model of its fence

_SENTINEL = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
SUBMIT_COMMAND = f"{_SENTINEL} && git add -A && git diff --cached"
# The whole command must be one of these: a longer one also does something else, and stays a bash command.
SUBMIT_COMMANDS = frozenset(
    {
        SUBMIT_COMMAND,
        _SENTINEL,
        f"{_SENTINEL} && cat patch.txt",
        f"{_SENTINEL} && cat /testbed/patch.txt",
        f"cd /testbed && {_SENTINEL} && cat patch.txt",
        # The word before version 1.10.
        "echo MINI_SWE_AGENT_FINAL_OUTPUT",
        "echo MINI_SWE_AGENT_FINAL_OUTPUT && git add -A && git diff --cached",
    }
)

_SIGNS = ("<returncode>", "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT", "MINI_SWE_AGENT_FINAL_OUTPUT")

# The agent's word that a call did not run, as text and as JSON.
_NOT_RUN = "<exception>action was not executed</exception>"
_NOT_RUN_JSON = '"exception_info": "action was not executed"'

_SYSTEM = "You are a helpful assistant that can interact with a computer shell to solve programming tasks."


def detect(document: object) -> bool:
    """By its own word, or by its marks: any chat about a shell may hold a fenced block."""
    if isinstance(document, dict) and isinstance(stated := document.get("trajectory_format"), str):
        return stated.startswith("mini-swe-agent")
    return style_of(document) == "fence" and any(
        sign in plain(message.get("content")) for message in messages_of(document) or [] for sign in _SIGNS
    )


# ------------------------------------------------------------------------------------------- reading


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    messages = messages_of(document)
    if messages is None:
        raise Malformed("messages", "a list of messages", document)
    record = document if isinstance(document, dict) else {}
    info = mapping(record.get("info"), "info")
    turns, dropped = read_turns(messages)
    if not any(turn.action for turn in turns):
        yield Dropped(provenance.line, "no action", f"exit status {info.get('exit_status')!r}")
        return
    environment = mapping(mapping(info.get("config"), "info.config").get("environment"), "environment")
    task = link(record.get("instance_id"), image=environment.get("image"))
    trajectory = Trajectory(
        id=own_id(task.task_id, provenance.file, provenance.line),
        issue=issue_in(text(next((m for m in messages if m["role"] == "user"), {}).get("content"), "issue")),
        turns=turns,
        provenance=provenance,
        task=task,
        outcome=Outcome(
            optional_bool(record.get("resolved", record.get("verified"))),
            optional_text(info.get("exit_status")),
            patch_in(info.get("submission") or record.get("patch")) or _shown_patch(turns[-1]),
        ),
        shell="fresh",
        dropped=dropped,
    )
    yield with_annex(trajectory, document)


def read_turns(messages: list[dict[str, Any]]) -> tuple[tuple[Turn, ...], dict[str, int]]:
    """(turns, what was dropped by reason) of the agent's messages in order."""
    prompts = messages[:_PROMPTS]
    fence = _V2_FENCE if any(_V2_FENCE in plain(message.get("content")) for message in prompts) else _V1_FENCE
    turns, begun = Turns(), False
    for message in messages:
        role, content = message["role"], message.get("content")
        said = content if isinstance(content, str) else text(content, "content")
        if role == "assistant":
            begun = True
            _hear(turns, message, said, fence, last=message is messages[-1])
        elif not begun:
            continue  # the prompts
        elif role == "exit":
            # The submitting command's output is the exit message; of an aborted run it is the exception.
            if mapping(message.get("extra"), "extra").get("exit_status") == "Submitted":
                turns.observe(said)
        else:
            answer = turns.refuse if not_run(said) else turns.observe
            answer(said, optional_text(message.get("tool_call_id")))
    return turns.close()


def not_run(answer: str) -> bool:
    """Whether the agent says that it did not run a call: one that stands after a submit, for one."""
    return answer.startswith(_NOT_RUN) or (answer.startswith("{") and _NOT_RUN_JSON in answer[-80:])


def _hear(turns: Turns, message: dict[str, Any], said: str, fence: str, last: bool) -> None:
    """One answer of the model. Version 2 says in `extra.actions` what was run; its calls say it again.

    mini-coder's records end with an XML submit in place of the fenced one, and nothing after it.
    """
    extra, tool_calls = message.get("extra"), message.get("tool_calls")
    actions = extra.get("actions") if isinstance(extra, dict) else None
    try:
        if actions:
            ran = [_ran(action) for action in mappings(actions, "extra.actions")]
            turns.act(_thought(said, [] if tool_calls else _blocks(said, fence)), ran)
        elif tool_calls:
            found = [action_of(call) for call in mappings(tool_calls, "tool_calls")]
            turns.act(_thought(said), [(id, _named(action)) for id, action in found])
        elif len(blocks := _blocks(said, fence)) == 1:
            turns.act(_thought(said, blocks), [(None, _bash(blocks[0][2]))])
        elif last and not blocks and (xml := XML_CALL.search(said)):
            turns.act(_thought(said[: xml.start()]), [(None, read_call(said)[0])])
        else:
            turns.drop(REJECTED)
    except (Malformed, FormatError):
        turns.drop(UNREADABLE)


def _blocks(said: str, fence: str) -> list[tuple[int, int, str]]:
    """(start, end, command) of each fenced block: what the agent's expression `_BLOCKS` finds.

    The plain case is sought by hand, because a lazy expression looks at each character of a long command.
    """
    blocks: list[tuple[int, int, str]] = []
    start = said.find(fence)
    while start >= 0:
        body = start + len(fence) + 1
        end = said.find("\n```", body) if said[body - 1 : body] == "\n" and not said[body : body + 1].isspace() else -1
        if end < 0:
            return blocks + [(*m.span(), m[1]) for m in _BLOCKS[fence].finditer(said, start)]
        blocks.append((start, end + 4, said[body:end]))
        start = said.find(fence, end + 4)
    return blocks


def _ran(action: dict[str, Any]) -> tuple[str | None, Action]:
    return optional_text(action.get("tool_call_id")), _bash(text(action.get("command"), "command"))


def _bash(command: str) -> Action:
    """A command as the agent runs it: without white space around it."""
    command = command.strip()
    return Action("submit") if command in SUBMIT_COMMANDS else Action("bash", {"command": command})


def _named(action: Action) -> Action:
    return _bash(action.arguments["command"]) if set(action.arguments) == {"command"} else action


def _thought(said: str, blocks: Sequence[tuple[int, int, str]] = ()) -> str:
    """What was said beside the fenced blocks."""
    for start, end, _ in reversed(blocks):
        said = said[:start] + said[end:]
    return said.strip().removeprefix("THOUGHT:").strip()


def _shown_patch(last: Turn) -> str | None:
    """A bare list of messages has no `info`: its submission is what the last command printed."""
    return patch_in(last.observation)


# ------------------------------------------------------------------------------------------- writing


def write(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory in the shape of version 2. Raises UnrenderableError for what only other agents can do.

    That is: a tool other than bash and submit, a turn without a call, a call without an answer that is not
    the last submit.
    """
    prompt = f"<pr_description>\nConsider the following PR description:\n{trajectory.issue}\n</pr_description>"
    messages: list[dict[str, Any]] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": prompt}]
    last = len(trajectory.turns) - 1
    for number, turn in enumerate(trajectory.turns):
        command, id = _command(turn, trajectory.id), f"call_{number}"
        messages.append(
            {
                "role": "assistant",
                "content": turn.thought,
                "tool_calls": [tool_call_of(Action("bash", {"command": command}), id)],
                "extra": {"actions": [{"command": command, "tool_call_id": id}]},
            }
        )
        submits = number == last and command in SUBMIT_COMMANDS
        if _thought(turn.thought) != turn.thought:
            raise UnrenderableError(f"{trajectory.id}: a thought begins as mini-swe-agent marks one: THOUGHT:")
        if turn.observation is None and not submits:
            raise UnrenderableError(f"{trajectory.id}: call {number + 1} has no answer")
        if turn.observation is not None:
            messages.append(
                {"role": "exit", "content": turn.observation, "extra": {"exit_status": "Submitted"}}
                if submits
                else {"role": "tool", "tool_call_id": id, "content": turn.observation}
            )
    return {
        "info": {
            "exit_status": trajectory.outcome.exit_status,
            "submission": trajectory.outcome.patch or "",
            "config": {"environment": {"image": trajectory.task.image}},
        },
        "messages": messages,
        "trajectory_format": "mini-swe-agent-1.1",
        "instance_id": trajectory.task.task_id,
        ANNEX: annex(trajectory, issue_in(prompt)),
    }


def _command(turn: Turn, id: str) -> str:
    action = turn.action
    if action == Action("submit"):
        return SUBMIT_COMMAND
    if action and action.tool == "bash" and set(action.arguments) == {"command"}:
        command = action.arguments["command"]
        if _bash(command) == action:
            return command
        raise UnrenderableError(f"{id}: mini-swe-agent would read {command[:60]!r} as another command")
    seen = "a turn without a call" if action is None else action.tool
    if action and action.tool in ("bash", "submit"):
        seen = f"a {seen} with {', '.join(action.arguments)}"
    raise UnrenderableError(f"{id}: mini-swe-agent can hold only bash and submit, not {seen}")
