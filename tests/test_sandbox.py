"""The conformance suite of the Sandbox seam: every backend of the table runs all of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swe_srl.errors import ConfigError, SandboxError
from swe_srl.sandboxes import BACKENDS, Sandbox, changes, open_sandbox, shell, snapshot
from swe_srl.tools import execute
from swe_srl.types import Action


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tree = tmp_path / "source"
    (tree / "pkg").mkdir(parents=True)
    (tree / "a.txt").write_text("one\ntwo\n")
    (tree / "gone.txt").write_text("x\n")
    (tree / "pkg" / "m.py").write_text("VALUE = 1\n")
    (tree / ".gitignore").write_text("*.log\n")
    return tree


@pytest.fixture(params=[*BACKENDS, "fleet-runc", "fleet-local"])
def box(request: pytest.FixtureRequest, source: Path) -> Iterator[Sandbox]:
    """One of every backend, and of two of them on a node of a Ray cluster."""
    where, _, kind = request.param.rpartition("-")
    opened = open_sandbox(kind, source) if not where else request.getfixturevalue("fleets")(kind).open(source)
    with opened as sandbox:
        yield sandbox


def out(sandbox: Sandbox, command: str, timeout_s: float = 20) -> str:
    return sandbox.exec(command, timeout_s).output


# ------------------------------------------------------------------------------------------ one command


def test_it_starts_in_the_tree_with_one_commit(box: Sandbox) -> None:
    assert out(box, "pwd; ls; git status --short; git log --oneline | wc -l") == "/testbed\na.txt\ngone.txt\npkg\n1\n"


def test_output_is_merged_in_order(box: Sandbox) -> None:
    assert out(box, "echo a; echo b >&2; echo c") == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("false", 1), ("exit 3", 3), ("no-such-command", 127), ("(exit 200)", 200), ("kill -9 $$", 137)],
)
def test_exit_codes_are_bash_s(box: Sandbox, command: str, code: int) -> None:
    assert box.exec(command, 20).exit_code == code


def test_errors_read_as_on_a_terminal(box: Sandbox) -> None:
    assert out(box, "nope") == "bash: line 1: nope: command not found\n"
    result = box.exec("if", 20)
    assert result.exit_code == 2
    assert "syntax error" in result.output


def test_stdin_is_closed(box: Sandbox) -> None:
    assert out(box, "cat; read x; echo $?") == "1\n"


def test_binary_output_survives(box: Sandbox) -> None:
    assert out(box, r"printf 'a\xff\x00b'") == "a\ufffd\0b"


def test_long_output_loses_its_middle(box: Sandbox) -> None:
    result = box.exec("echo first; seq 100000; echo last", 20)
    assert result.truncated
    assert result.output.startswith("first\n1\n")
    assert result.output.endswith("100000\nlast\n")
    assert "bytes cut out" in result.output
    assert len(result.output) < shell.OUTPUT_CAP_BYTES + 100


def test_commands_may_be_longer_than_an_argument(box: Sandbox) -> None:
    text = "x" * 200_000
    assert out(box, f"cat > big <<'END'\n{text}\nEND\nwc -c < big").strip() == "200001"


def test_a_timeout_keeps_what_was_printed_and_kills_the_rest(box: Sandbox) -> None:
    began = time.monotonic()
    result = box.exec("echo begun; (sleep 2; touch late) & sleep 30", 0.5)
    assert (result.output, result.timed_out, result.exit_code) == ("begun\n", True, shell.TIMED_OUT)
    assert time.monotonic() - began < 5
    time.sleep(2)
    assert "late" not in out(box, "ls")


def test_a_background_process_does_not_hold_the_command(box: Sandbox) -> None:
    began = time.monotonic()
    assert out(box, "sleep 30 & echo back") == "back\n"
    assert time.monotonic() - began < 5


def test_the_environment_is_not_the_host_s(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRET", "s")
    assert "HOST_SECRET" not in out(box, "env")
    assert out(box, "echo $LANG $PYTHONHASHSEED $PYTHONDONTWRITEBYTECODE") == "C.UTF-8 0 1\n"


def test_python_runs_tests(box: Sandbox) -> None:
    assert "pytest" in out(box, "python -m pytest --version")


# -------------------------------------------------------------------------------------- a shell that persists


def test_directory_variables_functions_options_persist(box: Sandbox) -> None:
    box.exec('cd pkg; export A=\'x  "y"\nz\'; f() { echo "f $1"; }; set -o pipefail; shopt -s extglob', 20)
    assert out(box, 'pwd; echo "$A"; f 1; false | true; echo $?; ls !(x)') == (
        '/testbed/pkg\nx  "y"\nz\nf 1\n1\nm.py\n'
    )


def test_unset_persists(box: Sandbox) -> None:
    box.exec("export A=1", 20)
    box.exec("unset A HOME", 20)
    assert out(box, "echo ${A-none} ${HOME-none}") == "none none\n"


def test_state_persists_over_exit_and_errexit(box: Sandbox) -> None:
    box.exec("cd pkg; exit 3", 20)
    assert out(box, "pwd") == "/testbed/pkg\n"
    box.exec("set -e; export B=2; false; export B=3", 20)
    assert out(box, "set +e; echo $B; false; echo on") == "2\non\n"


def test_noclobber_and_nounset_do_not_break_the_state(box: Sandbox) -> None:
    box.exec("set -Cu; export A=1", 20)
    box.exec("export A=2; unset PWD", 20)
    assert out(box, "echo $A") == "2\n"


def test_functions_may_have_the_names_of_builtins(box: Sandbox) -> None:
    """The ones by which the state is saved and a command is run, too."""
    for name in ("eval", "export", "printf", "declare", "set", "shopt", "umask", "trap", ".", "cd"):
        box.exec(f"{name}() {{ echo mine; }}; A={name}", 20)
        assert out(box, f"{name}; unset -f {name}; cd /testbed; pwd") == "mine\n/testbed\n", name
    box.exec("builtin() { :; }", 20)  # what saves the state has no other name: this one does not stay
    assert out(box, "type -t builtin") == "builtin\n"


def test_functions_may_be_written_in_what_an_option_allows(box: Sandbox) -> None:
    box.exec("shopt -s extglob\nf() { echo !(*.txt); }", 20)
    assert out(box, "f; shopt -q extglob; echo $?") == "pkg\n0\n"


def test_a_timeout_leaves_the_state_as_it_was(box: Sandbox) -> None:
    box.exec("export A=1", 20)
    box.exec("export A=2; sleep 30", 0.3)
    assert out(box, "echo $A") == "1\n"


def test_a_deleted_directory_is_survived(box: Sandbox) -> None:
    box.exec("mkdir d && cd d && rmdir ../d", 20)
    assert out(box, "cd /testbed && cat a.txt") == "one\ntwo\n"


# ------------------------------------------------------------------------------------------------ files


def test_write_then_read_then_cat(box: Sandbox) -> None:
    data = bytes(range(256))
    box.write("/testbed/new/deep/f.bin", data)
    assert box.read("/testbed/new/deep/f.bin") == data
    assert out(box, "wc -c < new/deep/f.bin").strip() == "256"


def test_read_raises_as_open_does(box: Sandbox) -> None:
    with pytest.raises(FileNotFoundError):
        box.read("/testbed/none")
    with pytest.raises(IsADirectoryError):
        box.read("/testbed/pkg")


def test_the_tree_s_path_is_one_everywhere(box: Sandbox) -> None:
    box.write("/testbed/p.sh", b"ls /testbed/pkg\n")
    assert out(box, "cat p.sh; bash /testbed/p.sh; echo /testbed-x x/testbed") == (
        "ls /testbed/pkg\nm.py\n/testbed-x x/testbed\n"
    )
    box.exec("echo 'cd /testbed' > q.sh", 20)
    assert box.read("/testbed/q.sh") == b"cd /testbed\n"


# --------------------------------------------------------------------------------------------- forks, changes


def test_a_fork_has_tree_and_state_and_then_its_own(box: Sandbox) -> None:
    box.exec("cd pkg; export A=1; echo n > n.txt", 20)
    fork = box.fork()
    try:
        assert out(fork, "pwd; echo $A; cat n.txt") == "/testbed/pkg\n1\nn\n"
        fork.exec("export A=2; rm n.txt", 20)
        assert out(box, "echo $A; cat n.txt") == "1\nn\n"
        assert "n.txt" not in changes(fork)
    finally:
        fork.close()
    assert out(box, "echo $A") == "1\n"


def test_a_script_in_a_fork_works_on_the_fork(box: Sandbox) -> None:
    box.exec("echo 'cd /testbed; pwd; touch by-script' > s.sh; ln -s /testbed/pkg link", 20)
    fork = box.fork()
    try:
        assert out(fork, "bash s.sh; readlink link") == "/testbed\n/testbed/pkg\n"
        assert "by-script" not in out(box, "ls")
    finally:
        fork.close()


def test_changes_is_a_patch_of_all_that_changed(box: Sandbox, source: Path) -> None:
    box.exec("cd pkg; set -eux; echo VALUE = 2 > m.py; git rm -q ../gone.txt; git commit -qm x", 20)
    box.write("/testbed/new.bin", bytes(range(256)))
    box.exec("echo ignored > x.log", 20)
    patch = changes(box)
    assert "x.log" not in patch
    subprocess.run(["git", "apply", "--binary", "-"], cwd=source, input=patch.encode(), check=True)
    assert (source / "pkg" / "m.py").read_text() == "VALUE = 2\n"
    assert (source / "new.bin").read_bytes() == bytes(range(256))
    assert not (source / "gone.txt").exists()
    box.exec("set +eux", 20)
    assert out(box, "pwd; git status --short") == "/testbed/pkg\n M m.py\n?? ../new.bin\n"


STRANGE = ("latin", "two words", "a*b", "[x]?", 'q"\\\\*', "\u00e9", "tab\tand\nline", "-diff", "#", "!", "deep/er/\\[")


def test_a_patch_of_files_that_are_no_utf_8_is_text_that_applies(box: Sandbox, source: Path) -> None:
    names = [*(f"pkg/{name}" for name in STRANGE), "latin"]
    for name in (*names, "bad\udcff"):  # a name that is no UTF-8, either
        box.write(f"/testbed/{name}", f"caf\u00e9 {name}\n".encode("latin-1", "replace") * 3)
    box.write("/testbed/a.txt", "caf\u00e9\n".encode())
    box.exec("echo '* text diff' > .gitattributes; rm gone.txt", 20)
    patch = changes(box)
    sent = json.dumps(patch, ensure_ascii=False).encode()  # as predictions are kept
    assert patch.count("GIT binary patch") == len(names) + 1
    assert "+caf\u00e9" in patch  # and what is text stays so
    subprocess.run(["git", "apply", "-"], cwd=source, input=json.loads(sent).encode(), check=True)
    for name in (*names, "bad\udcff"):
        assert (source / name).read_bytes() == f"caf\u00e9 {name}\n".encode("latin-1", "replace") * 3


def test_changes_of_very_many_files_that_are_no_utf_8(box: Sandbox, source: Path) -> None:
    box.exec("for n in {1..2500}; do printf '\\377\\n' > pkg/a-name-that-is-quite-long-$n; done; echo x > x.txt", 60)
    patch = changes(box)
    assert patch.count("GIT binary patch") == 2501
    subprocess.run(["git", "apply", "-"], cwd=source, input=patch.encode(), check=True)
    assert (source / "pkg" / "a-name-that-is-quite-long-7").read_bytes() == b"\xff\n"


def test_changes_since_a_fork_leave_out_what_was_before(box: Sandbox) -> None:
    box.exec("echo n > pkg/n.txt; set -C", 20)
    since = snapshot(box)
    fork = box.fork()
    try:
        assert changes(fork, since=since) == ""
        fork.exec("rm gone.txt; echo more >> pkg/n.txt; git add -A; git commit -qm x", 20)
        patch = changes(fork, since=since)
        assert "+more" in patch
        assert "deleted file" in patch
        assert "new file" not in patch
        assert "new file" in changes(fork)
    finally:
        fork.close()
    assert out(box, "git status --short") == "?? pkg/n.txt\n"


def test_changes_are_told_from_where_it_began_whatever_is_done_to_git(box: Sandbox) -> None:
    box.exec("echo two >> pkg/m.py; git add -A; git commit -q --amend -m x; git update-ref refs/swe-srl/start HEAD", 20)
    box.exec("echo new > new.txt; echo new.txt >> .git/info/exclude; git reflog expire --expire=now --all", 20)
    fork = box.fork()
    try:
        for one in (box, fork):
            patch = changes(one)
            assert "+two" in patch
            assert "+new" in patch
    finally:
        fork.close()
    box.exec("git update-ref -d refs/swe-srl/start; git gc -q --prune=now", 20)
    with pytest.raises(SandboxError, match="git"):
        changes(box)


def test_changes_of_nothing_is_empty(box: Sandbox) -> None:
    assert changes(box) == ""


def test_changes_without_git_is_an_infrastructure_error(box: Sandbox) -> None:
    box.exec("rm -rf .git", 20)
    with pytest.raises(SandboxError, match="git"):
        changes(box)


# --------------------------------------------------------------------------------------------- the ends


@pytest.mark.parametrize("kind", list(BACKENDS))
def test_a_closed_sandbox_says_so(kind: str, source: Path) -> None:
    with open_sandbox(kind, source) as sandbox:
        sandbox.close()
        with pytest.raises(SandboxError):
            sandbox.exec("true", 5)


@pytest.mark.parametrize("kind", list(BACKENDS))
def test_close_ends_what_was_left_in_the_background(kind: str, source: Path, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    with open_sandbox(kind, source) as sandbox:
        sandbox.exec(f"(while true; do touch {alive}; sleep 0.05; done) &", 5)
        time.sleep(0.3)
    alive.unlink(missing_ok=True)
    time.sleep(0.3)
    assert not alive.exists()


def test_an_unknown_kind_names_the_known(source: Path) -> None:
    with pytest.raises(ConfigError, match="local"), open_sandbox("cloud", source):
        pass


def test_execute_tells_a_timeout(box: Sandbox) -> None:
    slow = execute(Action("bash", {"command": "echo a; sleep 9"}), box, 0.3)
    assert slow == "a\n\nThe command was cancelled because it took more than 0.3 seconds."


def test_execute_runs_each_tool(box: Sandbox) -> None:
    assert execute(Action("bash", {"command": "echo a; echo"}), box, 9) == "a\n"
    assert "VALUE = 1" in execute(
        Action("str_replace_editor", {"command": "view", "path": "/testbed/pkg/m.py"}), box, 9
    )
    box.exec("echo VALUE = 2 > pkg/m.py", 9)
    assert "+VALUE = 2" in execute(Action("submit"), box, 9)
