"""The guest by its host end alone: as PID 1 of a namespace, as a plain process, and in a root with nothing but bash."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swe_srl.errors import SandboxError
from swe_srl.sandboxes import shell
from swe_srl.sandboxes.pipe import Guest
from swe_srl.sandboxes.toolbox import argv, toolbox

ROOT = os.geteuid() == 0
NAMESPACE = ["unshare", *([] if ROOT else ["--map-root-user"]), "--fork", "--pid", "--mount-proc", "--kill-child"]
UID = 100_000 + os.getpid()  # of nobody else: a limit on processes counts all of a user's
USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
VARIABLES = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
PYTHON = "/usr/bin/python3"
needs_root = pytest.mark.skipif(not ROOT, reason="becomes another user, or makes a root file system")


class Run:
    """A started guest: its host end, the process that we started, and what it says on stderr."""

    def __init__(self, command: list[str], directory: Path, **start: object) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env={"PATH": SYSTEM_PATH}
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.guest = Guest(self.process.stdout, self.process.stdin, grace_s=3)
        self.guest.start(VARIABLES, str(directory), **start)  # type: ignore[arg-type]

    def pid(self) -> int:
        """The guest's own number on this machine: the process, or the child of `unshare`."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    def out(self, command: str, timeout_s: float = 20) -> str:
        return self.guest.exec(command, timeout_s).output

    def close(self) -> None:
        self.guest.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.errors.close()


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts guests by a command prefix, and ends them all."""
    with contextlib.ExitStack() as stack:

        def begin(prefix: list[str], directory: Path = tmp_path, **more: object) -> Run:
            run = Run([*prefix, *argv(toolbox())], directory, **more)
            stack.callback(run.close)
            return run

        yield begin


@pytest.fixture(params=["namespace", "plain"])
def run(request: pytest.FixtureRequest, start: Start) -> Run:
    return start(NAMESPACE if request.param == "namespace" else [])


@pytest.fixture
def init(start: Start) -> Run:
    """For what only PID 1 can do, and for what must not happen to the machine that tests it."""
    return start(NAMESPACE)


@pytest.fixture
def user(start: Start) -> Iterator[Run]:
    """PID 1 of a namespace as an ordinary user with at most 64 processes, in a folder of theirs."""
    folder = Path(tempfile.mkdtemp(prefix="swe-srl-test-"))
    os.chown(folder, UID, UID)
    yield start([*NAMESPACE, "prlimit", "--nproc=64", *USER], folder)
    shutil.rmtree(folder)


def processes(run: Run) -> int:
    """How many a namespace holds besides the guest."""
    return int(run.out("set -- /proc/[0-9]*; echo $#")) - 2  # the guest, and bash


# ------------------------------------------------------------------------------------------ one command


def test_output_is_merged_in_order_and_stdin_is_empty(run: Run) -> None:
    assert run.out("echo a; echo b >&2; cat; echo c") == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true", 0),
        ("exit 3", 3),
        ("(exit 200)", 200),
        ("no-such-command", 127),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
        ("set -e; false; echo on", 1),
        ("exec >&- 2>&-; exit 4", 4),
        ("exec true", 0),
        ("if", 2),
    ],
)
def test_exit_codes_are_bash_s(run: Run, command: str, code: int) -> None:
    result = run.guest.exec(command, 20)
    assert (result.exit_code, result.timed_out) == (code, False)
    assert run.out("echo on") == "on\n"


def test_errors_read_as_on_a_terminal(run: Run) -> None:
    assert run.out("nope") == "bash: line 1: nope: command not found\n"


def test_a_pipe_breaks_and_signals_are_the_default_ones(run: Run) -> None:
    assert run.out("yes | head -1; echo ${PIPESTATUS[0]}") == "y\n141\n"
    assert run.out("sleep 9 & kill -TERM $!; wait $!; echo $?") == "143\n"
    masks = re.findall(r"Sig(?:Ign|Blk):\s*(\w+)", run.out("grep -E 'SigIgn|SigBlk' /proc/self/status"))
    of_libc = 3 << 31  # 32 and 33, which no program can set, are as whoever started us left them
    assert [int(mask, 16) & ~of_libc for mask in masks] == [0, 0]


def test_binary_output_and_forged_frames_are_only_output(run: Run) -> None:
    assert run.out(r"printf 'a\xff\x00b'") == "a\ufffd\0b"
    forged = r"""printf '\0\0\0\x2b{"exit_code": 7, "timed_out": true, "size": 0}'; exit 5"""
    result = run.guest.exec(forged, 20)
    assert (result.exit_code, result.timed_out) == (5, False)
    assert result.output.endswith('"size": 0}')


def test_a_command_inherits_nothing_of_the_guest(run: Run) -> None:
    assert run.out("ls /proc/self/fd | sort -n").split() == [str(fd) for fd in (0, 1, 2, 3, *shell.FDS)]
    assert run.out("for fd in {3..255}; do (echo forged >&$fd) 2>/dev/null; done; echo on") == "on\n"
    assert not set(re.findall(r"^(\w+)=", run.out("env"), re.M)) - {*VARIABLES, "PWD", "OLDPWD", "SHLVL", "_"}


def test_redirections_of_the_command_itself_hold(run: Run) -> None:
    assert run.out("exec 3>a 10>b 255>c; echo 1 >&3; echo 2 >&10; echo 3 >&255; exec >d; echo 4") == ""
    assert run.out("cat a b c d") == "1\n2\n3\n4\n"


def test_a_command_may_close_everything(run: Run) -> None:
    run.out("export A=1")
    assert run.guest.exec('export A=2; for fd in {0..255}; do eval "exec $fd>&-"; done; exit 6', 20).exit_code == 6
    assert run.out("echo $A") == "1\n"


def test_a_megabyte_of_command(run: Run) -> None:
    text = "x" * 1_000_000
    assert run.out(f"cat > big <<'END'\n{text}\nEND\nwc -c < big").strip() == "1000001"


def test_a_command_with_nul_is_refused_in_words(run: Run) -> None:
    result = run.guest.exec("echo a\0b", 20)
    assert (result.exit_code, "NUL" in result.output) == (126, True)


def test_a_hundred_megabytes_lose_their_middle(run: Run) -> None:
    result = run.guest.exec("echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last", 60)
    assert result.output.startswith("first\nxxx")
    assert result.output.endswith("xxx\nlast\n")
    assert result.truncated
    assert f"{100_000_012 - shell.OUTPUT_CAP_BYTES} bytes cut out" in result.output
    assert len(result.output) < shell.OUTPUT_CAP_BYTES + 100


def test_a_flood_is_thrown_away_inside(init: Run) -> None:
    began = time.monotonic()
    result = init.guest.exec("yes", 1)
    assert (result.timed_out, result.exit_code, result.truncated) == (True, 124, True)
    assert time.monotonic() - began < 4
    peak_kb = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{init.pid()}/status").read_text())
    assert peak_kb is not None
    assert int(peak_kb[1]) < 40_000
    assert processes(init) == 0


# ------------------------------------------------------------------------------ what a command leaves behind


def left(run: Run, count: int) -> bool:
    """Whether a namespace comes to hold so many processes, and keeps them: some may still be starting."""
    seen: list[int] = []
    while len(seen) < 50 and seen[-5:] != [count] * 5:
        seen.append(processes(run))
        time.sleep(0.05)
    return seen[-5:] == [count] * 5


@pytest.mark.parametrize(
    "daemon",
    ["sleep 30 &", "setsid sleep 30 &", "(setsid bash -c '(sleep 30 &) &' &);", "nohup sleep 30 & disown;"],
)
def test_daemons_hold_no_command_and_go_with_a_timeout(init: Run, daemon: str) -> None:
    began = time.monotonic()
    result = init.guest.exec(f"{daemon} echo back", 20)
    assert ("back\n" in result.output, result.timed_out) == (True, False)
    assert time.monotonic() - began < 5
    assert left(init, 1)
    result = init.guest.exec(f"echo begun; {daemon} sleep 30", 0.5)
    assert ("begun\n" in result.output, result.timed_out) == (True, True)
    assert processes(init) == 0


def test_a_flood_from_the_background_holds_no_command_and_ends(init: Run) -> None:
    began = time.monotonic()
    assert not init.guest.exec("yes &", 20).timed_out
    assert init.out("echo on") == "on\n"
    assert time.monotonic() - began < 5
    assert left(init, 0)  # of SIGPIPE, once a limit of it was thrown away


def test_a_timeout_kills_the_group_without_a_namespace(run: Run, tmp_path: Path) -> None:
    result = run.guest.exec("echo begun; (sleep 1.5; touch late) & sleep 30", 0.5)
    assert (result.output, result.timed_out, result.exit_code) == ("begun\n", True, shell.TIMED_OUT)
    time.sleep(1.5)
    assert run.out("ls") == ""


def test_a_server_in_the_background_may_go_on_logging(init: Run) -> None:
    """Longer than a pipe holds, after its command ended: it must neither block nor die of SIGPIPE."""
    init.out("(for i in {1..40000}; do echo line $i; done; echo done > finished; sleep 30) &")
    for _ in range(100):
        if init.out("cat finished 2>/dev/null") == "done\n":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the server stands still, or died")
    assert processes(init) == 1


def test_orphans_are_reaped(init: Run) -> None:
    init.out("for i in {1..50}; do (true & exec true) & done; wait; (sleep 0.2 &)")
    assert left(init, 0)


def test_kill_everything_leaves_the_guest(init: Run) -> None:
    assert (
        init.guest.exec(
            "kill -9 -1; kill -9 1; kill -TERM 1; kill -INT 1; kill -STOP 1; kill -CHLD 1; exit 7", 20
        ).exit_code
        == 7
    )
    assert init.out("echo on") == "on\n"


@needs_root
def test_a_fork_bomb_is_cleared_and_named(user: Run) -> None:
    user.out("export A=1")
    for bomb in (":(){ :|:& };:", "(while true; do sleep 60 & done) &", ":(){ :|:& };: ; sleep 30"):
        late = user.guest.exec(bomb, 2).timed_out  # where its own shell had to wait for a process: all was killed then
        time.sleep(2)
        began = time.monotonic()
        result = user.guest.exec("/bin/echo $A", 20)
        assert (result.output[-2:], result.exit_code) == ("1\n", 0)
        assert late or "killed first" in result.output
        assert time.monotonic() - began < 5
        assert processes(user) == 0


@needs_root
@pytest.mark.parametrize("prefix", [USER, ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]], ids=["user", "root"])
def test_a_command_of_the_same_user_can_neither_read_nor_trace_nor_write_the_guest(
    start: Start, prefix: list[str]
) -> None:
    """Root without capabilities, as foreign images have it, too: no memory, no environment, no end of a pipe."""
    run = start([*NAMESPACE, *prefix], Path("/tmp"))
    attack = """
import ctypes, os
for name in ("mem", "environ", "maps", "fd/0", "fd/2", "fd/100", "fd/101", "root/etc/passwd"):
    for mode in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY):
        try:
            print(name, os.open("/proc/1/" + name, mode))
        except PermissionError:
            pass
libc = ctypes.CDLL(None)
print(libc.ptrace(16, 1, 0, 0), libc.syscall(438, libc.syscall(434, 1, 0), 101, 0))  # attach, pidfd_getfd
"""
    assert run.out(f"{PYTHON} -c '{attack}'") == "-1 -1\n"
    assert run.out("grep CapEff /proc/self/status").split() == ["CapEff:", "0" * 16]


# -------------------------------------------------------------------------------------- a shell that persists


def test_functions_options_and_exported_arrays_persist(run: Run) -> None:
    run.out(
        "mkdir 'a b'; cd 'a b'; export A=$'x\\n\"y\"'; f() { echo \"f $1\"; }; set -o pipefail; umask 027; "
        "declare -ax L=(1 '2 3')"
    )
    assert run.out('basename "$PWD"; echo "$A"; f 1; false | true; echo $?; umask; echo "${L[1]}"') == (
        'a b\nx\n"y"\nf 1\n1\n0027\n2 3\n'
    )


def test_errexit_persists_and_a_trap_of_the_command_s_own_runs(run: Run) -> None:
    run.out("set -e; export A=1")
    assert run.out("false; echo not reached") == ""
    assert run.out("set +e; export A=2; trap 'echo bye' EXIT; trap 'echo term' TERM; kill -TERM $$") == "term\nbye\n"
    assert run.out("echo $A") == "1\n"  # its EXIT trap took the place of ours


def test_a_huge_environment_is_no_end_of_the_shell(run: Run) -> None:
    run.out("export BIG=$(head -c 3000000 /dev/zero | tr '\\0' x)")
    assert run.out("echo ${#BIG}; /bin/true").startswith("3000000\nbash: line 1: /bin/true: Argument list too long")
    assert run.out("unset BIG; /bin/echo on") == "on\n"


def test_a_state_that_is_too_large_is_not_kept(run: Run) -> None:
    run.out("export A=1")
    assert "exceeds 16 MiB" in run.out("export A=2 BIG=$(head -c 20000000 /dev/zero | tr '\\0' x); echo")
    assert run.out("echo $A ${#BIG}") == "1 0\n"


def test_a_timeout_leaves_the_state_as_it_was(run: Run) -> None:
    run.out("export A=1")
    run.guest.exec("export A=2; sleep 30", 0.3)
    assert run.out("echo $A") == "1\n"


def test_a_deleted_directory_leads_back_to_the_first(run: Run, tmp_path: Path) -> None:
    run.out("mkdir d; cd d; rmdir ../d")
    assert run.out("pwd") == f"{tmp_path}\n"


def test_a_second_guest_goes_on_from_the_state_of_the_first(run: Run, start: Start) -> None:
    run.out("mkdir d; cd d; export A=1; f() { echo f; }")
    other = start([], state=run.guest.state())
    assert other.out("basename $PWD; echo $A; f; export A=2") == "d\n1\nf\n"
    assert run.out("echo $A") == "1\n"


# ------------------------------------------------------------------------------------------------ files


def test_write_then_read(run: Run, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    run.guest.write("new/deep/f.bin", data)
    assert run.guest.read(str(tmp_path / "new/deep/f.bin")) == data
    run.guest.write("new/deep/f.bin", b"short")
    assert run.guest.read("new/deep/f.bin") == b"short"
    run.guest.write("empty", b"")
    assert run.guest.read("empty") == b""
    run.guest.write("bytes-\udcff", b"x")
    assert run.out("cat bytes-*") == "x"


def test_an_existing_file_keeps_its_mode_and_its_link(run: Run, tmp_path: Path) -> None:
    run.out("echo a > real; chmod 750 real; ln -s real link")
    run.guest.write("link", b"b\n")
    assert run.out("cat real; stat -c %a real; readlink link") == "b\n750\nreal\n"


def test_read_and_write_raise_as_open_does(run: Run, tmp_path: Path) -> None:
    run.out("mkdir folder; mkfifo fifo; echo x > file; truncate -s 65M large")
    with pytest.raises(FileNotFoundError):
        run.guest.read("none")
    with pytest.raises(NotADirectoryError):
        run.guest.read("file/below")
    with pytest.raises(OSError, match="64 MiB"):
        run.guest.read("large")
    with pytest.raises(OSError, match="64 MiB"):
        run.guest.write("new", bytes(65 << 20))
    with pytest.raises(OSError, match="NUL"):
        run.guest.read("a\0b")
    for request in (run.guest.read, lambda path: run.guest.write(path, b"x")):
        with pytest.raises(IsADirectoryError):
            request("folder")
        for special in ("fifo", "/dev/zero", "/dev/tty", "/dev/null"):
            with pytest.raises(OSError, match=r"regular|No such device"):
                request(special)
    with pytest.raises(OSError, match="regular"):
        run.guest.write("/proc/self/oom_score_adj", b"1000")
    assert run.out("echo on") == "on\n"


@needs_root
def test_a_full_disk_leaves_the_file_and_the_shell(start: Start, tmp_path: Path) -> None:
    mount = ["unshare", "--mount", "bash", "-c", f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@"', "bash"]
    run = start([*mount, *NAMESPACE])
    run.guest.write("kept", b"before")
    run.out("export A=1; cat /dev/zero > fill; export A=2")
    with pytest.raises(OSError, match="space"):
        run.guest.write("kept", bytes(100_000))
    assert run.guest.read("kept") == b"before"
    assert run.out("echo $A") == "2\n"


# ------------------------------------------------------------------------------------------------ ends


def test_close_ends_the_guest_and_all_that_runs(init: Run) -> None:
    init.out("setsid sleep 987 & sleep 987 &")
    pid = init.pid()
    below = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    assert len(below) == 3
    init.guest.close()
    init.process.wait(2)
    assert not any(Path(f"/proc/{number}").exists() for number in below)
    with pytest.raises(SandboxError, match="gone"):
        init.guest.exec("true", 5)


def test_a_harness_that_dies_during_a_command_takes_the_guest_with_it(run: Run) -> None:
    """Both pipes close, as a kill of the harness closes them, while the guest waits for a command."""

    def wait() -> None:
        with pytest.raises(SandboxError, match="closed"):
            run.guest.exec("sleep 60", 60)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    began = time.monotonic()
    run.guest.close()
    run.process.wait(5)
    assert time.monotonic() - began < 2
    waiting.join(5)
    assert not waiting.is_alive()


def test_kill_9_of_the_harness_ends_the_guest(tmp_path: Path) -> None:
    harness = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_guest as t\n"
        "run = t.Run([*t.NAMESPACE, *t.argv(t.toolbox())], Path(sys.argv[2]))\n"
        "print(run.pid(), flush=True); run.out('setsid sleep 60 & sleep 60', 60)\n"
    )
    command = [sys.executable, "-c", harness, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        guest = int(process.stdout.readline())
        time.sleep(0.3)
        process.kill()
    deadline_s = time.monotonic() + 1
    while Path(f"/proc/{guest}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not Path(f"/proc/{guest}").exists()


def test_a_guest_that_is_killed_is_named(run: Run) -> None:
    os.kill(run.pid(), signal.SIGKILL)
    with pytest.raises(SandboxError, match="gone"):
        run.guest.exec("true", 5)
    with pytest.raises(SandboxError, match="gone"):
        run.guest.read("x")


def test_a_guest_that_stands_still_is_named_in_time(run: Run) -> None:
    os.kill(run.pid(), signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(SandboxError, match="in time"):
        run.guest.exec("true", 0.5)
    assert time.monotonic() - began < 6
    os.kill(run.pid(), signal.SIGKILL)


@pytest.mark.parametrize("speech", ["hello, I am a shell", r"\0\0\0\2[]", r"\0\0\0\x10{'size': 'many'}", ""])
def test_nonsense_is_no_answer(speech: str) -> None:
    with subprocess.Popen(["bash", "-c", f'printf "{speech}"'], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        guest = Guest(other.stdout, other.stdin)
        with pytest.raises(SandboxError, match=r"nonsense|gone"):
            guest.start()
        guest.close()


def test_requests_of_several_threads_wait_for_each_other(run: Run) -> None:
    seen: list[str] = []
    threads = [threading.Thread(target=lambda n=n: seen.append(run.out(f"echo {n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [f"{n}\n" for n in range(8)]


# --------------------------------------------------------------------------------- an image with nothing but bash


@pytest.fixture
def bare(tmp_path: Path) -> list[str]:
    """The command prefix of a root that holds bash, its libraries and the toolbox."""
    root = tmp_path / "root"
    for folder in ("dev", "proc", "etc", "bin", "testbed", "home", ".swe-srl"):
        (root / folder).mkdir(parents=True)
    (root / "dev/null").touch()
    listed = subprocess.run(["ldd", "/bin/bash"], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(", listed):
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    shutil.copy("/bin/bash", root / "bin/bash")
    (root / "etc/profile").write_text(
        "export ENVIRONMENT=testbed PATH=/opt/testbed/bin:$PATH; f() { echo f; }; echo hello\n"
    )
    mounts = (
        f"mount --bind /dev/null {root}/dev/null && mount -t proc proc {root}/proc && "
        f'mount --bind {toolbox()} {root}/.swe-srl && exec chroot {root} "$@"'
    )
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", mounts, "bash"]


@needs_root
@pytest.mark.parametrize("login", [False, True])
def test_it_runs_where_there_is_only_bash(bare: list[str], tmp_path: Path, login: bool) -> None:
    (tmp_path / "root/etc/ld.so.preload").write_text("/evil.so\n")  # of the image: must not reach the guest
    run = Run([*bare, *argv()], Path("/testbed"), login=login)
    try:
        (tmp_path / "root/etc/ld.so.preload").unlink()
        assert run.out("pwd; echo $HOME $ENVIRONMENT $PATH; declare -F f").split() == [
            *("/testbed", "/tmp"),
            *(["testbed", "/opt/testbed/bin:/usr/bin:/bin", "f"] if login else ["/usr/bin:/bin"]),
        ]
        run.guest.write("new/file", b"x")
        assert run.guest.read("/testbed/new/file") == b"x"
        assert run.guest.exec("while true; do :; done", 0.3).timed_out
        with pytest.raises(FileNotFoundError):
            run.guest.read("none")
        run.errors.seek(0)
        assert run.errors.read() == b""
    finally:
        run.close()


@needs_root
def test_a_profile_that_never_ends_and_an_image_without_bash_are_named(bare: list[str], tmp_path: Path) -> None:
    (tmp_path / "root/etc/profile").write_text("echo stuck; while true; do :; done\n")
    with pytest.raises(SandboxError, match="stuck"):
        Run([*bare, *argv()], Path("/testbed"), login=True, timeout_s=0.5)
    (tmp_path / "root/bin/bash").unlink()
    with pytest.raises(SandboxError, match="no bash"):
        Run([*bare, *argv()], Path("/testbed"))


def test_the_toolbox_is_small_and_readable_by_all() -> None:
    folder = toolbox()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)
    assert shutil.which("strip") is None or sum(path.stat().st_size for path in files) < 15 << 20
