"""What a log should not tell of the people who made it: home folders, e-mail addresses, keys.

`sensitive` counts them; `redact` puts neutral text in their place, the same for the same secret, so that commands
and observations still agree and a command could still be typed. It is a help, not a promise: a user's name outside
of a path (`ls -l` prints it) and a password without a telling name are not found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, compress

from swe_srl.types import Action, Trajectory, Turn

__all__ = ["EMAIL", "HOME", "KEY", "redact", "sensitive"]

HOME, EMAIL, KEY = "home folder", "e-mail address", "key"

_Span = tuple[int, int, str]  # from, to, what stands there instead


@dataclass(frozen=True, slots=True)
class _Finder:
    """`spans` finds one thing exactly, and is asked only of a text that holds one of `needles`."""

    kind: str
    needles: tuple[str, ...]
    spans: Callable[[str], Iterator[_Span]]


def sensitive(trajectory: Trajectory) -> Counter[str]:
    """How many home folders, e-mail addresses and keys `redact` would replace, by kind."""
    return redact(trajectory)[1]


def redact(trajectory: Trajectory) -> tuple[Trajectory, Counter[str]]:
    """The trajectory without them, and how many there were, by kind. Nothing to redact: the same object."""
    counts: Counter[str] = Counter()
    cleaned = {text: _clean(text, counts) for text in _suspects(list(_texts(trajectory)))}
    if not counts:
        return trajectory, counts
    return _mapped(trajectory, lambda text: cleaned.get(text, text)), counts


def _clean(text: str, counts: Counter[str]) -> str:
    finders = [finder for finder in _FINDERS if any(needle in text for needle in finder.needles)]
    if finders and len(text) > _LONG:
        return "".join([_clean(part, counts) for part in _parts(text)])
    for finder in finders:
        pieces: list[str] = []
        done = 0
        for start, end, instead in finder.spans(text):
            counts[finder.kind] += 1
            pieces += (text[done:start], instead)
            done = end
        text = "".join((*pieces, text[done:])) if pieces else text
    return text


_LONG = 1 << 20  # characters; what is found in a longer text is never held all at once


def _parts(text: str) -> Iterator[str]:
    """The text cut after a line's or a word's end where there is one, so that nothing is cut in two."""
    start = 0
    while start < len(text):
        end = start + _LONG
        if end < len(text):
            end = 1 + next((at for mark in "\n " if (at := text.rfind(mark, start, end)) > start), end - 1)
        yield text[start:end]
        start = end


# ------------------------------------------------------------------------------------- a trajectory's texts


def _texts(trajectory: Trajectory) -> Iterator[str]:
    """Every text that `_mapped` changes."""
    yield from (trajectory.id, trajectory.issue, trajectory.provenance.file)
    yield from (trajectory.outcome.exit_status or "", trajectory.outcome.patch or "")
    for turn in trajectory.turns:
        yield turn.thought
        if turn.action is not None:
            yield from turn.action.arguments.values()
        if turn.observation is not None:
            yield turn.observation


def _mapped(trajectory: Trajectory, clean: Callable[[str], str]) -> Trajectory:
    outcome, provenance = trajectory.outcome, trajectory.provenance
    return replace(
        trajectory,
        id=clean(trajectory.id),
        issue=clean(trajectory.issue),
        turns=tuple(_mapped_turn(turn, clean) for turn in trajectory.turns),
        provenance=replace(provenance, file=clean(provenance.file)),
        outcome=replace(
            outcome,
            exit_status=outcome.exit_status and clean(outcome.exit_status),
            patch=outcome.patch and clean(outcome.patch),
        ),
    )


def _mapped_turn(turn: Turn, clean: Callable[[str], str]) -> Turn:
    action = turn.action
    if action is not None:
        action = Action(action.tool, {name: clean(value) for name, value in action.arguments.items()})
    return Turn(clean(turn.thought), action, None if turn.observation is None else clean(turn.observation))


# --------------------------------------------------------------------------------------------- home folders

_USER = "user"
# Accounts that are nobody: of images, of CI machines, of documentation.
_NOBODY = frozenset(
    {
        *("user", "username", "user_name", "name", "yourname", "your_name", "your-name", "you", "me", "example"),
        *("root", "admin", "administrator", "app", "nonroot", "nobody", "shared", "public", "default", "runneradmin"),
        *("runner", "ubuntu", "debian", "ec2-user", "vagrant", "vscode", "codespace", "gitpod", "jovyan", "node"),
        *("swe-bench", "swe-agent", "openhands", "agent", "coder", "git", "docker", "travis", "circleci", "linuxbrew"),
    }
)
# A name ends with a letter or a digit: a full stop after it is no part of it. Slashes and backslashes may be escaped,
# as they are in JSON. Not after a word's end (src/home/views.py) nor a dot (./home), but after \n, -I and /mnt/c.
_NAME = r"(?P<name>\w(?:[\w.-]*\w)?)"
_FOLDER = re.compile(
    r"/(?:(?<![\w.~*]/)|(?<=-[IL]/)|(?<=\\[nrt]/)|(?<=/mnt/[a-z]/)|(?<=[^\w]/[a-z]/))(?:home|Users)\\?/" + _NAME
)
_WINDOWS_FOLDER = re.compile(
    r":(?:\\{1,4}|/)Users(?:\\{1,4}|/)(?P<name>\w[\w.-]*(?: [\w.-]+){0,2}(?=[\\/])|\w(?:[\w.-]*\w)?)"
)
# Claude Code names a project's folder of logs by its path: ~/.claude/projects/-home-NAME-project
_DASHED_FOLDER = re.compile(r"(?:/-(?:home|Users)|/[A-Za-z]--Users)-(?P<name>[A-Za-z0-9]+)")


def _homes(pattern: re.Pattern[str]) -> Callable[[str], Iterator[_Span]]:
    def spans(text: str) -> Iterator[_Span]:
        for found in pattern.finditer(text):
            if found["name"].lower() not in _NOBODY:
                yield *found.span("name"), _USER

    return spans


# ------------------------------------------------------------------------------------------------- e-mail

_ADDRESS = "user@example.com"
# Names that no mail reaches, and mailboxes that nobody reads; git@github.com is how ssh is told where to go.
_NO_DOMAIN = re.compile(r"(?:.*\.)?(?:example\.(?:com|org|net)|test|invalid|localhost|local|noreply\.github\.com)")
_NO_MAILBOX = frozenset({"git", "hg", "svn", "noreply", "no-reply", "donotreply", "do-not-reply"})
# What follows an @ in code (A@B.T, package@v1.x) is no domain: only endings that addresses have are taken for one.
_DOMAIN = re.compile(
    r"(?<=[\w+-])@(?P<domain>(?:[A-Za-z0-9-]+\.)+(?:com|org|net|edu|gov|mil|io|dev|ai|app|info|biz|xyz|[a-z]{2}))"
    r"(?![\w(\[-]|\.\w)"
)
_MAILBOX = re.compile(r"[A-Za-z0-9][\w.+-]*\Z")
_LONGEST_MAILBOX = 64
_URL_USER = re.compile(r"://[^\s/?#<>\"']*\Z")  # https://me@host is an address of another kind


def _emails(text: str) -> Iterator[_Span]:
    """Found from the @ on: a pattern that begins with the mailbox would be tried at every word."""
    for found in _DOMAIN.finditer(text):
        at = found.start()
        mailbox = _MAILBOX.search(text, max(0, at - _LONGEST_MAILBOX), at)
        if mailbox is None:
            continue
        start = mailbox.start()
        if text[start - 1 : start] == "\\" and mailbox[0][0] in "nrt":
            start += 1  # an escaped line end before the mailbox
        in_url = _URL_USER.search(text, max(0, at - _LONGEST_MAILBOX), start)
        reserved = _NO_DOMAIN.fullmatch(found["domain"].lower()) or text[start:at].lower() in _NO_MAILBOX
        if start < at and not in_url and not reserved:
            yield start, found.end(), _ADDRESS


# -------------------------------------------------------------------------------------------------- keys

_REDACTED = "REDACTED_KEY"


def _random(text: str) -> bool:
    """Whether it can be a secret: letters and several digits, as no word and no name of a class has."""
    return sum(map(str.isdigit, text)) >= 3 and any(map(str.isalpha, text))


def _keys(pattern: str) -> Callable[[str], Iterator[_Span]]:
    compiled = re.compile(pattern)

    def spans(text: str) -> Iterator[_Span]:
        for found in compiled.finditer(text):
            if _random(found["key"]):
                yield *found.span("key"), _REDACTED

    return spans


def _private_keys(text: str) -> Iterator[_Span]:
    """The lines between BEGIN and END, which stay. A block that was cut off has no END."""
    for found in _PEM.finditer(text):
        yield *found.span("key"), _REDACTED


_BREAK = r"(?:\\[nr]|\s)+"
_PEM = re.compile(
    rf"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----{_BREAK}(?P<key>(?:[\w-]+: [^\\\n]+{_BREAK})*"  # header lines
    rf"[A-Za-z0-9+/=]{{16,}}(?:{_BREAK}[A-Za-z0-9+/=]{{16,}})*(?:{_BREAK}[A-Za-z0-9+/=]+(?={_BREAK}-----END))?)"
)

# All finders' needles, and a little more where a needle alone stands in every other text: RE2 looks for them all at
# once, an order of magnitude quicker than Python looks for each.
_SUSPECT = (
    r"/home|Users|-home-|\w@[\w-]+\.|sk-|gh[pousr]_|github_pat_|glpat-|AKIA|AIza|xox|hf_|eyJ"
    r"|PRIVATE KEY-----|[Bb]earer |API_KEY|TOKEN|SECRET"
)


def _suspects(texts: list[str]) -> Iterator[str]:
    """Those of the texts that may hold something: few. A long one is not copied to find out."""
    import pyarrow as pa  # here, because it takes longer to import than many a log to read
    from pyarrow import compute

    short = [text for text in texts if len(text) <= _LONG]
    flags = compute.match_substring_regex(pa.array(short, pa.string()), _SUSPECT)
    return chain(compress(short, flags.to_pylist()), (text for text in texts if len(text) > _LONG))


_FINDERS = (
    _Finder(HOME, ("/home", "/Users"), _homes(_FOLDER)),
    _Finder(HOME, ("Users",), _homes(_WINDOWS_FOLDER)),
    _Finder(HOME, ("-home-", "-Users-"), _homes(_DASHED_FOLDER)),
    _Finder(EMAIL, ("@",), _emails),
    _Finder(KEY, ("sk-",), _keys(r"(?<![\w-])(?P<key>sk-[A-Za-z0-9_-]{20,})")),
    _Finder(
        KEY, ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), _keys(r"(?<![A-Za-z0-9])(?P<key>gh[pousr]_[A-Za-z0-9]{20,})")
    ),
    _Finder(KEY, ("github_pat_",), _keys(r"(?P<key>github_pat_[A-Za-z0-9_]{20,})")),
    _Finder(KEY, ("glpat-",), _keys(r"(?P<key>glpat-[\w-]{20,})")),
    _Finder(KEY, ("AKIA",), _keys(r"(?<![A-Za-z0-9])(?P<key>AKIA[0-9A-Z]{16})(?![A-Za-z0-9])")),
    _Finder(KEY, ("AIza",), _keys(r"(?<![A-Za-z0-9])(?P<key>AIza[\w-]{35})")),
    _Finder(KEY, ("xox",), _keys(r"(?<![A-Za-z0-9])(?P<key>xox[abeprs]-[\w-]{10,})")),
    _Finder(KEY, ("hf_",), _keys(r"(?<![A-Za-z0-9])(?P<key>hf_[A-Za-z0-9]{30,})")),
    _Finder(KEY, ("eyJ",), _keys(r"(?<![\w-])(?P<key>eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})")),
    _Finder(KEY, ("PRIVATE KEY-----",), _private_keys),
    _Finder(KEY, ("Bearer ", "bearer "), _keys(r"[Bb]earer (?P<key>[\w.~+/-]{20,}=*)")),
    _Finder(
        KEY,
        ("API_KEY", "TOKEN", "SECRET"),
        _keys(r"(?:API_KEY|TOKEN|SECRET)[A-Z_]*\\?[\"']?\s?[=:]\s?\\?[\"']?(?P<key>[\w+/.~-]{20,}=*)"),
    ),
)
