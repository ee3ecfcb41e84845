"""What a log should not tell of the people who made it: home folders, e-mail addresses, keys, users' names.

`sensitive` counts them; `redact` puts neutral text in their place, the same for the same secret, so that commands
and observations still agree and a command could still be typed. A name is known from a home folder in the same
trajectory. It is a help, not a promise: another person's name and a password without a telling name are not found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from swe_srl.types import Action, Trajectory, Turn

__all__ = ["EMAIL", "HOME", "KEY", "NAME", "STANDING", "redact", "sensitive"]

HOME, EMAIL, KEY, NAME = "home folder", "e-mail address", "key", "user name"
STANDING = "user name that still stands"  # found, and left as it is

_Span = tuple[int, int, str]  # from, to, what stands there instead


@dataclass(frozen=True, slots=True)
class _Finder:
    """`spans` finds one thing exactly, and is asked only of a text that holds one of `needles`."""

    kind: str
    needles: tuple[str, ...]
    spans: Callable[[str], Iterator[_Span]]
    teaches: bool = False  # what it finds is a user's whole name


@dataclass(slots=True)
class _Found:
    counts: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)


def sensitive(trajectory: Trajectory) -> Counter[str]:
    """What `redact` would replace, by kind, and of users' names also what it would let stand."""
    return redact(trajectory)[1]


def redact(trajectory: Trajectory) -> tuple[Trajectory, Counter[str]]:
    """The trajectory without them, and how many there were, by kind. Nothing to redact: the same object."""
    found = _Found()
    texts = list(_texts(trajectory))
    cleaned = {text: _clean(text, _FINDERS, found) for text in _suspects(texts)}
    if not found.counts:
        return trajectory, found.counts
    cleaned |= _without_names(texts, [cleaned.get(text, text) for text in texts], found)
    return _mapped(trajectory, lambda text: cleaned.get(text, text)), found.counts


def _clean(text: str, finders: Iterable[_Finder], found: _Found) -> str:
    finders = [finder for finder in finders if any(needle in text for needle in finder.needles)]
    if finders and len(text) > _LONG:
        return "".join([_clean(part, finders, found) for part in _parts(text)])
    for finder in finders:
        pieces: list[str] = []
        done = 0
        for start, end, instead in finder.spans(text):
            found.counts[finder.kind] += 1
            if finder.teaches:
                found.names.add(text[start:end])
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
_MOUNTS = ("data", "nfs", "mnt", "net", "export", "srv", "usr", "var", "work", "scratch", "storage", "lustre", "gpfs")
# A name ends with a letter or a digit: a full stop after it is no part of it. Slashes and backslashes may be escaped,
# as they are in JSON. Not after a word's end (src/home/views.py) nor a dot (./home), but after \n, -I, /mnt/c, /data.
_NAME = r"(?P<name>\w(?:[\w.-]*\w)?)"
_FOLDER = re.compile(
    r"/(?:(?<![\w.~*]/)|(?<=-[IL]/)|(?<=\\[nrt]/)|(?<=/mnt/[a-z]/)|(?<=/[a-z]/)(?<!\w/[a-z]/)|"
    + "|".join(rf"(?<=/{mount}/)(?<![\w.~*]/{mount}/)" for mount in _MOUNTS)
    + r")(?:home|Users)\\?/"
    + _NAME
)
_ENCODED_FOLDER = re.compile(r"(?:(?<![\w.~*])|(?<=%[0-9A-Fa-f]{2}))%2[Ff](?:home|Users)%2[Ff]" + _NAME)
_WINDOWS_FOLDER = re.compile(
    r":(?:\\{1,4}|/)Users(?:\\{1,4}|/)(?P<name>\w[\w.-]*(?: [\w.-]+){0,2}(?=[\\/])|\w(?:[\w.-]*\w)?)"
)
# Claude Code names a project's folder of logs by its path: ~/.claude/projects/-home-NAME-project. Where `ls` prints
# one, nothing is before it; -home-… then has its line to itself, or ends a line of `ls -l`: it could be an option.
_DASHED_FOLDER = re.compile(
    r"(?:(?:(?<![\w-])|(?<=\\[nrt]))(?:-|[A-Za-z]--)Users|(?<=/)-home"
    r"|(?:^|(?<=\\n)|(?<=[0-9] ))-home(?=-[A-Za-z0-9]+-[\w.-]+/?(?:$|\\n)))-(?P<name>[A-Za-z0-9]+)",
    re.MULTILINE,
)


def _homes(pattern: re.Pattern[str]) -> Callable[[str], Iterator[_Span]]:
    def spans(text: str) -> Iterator[_Span]:
        for found in pattern.finditer(text):
            if found["name"].lower() not in _NOBODY:
                yield *found.span("name"), _USER

    return spans


# ----------------------------------------------------------------------------------------- users' names

_SHORT = 4  # characters: a shorter name is too often something else
# Home folders that are called as things are: as words they are not put aside, nor counted.
_PLAIN = """
    about account accounts alpha amazon apache assets auth azure back backend backup base bench beta blog book books
    bootstrap build builder builds cache center chat check class client cloud code common community conda config
    console contact content control core course courses cran current dashboard data database demo deploy deployer
    desktop detail details develop developer development device devops dist django docs document documents download
    downloads email engine error events express files filter first folder form forum frontend function game games
    gerrit github gitlab google group groups guest hadoop header hello help home host hosting http https images
    import index info install internal item items jenkins jobs json jupyter kafka kernel keras lab lambda last
    latest library light linux list live local login logout logs lost+found machine mail main manager master media
    menu message messages method mobile model models module monitor music mysql native network news nginx notebook
    notebooks object office online open operator oracle order orders other output package packages page pages panel
    password path pictures play player plugin plugins portal post postgres posts private process product products
    profile program programs project projects proxy python pytorch rails react redis release remote report reports
    repo repos research robot ruby script scripts search second secret secure server servers service services
    session settings setup share shop simple site sites smart software solr source spark sphinx stack staff stage
    staging standard start state static stats steam storage store stuff student students support system tables task
    tasks team temp template templates test tester testing tests text token tomcat tool tools train training tutorial
    ubuntu update upload uploads users utils value vendor version video videos view views virtual wagtail water
    webapp website welcome window windows work worker workflow workspace world writer
    all api bar baz bin box css dev doc etc foo ftp gui img ios iso key lib log mac max mcp min net new now old one
    ops opt org out php pip pkg pro put raw ref run sdk set sql src ssh svn sys tmp top two url usr var vim vms web
    win www xml yml
"""
_WORDS = frozenset(_PLAIN.split())
_ENDINGS = "com|org|net|io|dev|me|local|github"  # what follows a full stop after a name that is no module's


def _without_names(texts: Sequence[str], left: Sequence[str], found: _Found) -> dict[str, str]:
    """The texts, as their folders, addresses and keys `left` them, that also hold a home folder's name as a word.

    A name that others' words are made of, or code is, is let stand everywhere: half of it would be worse.
    """
    held = {name: [text for text in left if name in text] for name in found.names if _telling(name)}
    names = {name for name, holders in held.items() if holders}
    going = {name for name in names if len(name) >= _SHORT and not any(map(_in_code(name).search, held[name]))}
    finders = [_names(*one) for one in ((NAME, going, _USER), (STANDING, names - going, None)) if one[1]]
    changed: dict[str, str] = {}
    for text, one in zip(texts, left, strict=True) if finders else ():
        if (without := _clean(one, finders, found)) != one:
            changed[text] = _clean(without, _FINDERS, found)  # a name may have stood in the way of something
    return changed


def _telling(name: str) -> bool:
    return len(name) > 1 and name.lower() not in _WORDS and any(map(str.isalpha, name))


def _in_code(name: str) -> re.Pattern[str]:
    """The name as a part of an identifier, or as one: `name_1`, `name.x`, `import name`, `name(`, `name = 1`."""
    word = re.escape(name)
    return re.compile(
        rf"(?<=\w){word}|{word}(?=\w|\.(?!(?:{_ENDINGS})\b)\w|\(|\s?=)|(?<=\w\.){word}|"
        rf"(?<=\bimport ){word}|(?<=\bfrom ){word}|(?<=\bclass ){word}|(?<=\bdef ){word}"
    )


def _names(kind: str, names: Iterable[str], instead: str | None) -> _Finder:
    """Finds the names as words; `instead` None leaves them."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def spans(text: str) -> Iterator[_Span]:
        for word in pattern.finditer(text):
            yield *word.span(), word[0] if instead is None else instead

    return _Finder(kind, tuple(longest_first), spans)


# ------------------------------------------------------------------------------------------------- e-mail

_ADDRESS = "user@example.com"
# Names that no mail reaches, and mailboxes that nobody reads; git@github.com is how ssh is told where to go.
_NO_DOMAIN = re.compile(r"(?:.*\.)?(?:example\.(?:com|org|net)|test|invalid|localhost|local)")
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


# Found from the = or the colon on, as an address is from its @. What is called or indexed is code, not a secret.
_ASSIGNED = re.compile(r"[=:][ \t]{0,8}\\?[\"']?(?P<key>[\w+~-][\w+/.~-]{15,}+=*+)(?![(\[])")
_ASSIGNEE = re.compile(r"(?:(?i:api[_-]?key|token|secret)[A-Z_]*|(?i:secret(?:[_-]?access)?[_-]?key))\\?[\"']? ?\Z")
_LONGEST_ASSIGNEE = 64


def _assigned(text: str) -> Iterator[_Span]:
    """What is given to a name that tells of a secret: in code, a shell, JSON, YAML or a header."""
    for found in _ASSIGNED.finditer(text):
        start = found.start()
        named = _ASSIGNEE.search(text, max(0, start - _LONGEST_ASSIGNEE), start)
        if named and _random(found["key"]) and _REDACTED not in found["key"]:
            yield *found.span("key"), _REDACTED


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
# once, an order of magnitude quicker than Python looks for each. It learns the pattern anew for each trajectory, which
# is most of its time: what is here has to be short.
_SUSPECT = (
    r"/home|%2[Ff]home|Users|-home-|\w@[\w-]+\.|sk-|gh[pousr]_|_pat_|glpat-|AKIA|AIza|xox|hf_|eyJ|npm_|k_live_|k_test_|pypi-"
    r"|E KEY-|earer |API_KEY_|TOKEN_|SECRET_|(?i:ken|cret|[ist][_-]?key)[\\\"' ]{0,2}[=:]"
)


def _suspects(texts: list[str]) -> list[str]:
    """Those of the texts that may hold something: few. A long one is not copied to find out."""
    import pyarrow as pa  # here, because it takes longer to import than many a log to read
    from pyarrow import compute

    long = [text for text in texts if len(text) > _LONG]
    short = [text for text in texts if len(text) <= _LONG] if long else texts
    flags = compute.match_substring_regex(pa.array(short, pa.string()), _SUSPECT)
    return [*(short[at] for at in compute.indices_nonzero(flags).to_pylist()), *long]


_FINDERS = (
    _Finder(HOME, ("/home", "/Users"), _homes(_FOLDER), teaches=True),
    _Finder(HOME, ("Users",), _homes(_WINDOWS_FOLDER), teaches=True),
    _Finder(HOME, ("%2F", "%2f"), _homes(_ENCODED_FOLDER), teaches=True),
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
    _Finder(KEY, ("npm_",), _keys(r"(?<![A-Za-z0-9])(?P<key>npm_[A-Za-z0-9]{30,})")),
    _Finder(KEY, ("k_live_", "k_test_"), _keys(r"(?<![A-Za-z0-9])(?P<key>[rs]k_(?:live|test)_[A-Za-z0-9]{16,})")),
    _Finder(KEY, ("dckr_pat_",), _keys(r"(?<![A-Za-z0-9])(?P<key>dckr_pat_[\w-]{20,})")),
    _Finder(KEY, ("pypi-",), _keys(r"(?<![\w-])(?P<key>pypi-(?=[\w-]*[A-Z])[\w-]{32,})")),  # no package's name
    _Finder(KEY, ("eyJ",), _keys(r"(?<![\w-])(?P<key>eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})")),
    _Finder(KEY, ("PRIVATE KEY-----",), _private_keys),
    _Finder(KEY, ("Bearer ", "bearer "), _keys(r"[Bb]earer (?P<key>[\w.~+/-]{20,}=*)")),
    _Finder(KEY, ("oken", "OKEN", "ecret", "ECRET", "pi_", "piK", "pi-", "PI_", "PI-"), _assigned),
)
