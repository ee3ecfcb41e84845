"""The process inside a sandbox: PID 1, which runs commands that arrive as frames on its stdin.

It imports nothing of ours and little of the standard library, because it is started in foreign images by an
interpreter that `toolbox.py` brings along. It knows nothing of shells either: the script that restores and
saves a shell's state comes with the first frame (`shell.py`), the state itself lives in this process's memory
and reaches each bash by memfds. So neither a full disk nor `rm -rf /tmp` can break it.

A frame is 4 bytes (the length of a JSON header, big-endian), the header, and `size` raw bytes that it names.
Commands have pipes of their own and inherit nothing of this process, so no output can be taken for a frame.
"""

from __future__ import annotations

import _json
import errno
import fcntl
import os
import resource
import select
import stat
import sys
import time

# What `typing`, `signal`, `json`, `contextlib` and `ctypes` import (enums, regular expressions) is half of the start
# of a process; so this one goes without, by the modules in C that they are made from.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any
else:
    import _signal as signal

FILE_CAP_BYTES = 64 << 20
STATE_CAP_BYTES = 16 << 20
TIMED_OUT = 124  # as timeout(1) has it
_LATE_BYTES, _LATE_PIPES = 16 << 20, 64
_OWN_FD = 100  # from here on are this process's own; commands inherit none of them
_SETTLE_S = 5.0  # how long a killed process may take to go
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS}
_IGNORED = signal.valid_signals() - _FAULTS - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
_CLEARED = b"[... no process could be started: all that earlier commands left running was killed first ...]\n"
_STATE_TOO_LARGE = b"\n[... the shell's state exceeds 16 MiB: it stays as it was before this command ...]\n"


class Gone(Exception):
    """The harness has closed its end."""


class _Suppressed:
    """`contextlib.suppress`."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> bool:
        return kind is not None and issubclass(kind, self._errors)


class Output:
    """Bytes of a command as they come, the middle dropped once they exceed the cap."""

    def __init__(self, cap_bytes: int) -> None:
        self._half = cap_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._cut = 0

    def feed(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        surplus = len(self._tail) - self._half
        if surplus > 0:
            del self._tail[:surplus]
            self._cut += surplus

    @property
    def truncated(self) -> bool:
        return self._cut > 0

    def content(self) -> bytes:
        note = f"\n[... {self._cut} bytes cut out ...]\n".encode() if self._cut else b""
        return bytes(self._head + note + self._tail)


# ------------------------------------------------------------------------------------------------ frames


def frame(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    text = _dumped({**header, "size": len(body)}).encode()
    return len(text).to_bytes(4, "big") + text + body


def _dumped(value: Any) -> str:
    """`json.dumps` of what headers hold."""
    if isinstance(value, str):
        return _json.encode_basestring_ascii(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_dumped(key)}: {_dumped(content)}' for key, content in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_dumped, value))}]"
    return repr(value)  # int, float


class _Parsing:
    """How `json.loads` sets up its scanner."""

    strict, object_hook, object_pairs_hook, parse_float, parse_int, parse_constant = True, None, None, float, int, float


_scan = _json.make_scanner(_Parsing)  # type: ignore[arg-type]


def _exactly(fd: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, min(size - len(data), 1 << 20))
        if not piece:
            raise Gone
        data += piece
    return bytes(data)


def _receive(fd: int) -> tuple[dict[str, Any], bytes]:
    header, _ = _scan(_exactly(fd, int.from_bytes(_exactly(fd, 4), "big")).decode(), 0)
    return header, _exactly(fd, header["size"])


def _send(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BrokenPipeError:
            raise Gone from None


# --------------------------------------------------------------------------------------------- processes


class Processes:
    """All that runs below this process, and the pipes that daemons of ended commands still write to.

    Those pipes are read and thrown away, up to a limit: a server in the background that logs to its terminal
    must neither die of SIGPIPE nor wait for a reader.
    """

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._init = os.getpid() == 1
        soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
        self.limit = sys.maxsize if soft == resource.RLIM_INFINITY else soft
        self._groups: set[int] = set()  # what commands started; of use only where this is not PID 1
        self._running: int | None = None
        self._status = 0
        self._late: dict[int, int] = {}  # pipe → how many bytes more are thrown away before it is closed
        self._wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)

    def until_request(self) -> None:
        """Reap and drain until a request (or the end of them) is there to be read."""
        self._poll.register(self._requests, select.POLLIN)
        while self._requests not in self._turn(None):
            pass

    def start(self, program: str, argv: list[str], env: Mapping[str, str], files: Mapping[int, int]) -> None:
        """The one command, in a session of its own, with just these files {its fd: ours}. Raises OSError."""
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in files.items()]
        self._running = os.posix_spawn(
            program, argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=_IGNORED | {signal.SIGCHLD}
        )
        if not self._init:
            self._groups = {group for group in self._groups if _lives(group)} | {self._running}

    def follow(self, pipe: int, output: Output, deadline_s: float) -> bool:
        """Read until the command ends, or False at the deadline. It ends with its shell: daemons may hold the pipe."""
        self._poll.register(self._requests, select.POLLRDHUP)
        self._poll.register(pipe, select.POLLIN)
        while self._running is not None:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            ready = self._turn(left_s)
            if self._requests in ready:
                raise Gone
            if pipe in ready and _read(pipe, output.feed) == 0:
                self._poll.unregister(pipe)
        return True

    def finish(self, pipe: int, output: Output) -> int:
        """The ended command's exit code; what is left in the pipe goes to the output."""
        room = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)  # no more: a daemon may write on for ever
        size = 1
        while room > 0 and size > 0:
            size = _read(pipe, output.feed)
            room -= size
        self._late[pipe] = _LATE_BYTES
        self._poll.register(pipe, select.POLLIN)
        if size == 0 or len(self._late) > _LATE_PIPES:
            self._close(pipe if size == 0 else next(iter(self._late)))
        code = os.waitstatus_to_exitcode(self._status)
        return 128 - code if code < 0 else code

    def kill_all(self) -> None:
        """Kill everything but this process, and wait for it. Where this is not PID 1: each command's group."""
        for target in [-1] if self._init else [-group for group in self._groups]:
            with _Suppressed(ProcessLookupError, PermissionError):  # nothing is left of it
                os.kill(target, signal.SIGKILL)
        self._groups.clear()
        deadline_s = time.monotonic() + _SETTLE_S
        while not self._reap() and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def crowded(self) -> bool:
        """Whether what is left running leaves little room for a command: the rest of a fork bomb.

        Its number goes up and down; where bash could start, but nothing from it, bash would wait half a minute.
        """
        return self._init and sum(name.isdigit() for name in os.listdir("/proc")) >= self.limit * 3 // 4

    def _turn(self, wait_s: float | None) -> set[int]:
        """Wait once; reap and drain what is ours; return which fds have something."""
        ready = {fd for fd, _ in self._poll.poll(None if wait_s is None else wait_s * 1000 + 1)}
        if self._wake in ready:
            _read(self._wake, lambda _: None)
            self._reap()
        for pipe in ready & self._late.keys():
            size = _read(pipe, lambda _: None)
            self._late[pipe] -= max(size, 0)
            if size == 0 or self._late[pipe] <= 0:
                self._close(pipe)
        return ready

    def _reap(self) -> bool:
        """Take every ended child, orphans too; whether none is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self._running:
                self._running, self._status = None, status

    def _close(self, pipe: int) -> None:
        del self._late[pipe]
        self._poll.unregister(pipe)
        os.close(pipe)


def _lives(group: int) -> bool:
    """Whether a process group still has members; else its number may become another's."""
    with _Suppressed(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def _read(pipe: int, feed: Callable[[bytes], None]) -> int:
    """How many bytes were there: 0 at the end, -1 for none now. Never waits: a command can read them too."""
    try:
        data = os.read(pipe, 65536)
    except BlockingIOError:
        return -1
    feed(data)
    return len(data)


# ------------------------------------------------------------------------------------------------ shell


class Shell:
    """Each command in a fresh bash on the state that the one before left."""

    def __init__(self, processes: Processes, header: Mapping[str, Any], state: bytes) -> None:
        self._processes = processes
        self._script: str = header["script"]  # reads the command and the state from these fds, saves to the third
        self._command_fd, self._state_fd, self._next_fd = header["fds"]
        self._whole = header["whole"].encode()  # how a state ends that was written to its end
        self._directory: str = header["directory"]
        self.state = state
        path = [*header["env"].get("PATH", "").split(":"), "/bin", "/usr/bin", "/usr/local/bin"]
        found = [f"{folder}/bash" for folder in path if os.access(f"{folder}/bash", os.X_OK)]
        if not found:
            raise FileNotFoundError(errno.ENOENT, f"there is no bash in {':'.join(path)}")
        self._bash = found[0]

    def run(
        self, command: bytes, timeout_s: float, cap_bytes: int, login: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """Answer and output. `login`: with this environment, as a login shell."""
        output = Output(cap_bytes)
        deadline_s = time.monotonic() + timeout_s
        argv = ["bash", *(["--noprofile", "--norc"] if login is None else ["--login"]), "-c", self._script]
        saved = _memfd(b"")
        try:
            pipe, cleared = self._start(argv, login or {}, command, saved)
            if cleared:
                output.feed(_CLEARED)
            timed_out = not self._processes.follow(pipe, output, deadline_s)
            if timed_out:
                self._processes.kill_all()
            code = self._processes.finish(pipe, output)
            if not timed_out and not self._keep(saved):
                output.feed(_STATE_TOO_LARGE)
        finally:
            os.close(saved)
        answer = {"exit_code": TIMED_OUT if timed_out else code, "timed_out": timed_out}
        return {**answer, "truncated": output.truncated}, output.content()

    def login(self, env: Mapping[str, str], timeout_s: float) -> None:
        """Let the first state be what the image's own profile makes of an environment. Raises OSError."""
        before = self.state
        answer, output = self.run(b":", timeout_s, 4096, env)
        if self.state == before:
            text = output.decode("utf-8", "replace")
            raise OSError(errno.EIO, f"the image's login profile did not finish: {answer}, output {text!r}")

    def _start(self, argv: list[str], env: Mapping[str, str], command: bytes, saved: int) -> tuple[int, bool]:
        """Start bash: its output's pipe, and whether all else had to be killed to make room. Raises OSError."""
        cleared = self._processes.crowded()
        if cleared:
            self._processes.kill_all()
        pipe, end = os.pipe2(os.O_CLOEXEC)
        files = {1: end, 2: end, self._command_fd: _memfd(command), self._state_fd: _memfd(self.state)}
        with _Suppressed(OSError):  # it was deleted: "/" then
            os.chdir(self._directory)
        try:
            for attempt in range(3):
                try:
                    self._processes.start(self._bash, argv, env, {**files, self._next_fd: saved})
                    os.set_blocking(pipe, False)
                    return pipe, cleared
                except OSError as error:
                    if attempt == 2 or error.errno not in (errno.EAGAIN, errno.ENOMEM):
                        os.close(pipe)
                        raise
                    self._processes.kill_all()
                    cleared = True
            raise AssertionError("the last attempt returns or raises")
        finally:
            os.chdir("/")  # no mount is kept busy between two commands
            for fd in set(files.values()):
                os.close(fd)

    def _keep(self, saved: int) -> bool:
        """Take over the state that a command left, if it is whole; False where it is too large."""
        size = os.fstat(saved).st_size
        if size > STATE_CAP_BYTES:
            return False
        state = os.pread(saved, size, 0)
        if state.endswith(self._whole):
            self.state = state
        return True


def _memfd(data: bytes) -> int:
    fd = os.memfd_create("swe-srl", os.MFD_CLOEXEC)
    os.write(fd, data)  # whole: no signal interrupts a write to memory
    return fd


# ------------------------------------------------------------------------------------------------ files


def _open(path: bytes, flags: int) -> int:
    """A regular file's fd; a fifo or a device must not make this process wait. Raises OSError."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and (flags == os.O_RDONLY or status.st_dev != os.stat("/proc").st_dev):
        return fd
    os.close(fd)
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "Not a regular file")


def _read_file(path: bytes) -> bytes:
    fd = _open(path, os.O_RDONLY)
    try:
        data = bytearray()
        while piece := os.read(fd, 1 << 20):
            data += piece
            if len(data) > FILE_CAP_BYTES:
                raise OSError(errno.EFBIG, f"File larger than {FILE_CAP_BYTES >> 20} MiB")
        return bytes(data)
    finally:
        os.close(fd)


def _write_file(path: bytes, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = _open(path, os.O_WRONLY | os.O_CREAT)
    try:
        try:  # room first: on a full disk the file stays what it was
            os.posix_fallocate(fd, 0, max(len(data), 1))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], done)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


# ------------------------------------------------------------------------------------------------ requests


class Server:
    """Answers requests, one at a time, until the harness closes its end."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = requests, answers
        self._processes = Processes(requests)
        self._shell: Shell | None = None
        self._directory = b"/"

    def serve(self) -> None:
        try:
            while True:
                self._processes.until_request()
                header, body = _receive(self._requests)
                try:
                    answer, data = self._answer(header, body)
                except OSError as error:
                    answer, data = {"errno": error.errno, "reason": error.strerror}, b""
                _send(self._answers, frame(answer, data))
        except Gone:
            pass
        finally:
            self._processes.kill_all()

    def _answer(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        kind = header["request"]
        if kind == "start":
            return self._start(header, body)
        assert self._shell is not None, "the first request is start"
        if kind == "exec":
            return self._shell.run(body, header["timeout_s"], header["cap_bytes"])
        if kind == "state":
            return {}, self._shell.state
        path = os.path.join(self._directory, header["path"].encode("utf-8", "surrogateescape"))
        if kind == "read":
            return {}, _read_file(path)
        assert kind == "write", f"unknown request {kind}"
        _write_file(path, body)
        return {}, b""

    def _start(self, header: dict[str, Any], state: bytes) -> tuple[dict[str, Any], bytes]:
        self._directory = header["directory"].encode("utf-8", "surrogateescape")
        self._processes.limit = min(self._processes.limit, header["processes"] or sys.maxsize)
        self._shell = Shell(self._processes, header, state)
        if header["login"]:
            self._shell.login(header["env"], header["timeout_s"])
        return {"pid": os.getpid(), "python": sys.version.split()[0]}, b""


def _hide() -> None:
    """Let no command of the same user trace this process, write its memory or read its environment."""
    import _ctypes

    prctl = _ctypes.dlsym(_ctypes.dlopen(None, os.RTLD_NOW), "prctl")  # type: ignore[arg-type]
    if _ctypes.call_function(prctl, (4, 0, 0, 0, 0)) != 0:  # PR_SET_DUMPABLE
        raise OSError("prctl(PR_SET_DUMPABLE) failed: commands could write this process's memory")


def main() -> None:
    _hide()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    requests, answers = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OWN_FD) for fd in (0, 1))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.closerange(3, _OWN_FD)
    os.closerange(answers + 1, 4096)
    os.chdir("/")
    Server(requests, answers).serve()


if __name__ == "__main__":
    main()
