"""OpenHands' runs as messages of text, each call written as XML: swe-play, and the Agent Data Protocol's for SFT.

    {"messages": [{"role", "content"}]}                    role: system, user, assistant
    {"system", "conversations": [{"from", "value"}]}       from: human, gpt, function_call, observation

A tool's answer is the next message of the other side, after "EXECUTION RESULT of [tool]:". The Agent Data Protocol
(ADP) writes other agents' runs in this form, too, and what it adds to them is taken away again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from typing import Any

from swe_srl.errors import FormatError
from swe_srl.formats import openhands
from swe_srl.formats.adp import MADE_UP, RUN, VERDICTS
from swe_srl.formats.chat import messages_of, plain, style_of
from swe_srl.formats.document import Dropped, Malformed, mappings, optional_bool, optional_text, own_id, text
from swe_srl.formats.task import issue_in, link, repository_of
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE, Turns
from swe_srl.formats.xml_messages import OPENHANDS_RESULT, calls_in, unwrap_observation
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory

name = "openhands-messages"

_MODEL = frozenset({"assistant", "gpt", "function_call"})
_ERROR = "[Error occurred in processing last action]"  # ends what OpenHands says to a call that it did not take
_PAGES = ("[Current URL: ", "[Image: ")  # a browser's answers, which ADP writes without a head

# A model without function calling is shown an example first.
_NEW_TASK = re.compile(r"-+ NEW TASK DESCRIPTION -+\n(.*?)\n-+ END OF NEW TASK DESCRIPTION -+", re.DOTALL)
# ADP tells in the first prompt which functions of another agent can be called inside OpenHands' tools.
_FUNCTIONS = re.compile(r"[^\n]*\bexecute_(?:bash|ipython_cell)\b[^\n]*\n\n((?:\w+\(.*\n(?: {4}.*\n)+\n)+)")
_FUNCTION = re.compile(r"^(\w+)\(", re.MULTILINE)
# With one of these, drawn by lot, ADP ends a run that has no `finish`; a verdict may come before it.
_FAREWELLS = frozenset(
    {
        "I have successfully completed the task.",
        "I did it! The task is now complete.",
        "The objective has been achieved with no outstanding issues.",
        "I have fulfilled all the requirements of the task.",
        "I've wrapped up the task successfully.",
    }
)

Message = tuple[str, str]  # who speaks, and what


def detect(document: object) -> bool:
    if isinstance(document, dict) and "conversations" in document:
        return plain(document.get("system")).startswith("You are OpenHands agent")
    spoken = messages_of(document) or []
    return any(plain(m.get("content")).startswith(OPENHANDS_RESULT) for m in spoken) and style_of(document) == "xml"


def read(document: Any, provenance: Provenance) -> Iterator[Trajectory | Dropped]:
    record = document if isinstance(document, dict) else {}
    messages, made_up = _without_made_up_ending(_messages(document))
    begin = next((number for number, (sender, _) in enumerate(messages) if sender in _MODEL), len(messages))
    prompt = next((content for sender, content in messages[:begin] if sender != "system"), "")
    functions, prompt = _unwrap(prompt)
    turns = Turns()
    for number, (sender, content) in enumerate(messages[begin:], begin):
        if sender in _MODEL:
            follows = messages[number + 1 : number + 2]
            answer = next((said for sender, said in follows if sender not in _MODEL), None)
            _hear(turns, content, answer, functions)
        elif messages[number - 1][0] not in _MODEL:
            turns.remark(content)
    if made_up:
        turns.drop(MADE_UP)
    kept, dropped = turns.close()
    if not any(turn.action for turn in kept):
        yield Dropped(provenance.line, "no action", f"{len(messages)} messages, no call with an answer")
        return
    named = optional_text(record.get("id"))
    yield Trajectory(
        id=own_id(named, provenance.file, provenance.line),
        issue=issue_in(prompt),
        turns=kept,
        provenance=provenance,
        task=_task(optional_text(record.get("instance_id")) or named),
        outcome=Outcome(optional_bool(record.get("resolved"))),
        dropped=dropped,
    )


# -------------------------------------------------------------------------------------------- turns


def _messages(document: object) -> list[Message]:
    if isinstance(document, dict) and "conversations" in document:
        keys, rows = ("from", "value"), mappings(document["conversations"], "conversations")
    else:
        keys, rows = ("role", "content"), messages_of(document) or []
    return [(text(row.get(keys[0]), keys[0]), text(row.get(keys[1]), keys[1])) for row in rows]


def _hear(turns: Turns, said: str, answer: str | None, functions: Set[str]) -> None:
    """An answer of the model, and the message after it.

    A run whose prompt declares functions is another agent's: that agent's words around an observation go, too.
    """
    try:
        thought, calls = calls_in(_closed(said))
        heard = [_heard(thought, call, functions) for call in calls]
    except (FormatError, Malformed):
        turns.drop(UNREADABLE)
        return
    result = None if answer is None else _result(answer)
    actions = [(None, action) for _, action in heard]
    if not actions:
        turns.talk(thought)
        if answer is not None:
            turns.remark(answer)
    elif result is not None and openhands.refused(result):
        turns.drop(REJECTED)
    elif result is not None or answer is None:
        turns.act(heard[0][0], actions)
        if result is not None:
            turns.observe(unwrap_observation(result) if functions else result)
    elif [action.tool for _, action in actions] == ["submit"]:
        turns.act(heard[0][0], actions)
        turns.observe(answer)  # it hands over to the user
    else:
        turns.drop(REJECTED if answer.endswith(_ERROR) else UNANSWERED)


def _closed(said: str) -> str:
    """OpenHands stops the model at the end of its call, and closes the call itself."""
    if said.count("<function=") == 1 and "</function>" not in said:
        return f"{said.removesuffix('</')}\n</function>"
    return said


def _heard(thought: str, call: Action, functions: Set[str]) -> tuple[str, Action]:
    """(thought, action): a call of another agent's function inside a command is that function's."""
    thought, action = openhands.heard(thought, call.tool, call.arguments)
    if action.tool == "bash":
        command = action.arguments["command"]
        function = command.partition("(")[0]
        if function in functions:
            return thought, Action(function, {} if command == f"{function}()" else {"command": command})
    return thought, action


def _result(answer: str) -> str | None:
    """What a tool gave back; None for the words of a user, or of OpenHands about a call that it did not take."""
    if answer.startswith(OPENHANDS_RESULT):
        head, mark, result = answer.partition("]:\n")
        return result if mark and "\n" not in head else None
    return answer if answer.startswith(_PAGES) else None


# ----------------------------------------------------------------------- what a conversion has added


def _without_made_up_ending(messages: list[Message]) -> tuple[list[Message], bool]:
    """(the messages of the run, whether an ending was made up)."""
    if not messages or "<function=finish>" not in messages[-1][1]:
        return messages, False
    try:
        said, (call, *_) = calls_in(messages[-1][1])
    except FormatError:
        return messages, False
    if (said.strip() or call.arguments.get("message", "").strip()) not in _FAREWELLS:
        return messages, False
    judged = len(messages) > 1 and (_result(messages[-2][1]) or messages[-2][1]).strip() in VERDICTS
    return messages[: -2 if judged else -1], True


def _unwrap(prompt: str) -> tuple[frozenset[str], str]:
    """(the functions that a prompt declares, the task in it)."""
    if declared := _FUNCTIONS.match(prompt):
        return frozenset(_FUNCTION.findall(declared[1])), prompt[declared.end() :]
    task = _NEW_TASK.search(prompt)
    return frozenset(), task[1] if task else prompt


def _task(named: str | None) -> TaskLink:
    run = RUN.fullmatch(named or "")
    instance = run[1] if run else named
    task = link(instance)
    return task if repository_of(task.task_id) else TaskLink()
