"""The call grammar: what is written is read back, and every refusal has its reason."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swe_srl import actions
from swe_srl.actions import (
    canonical,
    is_target,
    parse_call,
    parse_completion,
    read_call,
    render_call,
    render_completion,
)
from swe_srl.errors import FormatError, UnrenderableError
from swe_srl.tools import TOOLS
from swe_srl.types import Action

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MARKUP = ("</parameter>", "</function>", "<function=")

# Text with line ends, tags and near-tags in it far more often than chance would put them there.
pieces = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["\n", "\r\n", "\n\n", " ", "<parameter=path>", "<think>", "</think>", "<function", "</", "="]),
)
values = st.lists(pieces, max_size=6).map("".join).filter(lambda value: not any(mark in value for mark in MARKUP))


@st.composite
def valid_actions(draw: st.DrawFn) -> Action:
    tool = draw(st.sampled_from(list(TOOLS.values())))
    names = [one.name for one in tool.parameters if one.required or draw(st.booleans())]
    return Action(tool.name, {name: draw(values) for name in draw(st.permutations(names))})


# ------------------------------------------------------------------------------------------ round trips


@given(valid_actions())
def test_what_is_rendered_is_read_back(action: Action) -> None:
    assert parse_call(render_call(action)) == action
    assert is_target(action)


thoughts = st.lists(st.one_of(pieces, st.sampled_from(["</thin", "k>"])), max_size=6).map("".join)


@given(thoughts, valid_actions())
@example("</thin</think>k>", Action("submit"))
def test_a_completion_is_read_back_whatever_its_thought(thought: str, action: Action) -> None:
    read_thought, read_action = parse_completion(render_completion(thought, action))
    assert read_action == action
    if "</think>" not in thought:
        assert read_thought == thought.strip()


@given(values)
def test_white_space_around_and_inside_the_call_is_free(value: str) -> None:
    action = Action("bash", {"command": value})
    call = render_call(action).replace("<function=bash>\n", "<function=bash>\n \n  ", 1)
    assert parse_call(f"\n  {call}\n\n") == action


LINE_ENDS = {
    "ls": "ls",
    "\nls\n": "ls",
    "\n\nls\n\n": "\nls\n",  # exactly one on each side
    "\nls": "\nls",  # not on both sides: content
    "ls\n": "ls\n",
    "\n": "\n",  # one line end cannot be lost twice
    "\n\n": "",
    " ls ": " ls ",
    "": "",
    "\r\nls\r\n": "\r\nls\r\n",  # it begins with \r
}


@pytest.mark.parametrize(("written", "meant"), LINE_ENDS.items())
def test_one_line_end_on_each_side_is_layout(written: str, meant: str) -> None:
    call = f"<function=bash><parameter=command>{written}</parameter></function>"
    assert parse_call(call).arguments == {"command": meant}


def test_a_value_is_inline_unless_it_holds_a_line_end() -> None:
    edit = Action("str_replace_editor", {"command": "insert", "path": "/a.py", "new_str": "x = 1\ny = 2"})
    assert render_call(edit) == (
        "<function=str_replace_editor>\n"
        "<parameter=command>insert</parameter>\n"
        "<parameter=path>/a.py</parameter>\n"
        "<parameter=new_str>\nx = 1\ny = 2\n</parameter>\n"
        "</function>"
    )
    assert render_call(Action("submit")) == "<function=submit>\n</function>"


# ---------------------------------------------------------------------------------------- canonical text


def test_canonical_text_is_the_tool_and_the_values_in_the_schemas_order() -> None:
    assert canonical(Action("bash", {"command": "cd /testbed && ls"})) == "bash\ncd /testbed && ls"
    arguments = {"view_range": "[1, 50]", "path": "/a.py", "command": "view"}
    assert canonical(Action("str_replace_editor", arguments)) == "str_replace_editor\nview\n/a.py\n[1, 50]"
    assert canonical(Action("submit")) == "submit"
    assert canonical(Action("browse", {"url": "http://x", "wait": "1"})) == "browse\nhttp://x\n1"


@given(valid_actions())
def test_canonical_text_does_not_depend_on_the_order_of_writing(action: Action) -> None:
    backwards = Action(action.tool, dict(list(action.arguments.items())[::-1]))
    assert canonical(backwards) == canonical(action)


# --------------------------------------------------------------------------------------------- refusals

CALL = "<function=bash>\n<parameter=command>ls</parameter>\n</function>"
THINK = "<think>So.</think>\n"
BAD = {
    "no think block": (actions.NO_THINK, CALL),
    "a think block that is not first": (actions.NO_THINK, f"Well. {THINK}{CALL}"),
    "a think block that is not closed": (actions.NO_THINK, f"<think>So.\n{CALL}"),
    "text between thought and call": (actions.TEXT_BEFORE, f"{THINK}I run:\n{CALL}"),
    "a call begun and given up": (actions.TEXT_BEFORE, f"{THINK}<function= or rather\n{CALL}"),
    "nothing after the thought": (actions.NO_CALL, THINK),
    "a call that is not closed": (actions.NO_CALL, THINK + CALL.removesuffix("</function>")),
    "a parameter that is not closed": (actions.NO_CALL, THINK + CALL.replace("</parameter>", "")),
    "two calls": (actions.SEVERAL_CALLS, f"{THINK}{CALL}\n{CALL}"),
    "two calls with words between": (actions.SEVERAL_CALLS, f"{THINK}{CALL}\nand\n{CALL}"),
    "a call in a call": (actions.SEVERAL_CALLS, THINK + CALL.replace("ls", CALL)),
    "a tool that is not ours": (actions.UNKNOWN_TOOL, THINK + CALL.replace("=bash", "=shell")),
    "no name of a tool": (actions.UNKNOWN_TOOL, THINK + CALL.replace("=bash", "=")),
    "no command": (actions.MISSING_PARAMETER, f"{THINK}<function=bash>\n</function>"),
    "a parameter that is not in the schema": (
        actions.UNKNOWN_PARAMETER,
        THINK + CALL.replace("</function>", "<parameter=cwd>/</parameter>\n</function>"),
    ),
    "a parameter given twice": (
        actions.UNKNOWN_PARAMETER,
        THINK + CALL.replace("</function>", "<parameter=command>pwd</parameter>\n</function>"),
    ),
    "text after the call": (actions.TEXT_AFTER, f"{THINK}{CALL}\nThis lists the files."),
}


@pytest.mark.parametrize(("reason", "text"), BAD.values(), ids=BAD.keys())
def test_each_format_error_has_its_reason(reason: str, text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_completion(text)
    assert caught.value.reason == reason
    assert caught.value.detail


def test_an_answer_cut_at_max_tokens_is_truncated_even_if_it_looks_complete() -> None:
    with pytest.raises(FormatError) as caught:
        parse_completion(THINK + CALL, truncated=True)
    assert caught.value.reason == actions.TRUNCATED


def test_every_reason_has_an_example_here() -> None:
    assert {reason for reason, _ in BAD.values()} | {actions.TRUNCATED} == set(actions.REASONS)


@pytest.mark.parametrize("thought", ["", " ", "\n"])
def test_an_empty_think_block_is_valid(thought: str) -> None:
    assert parse_completion(f"<think>{thought}</think>{CALL}") == ("", Action("bash", {"command": "ls"}))


@pytest.mark.parametrize("mark", MARKUP)
def test_a_value_that_holds_the_markup_is_refused(mark: str) -> None:
    action = Action("bash", {"command": f"echo '{mark}'"})
    with pytest.raises(UnrenderableError):
        render_call(action)
    assert not is_target(action)


@pytest.mark.parametrize("name", ["", "a>b", "a\nb"])
def test_a_name_that_cannot_be_read_back_is_refused(name: str) -> None:
    with pytest.raises(UnrenderableError):
        render_call(Action(name))
    with pytest.raises(UnrenderableError):
        render_call(Action("bash", {name: "ls"}))


def test_what_a_policy_with_our_tools_could_not_write_is_no_target() -> None:
    assert not is_target(Action("browse", {"url": "http://x"}))
    assert not is_target(Action("bash"))
    assert not is_target(Action("bash", {"command": "ls", "cwd": "/"}))


# ------------------------------------------------------------------------------------------- real actions


def smith_actions() -> list[Action]:
    """The XML calls of SWE-smith logs."""
    found = []
    for log in json.loads((DATA / "trajectories/swe_smith_xml/adp_swe-smith_sample_raw.json").read_text()):
        for message in log["messages"]:
            if message["role"] == "assistant" and "<function=" in message["content"]:
                found.append(read_call(message["content"])[0])
    return found


def corpus_actions() -> list[Action]:
    """The bash blocks of the mini-swe-agent corpus."""
    found = []
    with gzip.open(DATA / "corpus/mini_v1_verified_gemini3pro.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            for message in json.loads(line)["messages"]:
                if message["role"] == "assistant":
                    blocks = re.findall(r"```bash\s*\n(.*?)\n```", message["content"], re.DOTALL)
                    found += [Action("bash", {"command": block}) for block in blocks]
    return found


@pytest.mark.skipif(not DATA.exists(), reason=f"no real logs: {DATA} is absent")
def test_every_real_action_is_read_back_or_refused() -> None:
    found = smith_actions() + corpus_actions()
    assert len(found) > 15_000
    refused = 0
    for action in found:
        try:
            call = render_call(action)
        except UnrenderableError:
            refused += 1
            continue
        assert read_call(call) == (action, len(call))
    assert refused == 0, "design.md: none of 16,158 real commands holds the markup"
