"""The conformance suite of the Format seam, and the quirks of each format."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_srl.containers import documents
from swe_srl.errors import UnrenderableError
from swe_srl.formats import (
    FORMATS,
    MALFORMED,
    NO_FORMAT,
    WRITERS,
    Dropped,
    calls,
    detect,
    is_part,
    openhands_messages,
    read_document,
)
from swe_srl.formats import mini_swe_agent as mini
from swe_srl.formats.task import issue_in, link, patch_in, repository_of
from swe_srl.formats.turns import REJECTED, UNANSWERED, UNREADABLE
from swe_srl.logs import contents, files_under, logs
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory, Turn

LOGS = Path(__file__).parents[2] / "shared" / "data" / "trajectories"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the collected logs are not at {LOGS}")

# Which formats the logs of each folder have.
FOLDERS = {
    "adp": {"adp", "openhands-messages"},
    "agenttuning_os": set[str](),
    "atif": {"atif"},
    "claude_code_sessions": {"claude-code"},
    "codex_sessions": {"codex"},
    "llm_request_log": set[str](),
    "mini_swe_agent_v1": {"mini-swe-agent"},
    "mini_swe_agent_v2": {"mini-swe-agent"},
    "moatless": set[str](),
    "nebius_swe_agent": {"nebius"},
    "nemo_gym_rollouts": {"responses"},
    "openai_chat": {"mini-swe-agent"},  # mini-coder's records are fenced bash, in spite of their folder
    "openhands": {"openhands"},
    "openhands_messages": {"openhands-messages"},
    "openhands_sdk_events": {"openhands-sdk"},
    "swe_gym_openhands": {"openai-chat"},
    "swe_smith_xml": {"xml-messages"},
    "sweagent_demos": {"swe-agent"},
    "sweagent_new": {"swe-agent"},
    "sweagent_old": {"swe-agent"},
    "trae": set[str](),
}


# Logs that do not hold the issue at all: a converter dropped it, or only the record's name is there.
WITHOUT_ISSUE = (
    "atif/derived_sweagent__",
    "nemo_gym_rollouts/deep_swe__",
    "openhands_sdk_events/goal_fixture_events",
)


def load(name: str) -> Any:
    """The first document of a collected file, or its list of records."""
    found = [document for _, document in documents(LOGS / name)]
    return found[0] if len(found) == 1 else found


def records(document: Any) -> list[Any]:
    """A document and, if it is a list, what is in it: all that a format may be asked about."""
    return [document, *document] if isinstance(document, list) else [document]


def real_run(name: str) -> Trajectory:
    return read_one(load(name), name)


def read(document: Any, file: str = "run.json") -> list[Trajectory | Dropped]:
    return [item for _, _, item in read_document(document, file, 1)]


def read_one(document: Any, file: str = "run.json") -> Trajectory:
    (item,) = read(document, file)
    assert isinstance(item, Trajectory), item
    return item


@cache
def real() -> tuple[Trajectory, ...]:
    """Every trajectory of the collected files."""
    found = (item for log in logs(files_under([LOGS])) for _, _, item in contents(log))
    return tuple(item for item in found if isinstance(item, Trajectory))


# -------------------------------------------------------------------------------- every format, real files


@needs_logs
def test_each_real_document_is_claimed_by_one_format_or_none() -> None:
    claimed: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
    for log in logs(files_under([LOGS])):
        read = [document for _, document in log.documents]
        for document in [read] if is_part(read[0]) else read:
            for record in records(document):
                names = [format.name for format in FORMATS if format.detect(record)]
                assert len(names) <= 1, (log.path, names)
                claimed[Path(log.path).relative_to(LOGS).parts[0]].update(names)
    assert claimed == FOLDERS


@needs_logs
def test_reading_twice_gives_the_same() -> None:
    first = real()
    real.cache_clear()
    assert real() == first


@needs_logs
def test_every_trajectory_is_whole() -> None:
    for trajectory in real():
        where = trajectory.provenance
        assert trajectory.id, where
        assert trajectory.issue == trajectory.issue.strip(), where
        assert trajectory.issue or where.file.removeprefix(f"{LOGS}/").startswith(WITHOUT_ISSUE), where
        assert trajectory.acted, where
        for number, turn in enumerate(trajectory.turns, 1):
            last = number == len(trajectory.turns)
            assert turn.thought == turn.thought.strip(), where
            if turn.action:
                answered = turn.observation is not None
                assert answered or (last and turn.action.tool == "submit"), (where, number)
                assert all(isinstance(value, str) for value in turn.action.arguments.values()), where


@needs_logs
@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_reads_back(name: str) -> None:
    written = 0
    for trajectory in real():
        try:
            document = orjson.loads(orjson.dumps(WRITERS[name](trajectory)))
        except UnrenderableError:
            # Editors and talk, which mini-swe-agent has not; XML's own markup inside a value.
            assert name in ("mini-swe-agent", "xml-messages"), trajectory.provenance
            continue
        again = read_one(document, trajectory.provenance.file)
        assert again.provenance.format in (name, trajectory.provenance.format)
        assert replace(again, provenance=trajectory.provenance) == trajectory
        written += 1
    # mini-swe-agent can hold no other agent's editor.
    assert written == {"swe-srl": 141, "mini-swe-agent": 40, "xml-messages": 141, "openai-chat": 141, "atif": 141}[name]


# ------------------------------------------------------------------------------- pairing, told independently


@needs_logs
def test_openai_calls_get_the_answer_with_their_id() -> None:
    for record in load("swe_gym_openhands/sample_raw.json"):
        answers = {
            m["tool_call_id"]: m["content"].removeprefix("OBSERVATION:\n")
            for m in record["messages"]
            if m["role"] == "tool"
        }
        calls = [call for m in record["messages"] for call in m["tool_calls"] or []]
        expected = [(call["function"]["name"], answers[call["id"]]) for call in calls if call["id"] in answers]
        theirs = {"bash": "execute_bash", "submit": "finish"}
        seen = [
            (theirs.get(turn.action.tool, turn.action.tool), turn.observation)
            for turn in read_one(record).turns
            if turn.action and turn.observation is not None
        ]
        canned = "\n\nPlease continue working on the task"  # a user's remark follows a tool's answer once
        assert [tool for tool, _ in seen] == [tool for tool, _ in expected]
        for (_, got), (_, want) in zip(seen, expected, strict=True):
            assert got is not None
            assert got == want or got.startswith(want + canned)


@needs_logs
@pytest.mark.parametrize("folder", ["mini_swe_agent_v1", "mini_swe_agent_v2"])
def test_a_mini_observation_follows_its_command(folder: str) -> None:
    rejection = "Please always provide EXACTLY ONE action"
    for path in sorted((LOGS / folder).glob("*__*")):
        messages = load(f"{folder}/{path.name}")["messages"]
        executed = [
            (message.get("extra", {}).get("actions") or message["content"], answer["content"])
            for message, answer in itertools.pairwise(messages)
            if message["role"] == "assistant" and not answer["content"].startswith(rejection)
        ]
        turns = read_one(load(f"{folder}/{path.name}")).turns
        for turn, (said, shown) in zip(turns, executed, strict=True):
            assert turn.action is not None
            assert _holds(said, turn.action.arguments.get("command", "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"))
            assert turn.observation == shown


def _holds(said: Any, command: str) -> bool:
    return command in said if isinstance(said, str) else any(command in action["command"] for action in said)


@needs_logs
def test_swe_agent_rows_answer_their_own_calls() -> None:
    for path in sorted(LOGS.glob("sweagent_*/*.traj")):
        document = load(str(path.relative_to(LOGS)))
        if rows := document.get("trajectory"):
            turns = read_one(document).turns
            assert [turn.observation for turn in turns] == [row["observation"] for row in rows]
            assert [turn.thought for turn in turns] == [row["thought"].strip() for row in rows]


@needs_logs
def test_the_same_run_in_two_formats_is_the_same_run() -> None:
    xml = read_one(load("swe_smith_xml/ft_xml_example.jsonl")[0])
    traj = read_one(load("sweagent_new/pandas-dev__pandas.95280573.pr_53652.traj"))
    assert xml.task.task_id == traj.task.task_id == "pandas-dev__pandas.95280573.pr_53652"
    assert xml.issue == traj.issue
    assert [turn.action for turn in xml.turns] == [turn.action for turn in traj.turns]
    assert [turn.thought for turn in xml.turns] == [turn.thought for turn in traj.turns]
    # The messages end with the submit; the rows have its answer, which is the patch. And SWE-agent strips an
    # observation before it shows it to the model, which the row does not.
    assert [turn.observation for turn in xml.turns][-1] is None
    shown = [(turn.observation or "").strip() for turn in xml.turns[:-1]]
    assert shown == [(turn.observation or "").strip() for turn in traj.turns[:-1]]


# --------------------------------------------------------------------------------------------- any trajectory

words = st.text(max_size=40)
stripped = words.map(str.strip)
names = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True)
# What a bash call may hold in every target: mini-swe-agent strips a command and knows its submit.
commands = stripped.filter(lambda c: c not in mini.SUBMIT_COMMANDS and "<function=" not in c)
bash_calls = commands.map(lambda command: Action("bash", {"command": command}))
plain_calls = st.one_of(bash_calls, st.builds(Action, names, st.dictionaries(names, words, max_size=3)))
tasks = st.builds(TaskLink, *[st.none() | words] * 4)
outcomes = st.builds(Outcome, st.none() | st.booleans(), st.none() | words, st.none() | words)


def trajectories(calls: st.SearchStrategy[Action], talk: bool) -> st.SearchStrategy[Trajectory]:
    acting = st.builds(Turn, stripped, calls, words)
    talking = st.builds(Turn, stripped, st.none(), st.none() | words)
    turns = st.one_of(acting, talking) if talk else acting
    return st.builds(
        Trajectory,
        id=words.filter(bool),
        issue=words,
        turns=st.tuples(
            acting, st.lists(turns, max_size=4), st.sampled_from([(), (Turn("", Action("submit"), None),)])
        ).map(lambda parts: (parts[0], *parts[1], *parts[2])),
        provenance=st.builds(Provenance, words, st.integers(1, 9), names),
        task=tasks,
        outcome=outcomes,
        shell=st.sampled_from(["fresh", "persistent"]),
        dropped=st.dictionaries(words, st.integers(1, 9), max_size=2),
    )


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_trajectory_that_can_be_written_reads_back(name: str, data: st.DataObject) -> None:
    bash_only = name == "mini-swe-agent"
    trajectory = data.draw(trajectories(bash_calls if bash_only else plain_calls, talk=not bash_only))
    try:
        document = WRITERS[name](trajectory)
    except UnrenderableError:
        return
    format = next(format for format in FORMATS if format.name == name)
    (again,) = format.read(orjson.loads(orjson.dumps(document)), trajectory.provenance)
    assert again == trajectory


def test_mini_swe_agent_refuses_what_it_cannot_hold() -> None:
    provenance = Provenance("f", 1, "x")
    for action in (Action("str_replace_editor", {"command": "view"}), None, Action("bash", {"command": " ls"})):
        with pytest.raises(UnrenderableError, match="mini-swe-agent"):
            mini.write(Trajectory("t", "issue", (Turn("", action, ""),), provenance))
    with pytest.raises(UnrenderableError, match="no answer"):
        mini.write(Trajectory("t", "issue", (Turn("", Action("bash", {"command": "ls"}), None),), provenance))


# -------------------------------------------------------------------------------------------- mini-swe-agent

TASK = "<pr_description>\nConsider the following PR description:\nIt is broken.\n\n</pr_description>\nSome rules."


def v1(*said: str, **more: Any) -> dict[str, Any]:
    """A version 1 log whose assistant and user messages alternate."""
    roles = ("assistant", "user")
    talk = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    prompts = [{"role": "system", "content": "s"}, {"role": "user", "content": TASK}]
    return {"trajectory_format": "mini-swe-agent-1", "messages": prompts + talk, **more}


def test_mini_v1_takes_exactly_one_fenced_block() -> None:
    trajectory = read_one(
        v1(
            *("THOUGHT: look\n\n```bash\nls\n```", "<returncode>0</returncode>"),
            *("no block at all", "EXACTLY ONE action, found 0"),
            *("```bash\na\n```\n```bash\nb\n```", "EXACTLY ONE action, found 2"),
            *("```python\nx\n```\n```bash\ncat <<EOF\n```python\nEOF\n```", "<returncode>0</returncode>"),
            *(f"Done.\n```bash\n{mini.SUBMIT_COMMAND}\n```", "diff --git a/x b/x\n"),
            info={"exit_status": "Submitted", "submission": "diff --git a/x b/x\n"},
            instance_id="django__django-11099",
        )
    )
    assert trajectory.issue == "It is broken."
    assert [turn.action for turn in trajectory.turns] == [
        Action("bash", {"command": "ls"}),
        Action("bash", {"command": "cat <<EOF"}),  # what the agent ran: its block ends at the next fence
        Action("submit"),
    ]
    assert trajectory.turns[0].thought == "look"
    assert trajectory.turns[2].observation == "diff --git a/x b/x\n"
    assert trajectory.dropped == {REJECTED: 2}
    assert trajectory.shell == "fresh"
    assert trajectory.task == TaskLink("django__django-11099", "django/django")
    assert trajectory.outcome == Outcome(None, "Submitted", "diff --git a/x b/x\n")


def test_a_chat_with_a_fenced_block_is_no_run() -> None:
    said = [("user", "How do I list files?"), ("assistant", "So:\n```bash\nls\n```"), ("user", "Thanks!")]
    chat = [{"role": role, "content": content} for role, content in said]
    assert detect(chat) is detect({"messages": chat}) is None
    chat[2]["content"] = "<returncode>0</returncode>\n<output>\n</output>"
    assert detect(chat) is detect({"messages": chat}) is mini


def test_mini_v1_cut_off_after_a_command() -> None:
    assert read(v1("```bash\nls\n```")) == [Dropped(1, "no action", "exit status None")]
    trajectory = read_one(v1("```bash\nls\n```", "x", "```bash\nrm -r build\n```"))
    assert len(trajectory.turns) == 1
    assert trajectory.dropped == {UNANSWERED: 1}


def test_mini_v2_aborted_runs() -> None:
    """The exit message of an aborted run is its exception, not what the last command printed."""
    call = {"role": "assistant", "content": "", "extra": {"actions": [{"command": "ls", "tool_call_id": "a"}]}}
    exit = {"role": "exit", "content": "boom", "extra": {"exit_status": "InternalServerError"}}
    document: dict[str, Any] = {"trajectory_format": "mini-swe-agent-1.1", "info": {"exit_status": "Timeout"}}
    assert read({**document, "messages": [{"role": "user", "content": TASK}, exit]})[0] == Dropped(
        1, "no action", "exit status 'Timeout'"
    )
    answer = {"role": "tool", "content": "x", "tool_call_id": "a"}
    trajectory = read_one({**document, "messages": [{"role": "user", "content": TASK}, call, answer, call, exit]})
    assert [turn.observation for turn in trajectory.turns] == ["x"]
    assert trajectory.dropped == {UNANSWERED: 1}


# ---------------------------------------------------------------------------------------------- SWE-agent


@needs_logs
def test_a_demonstration_is_never_the_issue() -> None:
    trajectory = read_one(load("sweagent_old/pydicom__pydicom-1458.traj"), "pydicom__pydicom-1458.traj")
    assert trajectory.issue.startswith("Pixel Representation attribute should be optional")
    assert "DEMONSTRATION" not in trajectory.issue
    assert "INSTRUCTIONS" not in trajectory.issue
    assert trajectory.task.repository == "pydicom/pydicom"


@needs_logs
def test_old_commands_keep_their_names() -> None:
    turns = read_one(load("sweagent_old/pydicom__pydicom-1458.traj")).turns
    assert turns[0].action == Action("create", {"command": "create reproduce_bug.py"})
    assert turns[2].action == Action("bash", {"command": "python reproduce_bug.py"})
    assert turns[-1].action == Action("submit")
    edit = turns[1].action
    assert edit is not None
    assert edit.tool == "edit"
    assert edit.arguments["command"].endswith("end_of_edit")


@needs_logs
def test_new_calls_come_from_the_history() -> None:
    trajectory = read_one(load("sweagent_new/pandas-dev__pandas.95280573.pr_53652.traj"))
    assert trajectory.turns[1].action == Action(
        "str_replace_editor",
        {"command": "view", "path": "/testbed/pandas/core/indexes/base.py", "view_range": "[6035, 6050]"},
    )
    assert trajectory.task == TaskLink(
        "pandas-dev__pandas.95280573.pr_53652",
        "pandas-dev/pandas",
        "pandas-dev__pandas.95280573.pr_53652",
        "swesmith.x86_64.pandas-dev__pandas.95280573",
    )
    submits = [k for k, turn in enumerate(trajectory.turns, 1) if turn.action == Action("submit")]
    assert submits == [35, 37]  # the first is answered by a request to review


@needs_logs
def test_a_history_alone_is_enough() -> None:
    trajectory = read_one(load("sweagent_demos/function_calling_simple.traj"), "function_calling_simple.traj")
    tools = [turn.action.tool for turn in trajectory.turns if turn.action]
    assert tools == ["find_file", "open", "edit", "bash", "submit"]
    assert trajectory.turns[0].observation is not None
    assert trajectory.turns[0].observation.startswith("Found 1 matches")


def test_a_run_that_the_agent_ended() -> None:
    rows = [
        {"action": "ls\n", "observation": "x.py", "thought": "look\n\n", "state": "{}\n"},
        {"action": "exit_cost", "observation": "Exit due to cost limit", "thought": "Exit due to cost limit"},
    ]
    history = [{"role": "system", "content": "s"}, {"role": "user", "content": "Mend it."}]
    trajectory = read_one({"trajectory": rows, "history": history, "info": {"exit_status": "exit_cost"}})
    assert trajectory.turns == (Turn("look", Action("bash", {"command": "ls"}), "x.py"),)
    assert trajectory.dropped == {REJECTED: 1}


# ------------------------------------------------------------------------------------------- messages

CALL = "<function=bash>\n<parameter=command>ls</parameter>\n</function>"


def xml(*said: tuple[str, str], **more: Any) -> dict[str, Any]:
    prompts = [{"role": "user", "content": TASK}]
    return {"messages": prompts + [{"role": role, "content": content} for role, content in said], **more}


def test_xml_observations_lose_the_agents_words() -> None:
    trajectory = read_one(
        xml(
            *(("assistant", f"a\n\n{CALL}"), ("user", "OBSERVATION:\nx\r\ny")),
            *(("assistant", CALL), ("user", "Your command ran successfully and did not produce any output.")),
            *(("assistant", CALL), ("user", "Observation: x<response clipped>")),
            *(("assistant", "I am done, I think."), ("user", "Go on.")),
            ("assistant", "\n\n<function=submit>\n</function>"),
        )
    )
    ls = Action("bash", {"command": "ls"})
    assert trajectory.turns == (
        Turn("a", ls, "x\r\ny"),
        Turn("", ls, ""),
        Turn("", ls, "x<response clipped>"),
        Turn("I am done, I think.", None, "Go on."),
        Turn("", Action("submit"), None),
    )


def test_xml_calls_that_cannot_be_read_and_several_in_one() -> None:
    trajectory = read_one(
        xml(
            *(("assistant", "<function=bash>\n<parameter=command>ls"), ("user", "that is no call")),
            *(("assistant", f"two\n{CALL}\n{CALL}"), ("user", "OBSERVATION:\n1"), ("user", "OBSERVATION:\n2")),
        )
    )
    assert [(turn.thought, turn.observation) for turn in trajectory.turns] == [("two", "1"), ("", "2")]
    assert trajectory.dropped == {UNREADABLE: 1}


def test_openhands_text_messages_are_another_format() -> None:
    document = xml(("assistant", CALL), ("user", "EXECUTION RESULT of [execute_bash]:\nx"))
    assert detect(document) is openhands_messages


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"command": "ls", "is_input": "false", "security_risk": "LOW", "timeout": 5},
            Action("bash", {"command": "ls"}),
        ),
        ({"command": "y", "is_input": "true"}, Action("execute_bash", {"command": "y", "is_input": "true"})),
        ({"command": "ls", "cwd": "/x"}, Action("execute_bash", {"command": "ls", "cwd": "/x"})),
        ({"command": "ls", "reset": False, "cwd": None}, Action("bash", {"command": "ls"})),
    ],
)
def test_a_call_is_ours_only_if_nothing_changes_what_runs(arguments: dict[str, Any], expected: Action) -> None:
    assert calls.action("execute_bash", arguments) == expected


def tool_calls(*names: str) -> dict[str, Any]:
    calls = [{"id": f"c{i}", "function": {"name": n, "arguments": '{"path": [1, 50]}'}} for i, n in enumerate(names)]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def test_several_calls_become_several_turns() -> None:
    """Answers may come in another order, and ids may begin anew in each answer of the model."""

    def answer(id: str, content: str) -> dict[str, str]:
        return {"role": "tool", "tool_call_id": id, "content": content}

    messages = [
        {"role": "user", "content": "Mend it."},
        {**tool_calls("str_replace_based_edit_tool", "look"), "content": "both"},
        *(answer("c1", "second"), answer("c0", "first")),
        *(tool_calls("str_replace_based_edit_tool"), answer("c0", [{"type": "text", "text": "third"}])),  # type: ignore[arg-type]
        tool_calls("finish"),
    ]
    trajectory = read_one({"messages": messages, "instance_id": "getmoto__moto-6387_0"})
    assert trajectory.turns == (
        Turn("both", Action("str_replace_editor", {"path": "[1, 50]"}), "first"),
        Turn("", Action("look", {"path": "[1, 50]"}), "second"),
        Turn("", Action("str_replace_editor", {"path": "[1, 50]"}), "third"),
        Turn("", Action("submit"), None),
    )
    assert trajectory.task == TaskLink("getmoto__moto-6387", "getmoto/moto")


def test_mini_v2_calls_after_a_submit_did_not_run() -> None:
    commands = {"a": "ls", "b": mini.SUBMIT_COMMAND, "c": "git status"}
    said = {
        "a": "x.py",
        "b": "<exception>action was not executed</exception>",
        "c": '{"exception_info": "action was not executed"}',
    }
    calls = [
        {"id": id, "function": {"name": "bash", "arguments": orjson.dumps({"command": command}).decode()}}
        for id, command in commands.items()
    ]
    answers = [{"role": "tool", "tool_call_id": id, "content": content} for id, content in said.items()]
    messages = [{"role": "user", "content": "Mend it."}, {"role": "assistant", "tool_calls": calls}, *answers]
    trajectory = read_one({"messages": messages, "info": {}, "trajectory_format": "mini-swe-agent-1.1"})
    assert trajectory.turns == (Turn("", Action("bash", {"command": "ls"}), "x.py"), Turn("", Action("submit"), None))
    assert trajectory.dropped == {REJECTED: 1}


def test_what_openhands_did_not_execute_is_no_step_in_a_chat_either() -> None:
    refusal = "ERROR: Cannot execute multiple commands at once.\nPlease run each command separately"
    calls = [
        {"id": f"c{n}", "function": {"name": "execute_bash", "arguments": orjson.dumps({"command": f"{n}"}).decode()}}
        for n in range(3)
    ]
    answers = [{"role": "tool", "tool_call_id": f"c{n}", "content": c} for n, c in enumerate(("a", refusal, "b"))]
    messages = [{"role": "user", "content": "Mend it."}, {"role": "assistant", "tool_calls": calls}, *answers]
    record = {"messages": messages, "instance_id": "a__b-1", "patch": "diff --git a/gold b/gold\n", "test_patch": ""}
    trajectory = read_one(record)
    assert [(turn.action, turn.observation) for turn in trajectory.turns] == [
        (Action("bash", {"command": "0"}), "a"),
        (Action("bash", {"command": "2"}), "b"),
    ]
    assert trajectory.dropped == {REJECTED: 1}
    assert trajectory.outcome.patch is None  # the benchmark's solution is not the run's


@needs_logs
def test_the_patch_of_another_instance_is_never_taken() -> None:
    for record in load("swe_smith_xml/adp_swe-smith_sample_raw.json"):
        trajectory = read_one(record)
        assert trajectory.outcome == Outcome(resolved=True)
        assert trajectory.id == record["traj_id"]


# ---------------------------------------------------------------------------------------------- task facts


@pytest.mark.parametrize(
    ("instance", "repository"),
    [
        ("django__django-11099", "django/django"),
        ("scikit-learn__scikit-learn-10908", "scikit-learn/scikit-learn"),
        ("pandas-dev__pandas.95280573.pr_53652", "pandas-dev/pandas"),
        ("arrow-py__arrow.1d70d009.lm_rewrite__nuzjfyur", "arrow-py/arrow"),
        ("swe-agent__test-repo-i1", "swe-agent/test-repo"),
        ("ctf_misc_networking_1", None),
        ("human_thought__humanevalfix-python-0", None),  # no owner has an underscore in its name
        ("main", None),
        (None, None),
    ],
)
def test_the_repository_is_in_the_instance_id(instance: str | None, repository: str | None) -> None:
    assert repository_of(instance) == repository


def test_small_facts() -> None:
    assert link("a__b-7_3").task_id == "a__b-7"
    assert link(["no", "text"]) == TaskLink()
    assert issue_in("  only words \n") == "only words"
    assert patch_in("\r\ndiff --git a/x b/x\r\n+1\r\n") == "diff --git a/x b/x\n+1\n"
    assert patch_in("diff --git a/x b/x\n+1\r\n") == "diff --git a/x b/x\n+1\r\n"
    assert patch_in("flag{x}") is patch_in("") is patch_in(None) is None


# -------------------------------------------------------------------------------------------- robustness

JUNK: tuple[Any, ...] = (
    None,
    7,
    -1.5,
    "",
    "x",
    "```bash\nls\n```",
    "<function=",
    True,
    [],
    [None],
    {},
    {"a": [1]},
)


def mutate(document: Any, rng: random.Random) -> Any:
    """The document with junk in one random place, or with one thing taken away."""
    document = orjson.loads(orjson.dumps(document))
    node = document
    parents: list[tuple[Any, Any]] = []
    while isinstance(node, (dict, list)) and node and (not parents or rng.random() < 0.8):
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        parents.append((node, key))
        node = node[key]
    parent, key = parents[-1]
    if rng.random() < 0.3:
        del parent[key]
    else:
        parent[key] = rng.choice(JUNK)
    return document


@needs_logs
def test_mutants_never_crash_and_are_accounted_for() -> None:
    rng = random.Random(0)
    seeds = [
        *(load("sweagent_demos/function_calling_simple.traj"), load("sweagent_demos/ctf_misc_networking_1.traj")),
        *(load("mini_swe_agent_v2/local.traj.json"), load("openai_chat/mini-coder_sample_raw.json")[0]),
        *(load("swe_smith_xml/ft_xml_example.jsonl")[2], load("swe_gym_openhands/sample_raw.json")[1]),
        *(load("mini_swe_agent_v1/gemini3pro__django__django-11163.traj.json"),),
        *(write(real_run("mini_swe_agent_v2/local.traj.json")) for write in WRITERS.values()),
    ]
    outcomes: Counter[str] = Counter()
    for _ in range(60):
        for seed in seeds:
            mutant = seed
            for _ in range(rng.randint(1, 4)):
                mutant = mutate(mutant, rng) if mutant else mutant
            items = read(mutant)
            assert items
            for item in items:
                outcomes[item.reason if isinstance(item, Dropped) else "read"] += 1
                if isinstance(item, Trajectory):
                    orjson.dumps(WRITERS["swe-srl"](item))
    assert set(outcomes) <= {"read", NO_FORMAT, MALFORMED, "no action"}
    assert min(outcomes[name] for name in ("read", NO_FORMAT, MALFORMED)) > 10  # the mutants are of all kinds


@pytest.mark.parametrize(
    "document", [None, 1, "x", [], {}, [[]], [1], {"messages": []}, {"history": []}, {"history": 1}]
)
def test_what_is_no_log_is_said_to_be_none(document: Any) -> None:
    (item,) = read(document)
    assert isinstance(item, Dropped)
    assert item.reason == NO_FORMAT


def test_deep_nesting_is_no_crash() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    call = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": deep}}}]}
    assert len(read({"messages": [call, {"role": "tool", "tool_call_id": "a", "content": ""}]})) == 1
    deep = orjson.loads(b"[" * 1000 + b"]" * 1000)
    assert [item.reason for _, _, item in read_document(deep, "log", 1) if isinstance(item, Dropped)] == [NO_FORMAT]


@pytest.mark.parametrize("kind", ["tool_calls", "xml"])
def test_a_great_many_calls_in_one_answer_take_no_more_than_their_share(kind: str) -> None:
    """100,000, answered from the last to the first: linear in the calls, where a square would take minutes."""
    call = "<function=bash>\n<parameter=command>ls</parameter>\n</function>\n"
    messages: list[Any] = [{"role": "assistant", "content": call * 100_000}, {"role": "tool", "content": "0"}]
    if kind == "tool_calls":
        made = [{"id": f"{n}", "function": {"name": "bash", "arguments": '{"command": "ls"}'}} for n in range(100_000)]
        answers = [{"role": "tool", "tool_call_id": f"{n}", "content": f"{n}"} for n in range(99_999, -1, -1)]
        messages = [{"role": "assistant", "tool_calls": made}, *answers]
    begin = time.process_time()
    trajectory = read_one({"messages": messages})
    assert time.process_time() - begin < 5
    assert len(trajectory.acted) + trajectory.dropped.get(UNANSWERED, 0) == 100_000
    assert all(turn.observation == f"{n}" for n, turn in enumerate(trajectory.acted))
