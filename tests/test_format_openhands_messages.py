"""OpenHands' runs as messages: swe-play, and what the Agent Data Protocol makes of other agents' runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from broken import bears

from swe_srl.formats import openai_chat, xml_messages
from swe_srl.formats import openhands_messages as format
from swe_srl.formats.adp import MADE_UP
from swe_srl.formats.document import Dropped
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.types import Action, Provenance, TaskLink, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")


def load(name: str) -> Any:
    return orjson.loads((LOGS / name).read_bytes())


def read(document: Any, by: Any = format) -> Trajectory | Dropped:
    assert by.detect(document)
    (item,) = by.read(document, Provenance("run.json", 1, by.name))
    assert isinstance(item, Trajectory | Dropped)
    return item


def read_one(document: Any, by: Any = format) -> Trajectory:
    item = read(document, by)
    assert isinstance(item, Trajectory), item
    return item


def call(name: str, **values: str) -> str:
    return "\n".join([f"<function={name}>", *(f"<parameter={k}>\n{v}\n</parameter>" for k, v in values.items()), END])


END = "</function>"
LS = call("execute_bash", command="ls")
LOOKED = Turn("look", Action("bash", {"command": "ls"}), "x.py")


def result(tool: str, content: str) -> str:
    return f"EXECUTION RESULT of [{tool}]:\n{content}"


def play(*said: str, prompt: str = "Mend it.") -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"id": "p", "messages": [{"role": roles[i % 2], "content": c} for i, c in enumerate((prompt, *said))]}


def adp(*said: str, prompt: str = "Mend it.") -> dict[str, Any]:
    senders = ("human", "gpt")
    conversations = [{"from": senders[i % 2], "value": c} for i, c in enumerate((prompt, *said))]
    return {"id": "a__b-1_0", "system": "You are OpenHands agent, …", "conversations": conversations}


# --------------------------------------------------------------------------------------------- real files


@needs_logs
def test_swe_play() -> None:
    runs = [read_one(record) for record in load("openhands_messages/swe-play_sample_raw.json")]
    assert [len(run.acted) for run in runs] == [21, 22, 32, 21, 31]
    assert not any(run.dropped for run in runs)
    assert all(run.issue.startswith("You are now given a project directory") for run in runs)
    assert runs[0].turns[-1].action == Action("submit")  # the model stopped before the call's end
    assert runs[4].turns[-1].action is None  # "<finish>…</finish>" is no call


@needs_logs
def test_swe_gyms_runs_are_the_same_in_both_forms() -> None:
    converted = load("adp/swe-gym_sample_sft_openhands.json")
    for theirs, raw in zip(converted, load("swe_gym_openhands/sample_raw.json"), strict=True):
        run, original = read_one(theirs), read_one(raw, openai_chat)
        assert run.task == original.task
        assert run.issue == original.issue
        assert [turn.action for turn in run.turns] == [turn.action for turn in original.turns]
        assert [turn.observation for turn in run.acted] == [turn.observation for turn in original.acted]
        ended = original.turns[-1].action == Action("submit")
        assert run.dropped == ({} if ended else {MADE_UP: 1, UNANSWERED: 1})


@needs_logs
def test_swe_smiths_runs_are_the_same_but_for_white_space() -> None:
    """The conversion strips a call's values. Its `submit()` in a shell is the submit, its ending is made up."""
    converted = load("adp/swe-smith_sample_sft_openhands.json")
    for theirs, raw in zip(converted, load("swe_smith_xml/adp_swe-smith_sample_raw.json"), strict=True):
        run, original = read_one(theirs), read_one(raw, xml_messages)
        assert run.id == f"{original.id}_{run.id[-1]}"
        assert run.task == original.task
        assert run.issue == original.issue
        assert list(map(_stripped, run.turns)) == list(map(_stripped, original.turns))
        assert run.dropped == {MADE_UP: 1}


def _stripped(turn: Turn) -> tuple[str, str, dict[str, str], str | None]:
    assert turn.action is not None
    values = {key: value.strip() for key, value in turn.action.arguments.items()}
    return turn.thought, turn.action.tool, values, turn.observation and turn.observation.strip()


@needs_logs
def test_feedback_exports_as_adp_writes_them() -> None:
    runs = [read_one(record) for record in load("adp/openhands_sample_sft_openhands.json")]
    assert [(len(run.turns), len(run.acted)) for run in runs] == [(10, 10), (14, 14), (18, 16), (6, 6), (29, 29)]
    ended = {MADE_UP: 1}
    assert [run.dropped for run in runs] == [
        *({**ended, UNANSWERED: 1}, ended, ended, {**ended, UNANSWERED: 1}, {**ended, UNANSWERED: 1})
    ]
    assert runs[3].issue == "Please write a script that counts the number of mondays in each of the past four years."
    assert all(run.task == TaskLink() for run in runs)  # "140" is no instance


# ------------------------------------------------------------------------------------------------- quirks


def test_answers_of_tools_and_of_others() -> None:
    run = read_one(
        play(
            *(f"look\n\n{LS}", result("execute_bash", "x.py"), "So?", "Go on."),
            *(
                call("think"),
                "Missing required parameters for function 'think'\n[Error occurred in processing last action]",
            ),
            *(LS, "Stop!"),
            *(LS, result("execute_bash", "ERROR: Cannot execute multiple commands at once.\n…")),
            *("<function=execute_bash>\n<parameter=command>ls", "that is no call"),
            *(call("execute_bash", command="y", is_input="true"), result("execute_bash", "")),
            *(call("finish", message="Done."), "Are you sure?"),
            "<function=finish>\n<parameter=message>Yes.</parameter>\n</",
        )
    )
    assert run.turns == (
        LOOKED,
        Turn("So?", None, "Go on."),
        Turn("", Action("execute_bash", {"command": "y", "is_input": "true"}), ""),
        Turn("Done.", Action("submit"), "Are you sure?"),
        Turn("Yes.", Action("submit"), None),
    )
    assert run.dropped == {REJECTED: 2, UNANSWERED: 1, UNREADABLE: 1}
    assert run.issue == "Mend it."


FUNCTIONS = (
    "In execute_bash, you can use the following pre-defined functions: \n\nsubmit()\n    End it.\n    \n    Now.\n\n"
)


def test_functions_that_the_prompt_declares() -> None:
    prompt = f"{FUNCTIONS}open(path: str)\n    Open it.\n\nMend it: f()\n    x\n"
    run = read_one(
        adp(
            *(call("execute_bash", command="open(path=x)"), result("execute_bash", "OBSERVATION:\nx")),
            *(call("execute_bash", command="f()"), result("execute_bash", "OBSERVATION:\n")),
            *(call("browser", code="click()"), "[Current URL: u]"),
            *(call("execute_bash", command="submit()"), result("execute_bash", "Task completed successfully.")),
            call("finish", message="I did it! The task is now complete.", task_completed="true"),
            prompt=prompt,
        )
    )
    assert run.issue == "Mend it: f()\n    x"
    assert run.turns == (
        Turn("", Action("open", {"command": "open(path=x)"}), "x"),
        Turn("", Action("bash", {"command": "f()"}), ""),
        Turn("", Action("browser", {"code": "click()"}), "[Current URL: u]"),
        Turn("", Action("submit"), None),
    )
    assert run.dropped == {MADE_UP: 1}
    assert run.task == TaskLink("a__b-1", "a/b")


def test_a_finish_of_the_models_own_stays() -> None:
    run = read_one(adp(f"look{LS}", result("execute_bash", "x.py"), call("finish", message="Task completed.")))
    assert run.turns == (LOOKED, Turn("Task completed.", Action("submit"), None))
    assert run.dropped == {}


def test_the_senders_names_of_newer_conversions() -> None:
    document = adp(f"look{LS}", result("execute_bash", "x.py"))
    for message, sender in zip(document["conversations"], ("human", "function_call", "observation"), strict=True):
        message["from"] = sender
    assert read_one(document).turns == (LOOKED,)


def test_a_log_without_a_call() -> None:
    assert read(adp("No.")) == Dropped(1, "no action", "2 messages, no call with an answer")


def test_only_malformed_is_raised() -> None:
    said = (f"look\n{LS}", result("execute_bash", "x"), call("finish", message="I did it! The task is now complete."))
    assert bears(format, play(*said)) > 10
    assert bears(format, adp(*said, prompt=f"{FUNCTIONS}Mend it.")) > 100


@pytest.mark.parametrize(
    "junk",
    [
        *(None, 1, "x", [], {}, {"messages": []}, {"conversations": []}, {"conversations": [], "system": "You are …"}),
        {"messages": [{"role": "assistant", "content": LS}, {"role": "user", "content": "OBSERVATION:\nx"}]},
    ],
)
def test_what_is_none(junk: Any) -> None:
    assert not format.detect(junk)
