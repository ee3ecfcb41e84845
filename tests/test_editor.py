"""What each command of the editor answers, and that a bad argument is an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swe_srl.editor import edit
from swe_srl.sandboxes import Sandbox, changes, open_sandbox

TEXT = "".join(f"line {number}\n" for number in range(1, 13))
PATH = "/testbed/a.py"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    tree = tmp_path / "tree"
    (tree / "pkg" / "inner" / "deep").mkdir(parents=True)
    (tree / "a.py").write_text(TEXT)
    (tree / "pkg" / "m.py").write_text("x\n")
    (tree / "pkg" / "inner" / "deep" / "n.py").write_text("x\n")
    with open_sandbox("local", tree) as sandbox:
        yield sandbox


def call(sandbox: Sandbox, command: str, path: str = PATH, **arguments: str) -> str:
    return edit(sandbox, {"command": command, "path": path, **arguments})


# ------------------------------------------------------------------------------------------------ view


def test_view_numbers_lines_as_cat_does(box: Sandbox) -> None:
    box.write(PATH, b"a\n\tb\n")
    assert call(box, "view") == (
        "Here's the result of running `cat -n` on /testbed/a.py:\n     1\ta\n     2\t\tb\n     3\t"
    )


def test_view_range(box: Sandbox) -> None:
    head = "Here's the result of running `cat -n` on /testbed/a.py:\n"
    assert call(box, "view", view_range="[2, 3]") == head + "     2\tline 2\n     3\tline 3"
    assert call(box, "view", view_range="[12, -1]") == head + "    12\tline 12\n    13\t"
    assert call(box, "view", view_range="[12, 99]") == head + "    12\tline 12\n    13\t"


@pytest.mark.parametrize(
    ("view_range", "says"),
    [
        ("3", "list of two integers"),
        ("[1, 2, 3]", "list of two integers"),
        ('["a", 2]', "list of two integers"),
        ("[0, 2]", "first element `0` should be within the range of lines of the file: [1, 13]"),
        ("[14, 15]", "first element `14`"),
        ("[5, 4]", "second element `4` should be larger"),
    ],
)
def test_bad_view_ranges(box: Sandbox, view_range: str, says: str) -> None:
    answer = call(box, "view", view_range=view_range)
    assert answer.startswith(f"Invalid `view_range`: {view_range}. ")
    assert says in answer


def test_view_of_a_folder_is_two_levels_deep(box: Sandbox) -> None:
    assert call(box, "view", "/testbed") == (
        "Here's the files and directories up to 2 levels deep in /testbed, excluding hidden items:\n"
        "/testbed\n/testbed/a.py\n/testbed/pkg\n/testbed/pkg/inner\n/testbed/pkg/m.py"
    )


# ------------------------------------------------------------------------------------------------ edits


def test_create(box: Sandbox) -> None:
    assert call(box, "create", "/testbed/new/f.py", file_text="y\n") == (
        "File created successfully at: /testbed/new/f.py"
    )
    assert box.read("/testbed/new/f.py") == b"y\n"
    assert call(box, "create", file_text="") == (
        "File already exists at: /testbed/a.py. Cannot overwrite files using command `create`."
    )


def test_str_replace_shows_a_snippet(box: Sandbox) -> None:
    assert call(box, "str_replace", old_str="line 6\n", new_str="six\nand\n") == (
        "The file /testbed/a.py has been edited. "
        "Here's the result of running `cat -n` on a snippet of /testbed/a.py:\n"
        "     4\tline 4\n     5\tline 5\n     6\tsix\n     7\tand\n     8\tline 7\n     9\tline 8\n    10\tline 9\n"
        "Review the changes and make sure they are as expected. Edit the file again if necessary."
    )
    assert box.read(PATH).decode() == TEXT.replace("line 6\n", "six\nand\n")


def test_str_replace_must_occur_once(box: Sandbox) -> None:
    assert call(box, "str_replace", old_str="line 1", new_str="x") == (
        "No replacement was performed. Multiple occurrences of old_str `line 1` in lines [1, 10, 11, 12]. "
        "Please ensure it is unique"
    )
    assert box.read(PATH).decode() == TEXT


def test_str_replace_names_the_nearest_lines(box: Sandbox) -> None:
    assert call(box, "str_replace", old_str="lime 7\nline 8", new_str="x") == (
        "No replacement was performed, old_str `lime 7\nline 8` did not appear verbatim in /testbed/a.py."
        " The nearest lines are:\n     7\tline 7\n     8\tline 8"
    )
    assert call(box, "str_replace", old_str="%%%%%%", new_str="x").endswith("verbatim in /testbed/a.py.")


def test_an_absent_new_str_deletes(box: Sandbox) -> None:
    call(box, "str_replace", old_str="line 6\n")
    assert box.read(PATH).decode() == TEXT.replace("line 6\n", "")


def test_insert(box: Sandbox) -> None:
    assert "     1\tzero\n     2\tline 1" in call(box, "insert", insert_line="0", new_str="zero")
    call(box, "insert", insert_line="13", new_str="last")
    assert box.read(PATH).decode() == "zero\n" + TEXT + "last\n"
    assert call(box, "insert", insert_line="99", new_str="x") == (
        "Invalid `insert_line` parameter: 99. It should be within the range of lines of the file: [0, 15]"
    )


def test_undo_goes_back_edit_by_edit_and_forks_remember(box: Sandbox) -> None:
    call(box, "str_replace", old_str="line 6\n", new_str="")
    call(box, "insert", insert_line="0", new_str="zero")
    fork = box.fork()
    assert call(box, "undo_edit").startswith("Last edit to /testbed/a.py undone successfully. ")
    call(box, "undo_edit")
    assert box.read(PATH).decode() == TEXT
    assert call(box, "undo_edit") == "No edit history found for /testbed/a.py."
    call(fork, "undo_edit")
    assert fork.read(PATH).decode() == TEXT.replace("line 6\n", "")
    fork.close()
    assert changes(box) == ""


def test_bytes_that_are_no_text_survive_an_edit(box: Sandbox) -> None:
    box.write(PATH, b"a\xff\r\nb\r\n")
    assert "\ufffd" in call(box, "str_replace", old_str="b", new_str="c")
    assert box.read(PATH) == b"a\xff\r\nc\r\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "Parameter `command` is required."),
        ({"command": "view"}, "Parameter `path` is required for command: view"),
        ({"command": "look", "path": PATH}, "Unrecognized command look."),
        ({"command": "view", "path": "a.py"}, "Maybe you meant /testbed/a.py?"),
        ({"command": "view", "path": "/testbed/z"}, "The path /testbed/z does not exist."),
        ({"command": "view", "path": "/testbed/a.py/z"}, "does not exist"),
        ({"command": "create", "path": "/testbed/z"}, "Parameter `file_text` is required for command: create"),
        ({"command": "str_replace", "path": PATH}, "Parameter `old_str` is required"),
        ({"command": "str_replace", "path": PATH, "old_str": ""}, "did not appear verbatim"),
        ({"command": "str_replace", "path": "/testbed/pkg", "old_str": "x"}, "is a directory"),
        ({"command": "create", "path": "/testbed/pkg", "file_text": "x"}, "already exists"),
        ({"command": "create", "path": "/testbed/a.py/b", "file_text": "x"}, "Cannot write"),
        ({"command": "insert", "path": PATH, "insert_line": "x", "new_str": ""}, "Invalid `insert_line`"),
        ({"command": "view", "path": "/testbed/pkg", "view_range": "[1, 2]"}, "not allowed"),
    ],
)
def test_a_bad_argument_is_an_observation(box: Sandbox, arguments: dict[str, str], says: str) -> None:
    assert says in edit(box, arguments)
