"""Where commands run: the Sandbox seam, its table of backends, and what a sandbox's tree became.

A sandbox holds a git repository at `/testbed` and runs one command at a time in it. Directory, exported
variables, functions and options persist from one command to the next, as in a shell (`shell.py`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swe_srl.errors import ConfigError, SandboxError
from swe_srl.sandboxes import binary

TREE = "/testbed"
AUTO = "auto"  # the kind of a config that takes the first which isolates and works (`choice.py`)
START = "refs/swe-srl/start"  # keeps the first commit from `git gc`; what it is, the harness remembers itself
_GIT_DIR = f"{TREE}/.git/swe-srl"
_PATCH = f"{_GIT_DIR}/patch"
_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command did.

    `output` is stdout and stderr in the order written; `truncated` says that its middle was cut out.
    `exit_code` is bash's own (128 + n for signal n), and 124 when the time limit ended the command.
    """

    output: str
    exit_code: int
    timed_out: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ImageTree:
    """The tree that a foreign image holds at `/testbed`, as it is there.

    With `network` its sandboxes are in the daemon's default network, as the official graders of SWE-bench are; Docker's
    alone. What runs in them can then send away all that it can read.
    """

    image: str
    network: bool = False


Source = Path | ImageTree  # what a sandbox begins with: a copy of a folder in our own image, or an image's tree


class Wanted(Protocol):
    """An image that is to be had, or made ready, where its sandbox is opened: on this machine, or on a node."""

    def tree(self) -> ImageTree:
        """What its sandbox begins with. Raises SandboxError, "image missing: …" where it cannot be had."""


class Sandbox(Protocol):
    """One work tree and one shell. A sandbox that is gone raises SandboxError."""

    # The id of the commit that its tree began with, known since before its first command; "" where it had none. Who
    # prepares a tree for others sets it to what they begin with.
    base: str

    def exec(self, command: str, timeout_s: float) -> ExecResult:
        """Run a bash command; what it changed in the shell stays for the next one, unless it timed out."""

    def read(self, path: str) -> bytes:
        """A file's content. Raises OSError as `open` does."""

    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file, with the folders above it. Raises OSError."""

    def fork(self) -> Sandbox:
        """A second sandbox in the same state; from here on neither sees what the other does."""

    def close(self) -> None:
        """Free what it holds, processes too. Closing twice is fine."""


@contextmanager
def open_sandbox(kind: str, source: Source | str) -> Iterator[Sandbox]:
    """A fresh sandbox of the named kind on a copy of a folder, or on an image; closed at the end of the block.

    Raises ConfigError for a kind that is not in the table.
    """
    from swe_srl.sandboxes.reaper import sweep_once

    if kind not in BACKENDS:
        raise ConfigError(f"sandbox.kind: {kind!r} is none of {', '.join(BACKENDS)}")
    sweep_once(with_docker=kind == "docker")
    sandbox = BACKENDS[kind](Path(source) if isinstance(source, str) else source)
    try:
        yield sandbox
    finally:
        sandbox.close()


def start(kind: str, source: Source | Wanted) -> Sandbox:
    """One of a kind of the table, on this machine. Raises SandboxError."""
    return BACKENDS[kind](source if isinstance(source, Path | ImageTree) else source.tree())


def first_commit(sandbox: Sandbox) -> str:
    """What a backend keeps as `base`; it asks before anyone else can run something. Raises SandboxError."""
    try:
        said = sandbox.read(f"{TREE}/.git/{START}").decode().strip()  # of a tree of ours
    except OSError:
        git = f"git --git-dir={TREE}/.git"
        said = sandbox.exec(
            f"{git} rev-parse --verify --quiet HEAD && {git} update-ref {START} HEAD", 60
        ).output.strip()
    return said if _OBJECT.fullmatch(said) else ""


def changes(sandbox: Sandbox, timeout_s: float = 60, *, since: str | None = None) -> str:
    """The work tree against its start as a git patch: new, deleted and modified files, committed or not.

    `since` may be a `snapshot` of this sandbox, or of the one it was forked from. What the tree's `.gitignore` files
    name is left out. What the sandbox's commands made of its shell, of git's references, configuration, filters,
    hooks and own lists of ignored files has no say in it. A file that is no UTF-8 is a binary one: the patch is text,
    and whoever writes it to JSON loses nothing. Raises SandboxError where git cannot say, for example because `.git`
    was removed.
    """
    patch = _diff(sandbox, "", timeout_s, since)
    try:
        return patch.decode()
    except UnicodeDecodeError:
        return _diff(sandbox, binary.attributes(patch), timeout_s, since).decode("utf-8", "surrogateescape")


def _diff(sandbox: Sandbox, attributes: str, timeout_s: float, since: str | None) -> bytes:
    """The patch, with these lines of git attributes as the last word."""
    diff = "git diff --cached --binary --no-color --no-ext-diff --no-renames"
    named = f"mkdir -p {_GIT_DIR}/info && printf %s {shlex.quote(attributes)} >{_GIT_DIR}/info/attributes && "
    command = f"{named if attributes else ''}{diff} $start >{_PATCH} && echo $start"
    _git(sandbox, sandbox.base if since is None else since, command, timeout_s)
    try:
        return sandbox.read(_PATCH)
    except OSError as error:
        raise SandboxError(f"the patch of {TREE} cannot be read: {error.strerror}") from None


def snapshot(sandbox: Sandbox, timeout_s: float = 60) -> str:
    """The work tree as it is now, as the id of a git tree: what `changes` can tell the difference to.

    Nothing of it shows in the sandbox: no commit, no reference, no index of its own. Raises SandboxError.
    """
    return _git(sandbox, sandbox.base, "git write-tree", timeout_s)


# Works on an index of its own, in which all of the work tree is, by a git directory of its own, which shares only the
# objects. The repository's own would be asked what to run: file system monitors, filters, hooks, drivers of
# differences. $1: where to look for git last, $2: the id of what to begin with.
_OWN_GIT = rf"""
cd {TREE} || exit
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$1
export PATH LC_ALL=C GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_ATTR_NOSYSTEM=1 GIT_NO_REPLACE_OBJECTS=1
[ -d .git/objects ] || {{ echo "there is no git repository"; exit 1; }}
rm -rf {_GIT_DIR} && mkdir -p {_GIT_DIR}/refs && echo ref: refs/heads/none >{_GIT_DIR}/HEAD || exit
sha256=$'[core]\nrepositoryformatversion = 1\n[extensions]\nobjectformat = sha256'
[ ${{#2}} = 40 ] || echo "$sha256" >{_GIT_DIR}/config
export GIT_DIR={_GIT_DIR} GIT_WORK_TREE={TREE} GIT_OBJECT_DIRECTORY={TREE}/.git/objects
start=$(git rev-parse --verify "$2^{{tree}}") && git read-tree $start || exit
# A repository within that has no commit is refused, and all else with it: those within are left out then.
git add -A 2>/dev/null || {{
    mkdir -p {_GIT_DIR}/info
    find . -mindepth 2 -name .git | sed 's,^\.\(.*\)/\.git$,\1/,; s,[][*?\\],\\&,g' >{_GIT_DIR}/info/exclude
    git add -A
}} && """


def _git(sandbox: Sandbox, since: str, command: str, timeout_s: float) -> str:
    """The id of a git object that a command prints last. Raises SandboxError.

    It runs in a new bash with no environment, functions or options of the sandbox's shell: with POSIXLY_CORRECT no
    function can stand for `exec`, and no variable is asked where bash is.
    """
    if not since:
        raise SandboxError(f"nothing can tell what changed in {TREE}: it began without a git repository, or a commit")
    script = shlex.join(["--noprofile", "--norc", "-c", _OWN_GIT + command, "bash"])
    result = sandbox.exec(f'( POSIXLY_CORRECT=1; exec -c /proc/self/exe {script} "$PATH" {since} )', timeout_s)
    said = result.output.split()
    if result.exit_code != 0 or not said or not _OBJECT.fullmatch(said[-1]):
        raise SandboxError(f"git could not tell what changed in {TREE}: {result.output.strip()[-300:]}")
    return said[-1]


def _local(source: Source) -> Sandbox:
    from swe_srl.sandboxes.local import LocalSandbox

    if isinstance(source, ImageTree):
        raise SandboxError(f"sandbox local runs no image ({source.image}): that takes docker or runc")
    return LocalSandbox.start(source)


def _docker(source: Source) -> Sandbox:
    from swe_srl.sandboxes.docker import DockerSandbox

    if isinstance(source, ImageTree):
        return DockerSandbox.of_image(source.image, network=source.network)
    return DockerSandbox.start(source)


def _runc(source: Source) -> Sandbox:
    from swe_srl.sandboxes.runc import RuncSandbox

    if not isinstance(source, ImageTree):
        return RuncSandbox.start(source)
    if source.network:
        raise SandboxError(f"sandbox runc has no network ({source.image}): that takes docker")
    return RuncSandbox.of_image(source.image)


# kind in a config → what opens it. `local` isolates nothing and is used only where it is named.
BACKENDS: dict[str, Callable[[Source], Sandbox]] = {"docker": _docker, "runc": _runc, "local": _local}

# What an isolating backend may promise of whatever runs in its sandboxes. Each says which of these it keeps on
# this machine; the conformance suite tries every one that is declared, `doctor` and the docs name the others.
PROMISES: dict[str, str] = {
    "memory": "all processes and changed files of a sandbox together take no more memory than the limit",
    "process memory": "the data of one process (heap, stacks, private mappings) takes no more memory than the limit",
    "pids": "a sandbox has no more processes than the limit, and a fork bomb in one is not felt in another",
    "cpu": "a sandbox computes on no more processors than the limit",
    "disk": "work tree, /tmp and HOME together grow by no more than the limit, in bytes and in files",
    "file size": "no file grows beyond the limit",
    "no network": "nothing but the sandbox's own loopback can be reached",
    "no capabilities": "no process has or can get a capability, whatever its user id",
    "no new privileges": "no program can give more rights than its caller has: setuid is without effect",
    "system calls": "a list says which system calls there are; no mount, no tracing, no namespaces, no key rings",
    "read-only root": "nothing can be written but the work tree, /tmp, HOME and the kernel's own small file systems",
    "no host environment": "no variable of the process that started it can be read",
    "no host files": "no file, socket or device of the machine can be reached but those of the image",
    "cheap forks": "a fork copies what was changed and shares the rest",
    "nothing left": "no process, mount or file stays when the harness ends, kill -9 included",
}
