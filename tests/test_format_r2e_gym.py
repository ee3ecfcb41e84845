"""R2E-Gym runs: made as its source writes them, not yet seen on a real log."""

from __future__ import annotations

from typing import Any

from broken import bears

from swe_srl.formats import Dropped, r2e_gym
from swe_srl.formats.turns import REJECTED, UNREADABLE
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory, Turn


def xml(tool: str, **values: object) -> str:
    """`Action.to_xml_string` of R2E-Gym."""
    parameters = "".join(f"  <parameter={key}>{value}</parameter>\n" for key, value in values.items())
    return f"<function={tool}>\n{parameters}</function>"


def step(action: str, observation: str = "Exit code: 0\nExecution output of [execute_bash]:\nx") -> dict[str, Any]:
    return {"step_idx": 0, "thought": " I look. ", "action": action, "observation": observation, "done": False}


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "trajectory_steps": list(steps),
        "problem_statement": "\nIt is broken.\n",
        "docker_image": "namanjain12/sympy_final:abc",
        "exit_reason": "agent",
        "output_patch": "diff --git a/x b/x\n",
        "reward": 1.0,
        **more,
    }


def read(run: Any) -> Trajectory | Dropped:
    assert r2e_gym.detect(run)
    (item,) = r2e_gym.read(run, Provenance("runs.jsonl", 1, r2e_gym.name))
    return item


def trajectory(*steps: dict[str, Any], **more: Any) -> Trajectory:
    item = read(document(*steps, **more))
    assert isinstance(item, Trajectory), item
    return item


def action(tool: str, **values: object) -> Action | None:
    return trajectory(step(xml(tool, **values))).turns[0].action


def test_a_run() -> None:
    run = trajectory(
        step(xml("execute_bash", cmd="ls -la\npwd")),
        step(xml("search", search_term="x", path="."), "Execution output of [search]:\n1 match"),
        step(xml("finish", command="submit", result=""), "<<< Finished >>>"),
    )
    assert run.turns[0] == Turn(
        "I look.",
        Action("bash", {"command": "ls -la\npwd"}),
        "Exit code: 0\nExecution output of [execute_bash]:\nx",
    )
    assert run.turns[1].action == Action("search", {"search_term": "x", "path": "."})
    assert run.turns[2] == Turn("I look.", Action("submit"), "<<< Finished >>>")
    assert (run.issue, run.shell) == ("It is broken.", "fresh")
    assert run.outcome == Outcome(True, "agent", "diff --git a/x b/x\n")


def test_values_are_exact() -> None:
    """R2E-Gym adds no line ends around a value, so those that are there belong to it."""
    edit = {"command": "str_replace", "path": "/testbed/x.py", "old_str": "\n  a\n", "new_str": "</function>\n<b>"}
    assert action("file_editor", **edit) == Action("str_replace_editor", edit)


def test_only_exact_equivalents_are_ours() -> None:
    view = {"command": "view", "path": "/testbed/x.py"}
    ranged = {**view, "view_range": "[1, 50]"}
    assert action("file_editor", **view) == Action("file_editor", view)  # it condenses a long file
    assert action("file_editor", **ranged) == Action("str_replace_editor", ranged)
    assert action("file_editor", **ranged, concise=False) == Action("str_replace_editor", ranged)
    concise = {**ranged, "concise": "True"}
    assert action("file_editor", **concise) == Action("file_editor", concise)
    relative = {**ranged, "path": "x.py"}
    assert action("file_editor", **relative) == Action("file_editor", relative)
    false = {"command": "str_replace", "path": "/x", "old_str": "True", "new_str": "False"}
    assert action("file_editor", **false) == Action("str_replace_editor", false)
    other = {"command": "search_dir", "search_term": "x"}
    assert action("execute_bash", **other) == Action("execute_bash", other)


def test_an_answer_without_a_call_is_talk() -> None:
    said = "\nYou forgot to use a function call in your response. \n"
    run = trajectory(step(xml(""), said), step(xml("execute_bash", cmd="ls")))
    assert run.turns[0] == Turn("I look.", None, said)
    assert len(run.acted) == 1


def test_refused_calls_executed_nothing() -> None:
    head = "Exit code: 1\nExecution output of [execute_bash]:\n"
    refusal = head + "Bash command 'cd' is not allowed. Please use a different command or tool.\n"
    no_tool = "local variable 'bash_output' referenced before assignment"
    run = trajectory(
        step(xml("execute_bash", cmd="cd /x"), refusal),
        step(xml("web_search", query="x"), no_tool),
        step(xml("execute_bash", cmd="cat log"), head + no_tool),
    )
    assert [turn.action for turn in run.turns] == [Action("bash", {"command": "cat log"})]
    assert run.dropped == {REJECTED: 2}


def test_text_that_is_no_call_of_r2e_gym() -> None:
    held = xml("execute_bash", cmd="echo '</parameter>\nx'")
    run = trajectory(step(held), step("ls"), step(xml("execute_bash", cmd="ls")))
    assert run.dropped == {UNREADABLE: 2}
    assert len(run.turns) == 1


def test_the_task_and_the_outcome() -> None:
    steps = step(xml("execute_bash", cmd="ls"))
    ds = {"instance_id": "django__django-11099", "repo": "django/django", "base_commit": "c0"}
    link = TaskLink("django__django-11099", "django/django", "c0", "namanjain12/sympy_final:abc")
    assert trajectory(steps, ds=ds).task == link
    own = {"repo_name": "sympy", "commit_hash": "fix"}  # the commit of the solution
    assert trajectory(steps, ds=own).task == TaskLink(None, "sympy", None, "namanjain12/sympy_final:abc")
    assert [trajectory(steps, reward=r).outcome.resolved for r in (0.0, None, 0.3, 1)] == [False, None, None, True]


def test_a_run_without_a_call() -> None:
    assert read(document(step(xml("")))) == Dropped(1, "no action", "1 steps, exit reason 'agent'")


def test_broken_runs() -> None:
    run = document(step(xml("execute_bash", cmd="ls")), step(xml("")), ds={"repo_name": "sympy"})
    assert bears(r2e_gym, run) > 200
