"""What is found and what is not, that the rest stays as it was, and that a second pass finds nothing."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_srl.redact import EMAIL, HOME, KEY, NAME, STANDING, redact, sensitive
from swe_srl.types import Action, Outcome, Provenance, TaskLink, Trajectory, Turn

# Put together here, so that no scanner takes this file's own text for keys.
DIGITS = "0a1B2c3D4e5F6g7H8i9J"
LONG = DIGITS * 3
KEYS = [
    f"sk-{LONG[:48]}",
    f"sk-ant-api03-{LONG}",
    f"sk-proj-{LONG}_-x",
    f"ghp_{LONG[:36]}",
    f"gho_{LONG[:36]}",
    f"github_pat_{LONG}",
    f"glpat-{DIGITS}",
    "AKIA" + "0123456789ABCDEF",
    f"AIza{LONG[:35]}",
    f"xoxb-{DIGITS}-{DIGITS}",
    f"hf_{LONG[:34]}",
    f"eyJ{DIGITS}.eyJ{DIGITS}.{DIGITS}",
    f"npm_{LONG[:36]}",
    f"sk_live_{LONG[:24]}",
    f"sk_test_{LONG[:24]}",
    f"dckr_pat_{LONG[:27]}",
    f"pypi-AgEI{LONG}-_x",
]


def trajectory(text: str) -> Trajectory:
    """A trajectory that holds the text once, in an observation."""
    turn = Turn("I look.", Action("bash", {"command": "ls"}), text)
    return Trajectory("t", "Mend it.", (turn,), Provenance("f.jsonl", 1, "x"))


def cleaned(text: str) -> tuple[str, Counter[str]]:
    clean, counts = redact(trajectory(text))
    observation = clean.turns[0].observation
    assert observation is not None
    assert redact(clean) == (clean, Counter())
    assert sensitive(trajectory(text)) == counts
    return observation, counts


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cd /home/alice/x", "cd /home/user/x"),
        ("/home/alice.", "/home/user."),
        ("/Users/j.doe-2/x:/Users/Bob", "/Users/user/x:/Users/user"),
        ("gcc -I/home/alice/include", "gcc -I/home/user/include"),
        ("file:///home/alice/x /mnt/c/Users/alice/x /c/Users/alice", None),
        (r"\"a\n/home/alice/x\"", r"\"a\n/home/user/x\""),
        (r"{\"path\": \"\/home\/alice\/x\"}", r"{\"path\": \"\/home\/user\/x\"}"),
        (r"C:\Users\Alice\x", r"C:\Users\user\x"),
        (r"C:\\Users\\Alice B\\x", r"C:\\Users\\user\\x"),
        ("c:/Users/Alice/x", "c:/Users/user/x"),
        ("/root/.claude/projects/-home-alice-x/1.jsonl", "/root/.claude/projects/-home-user-x/1.jsonl"),
        ("/c/Users/alice/x", None),
        ("-Users-alice-code\nC--Users-alice-proj\n-home-alice-x\n", None),
        (r"ls\n-Users-alice-code\nC--Users-alice-proj\n-home-alice-x\n", None),
        ("drwxr-xr-x 2 root root 4096 Nov 23 06:23 -home-alice-my-x", None),
        ("/data/home/alice/x:/nfs/home/alice", None),
        ("file:%2F%2F%2FUsers%2Falice%2Fx?at=%2fhome%2falice", None),
    ],
)
def test_home_folders(text: str, clean: str | None) -> None:
    clean = clean or text.replace("alice", "user")
    seen, counts = cleaned(text)
    assert seen == clean
    assert set(counts) == {HOME}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Ann <ann.b+c@corp.co.uk>", "Ann <user@example.com>"),
        ('git config user.email "ann@corp.com"', 'git config user.email "user@example.com"'),
        ("Write to ann@corp.com.", "Write to user@example.com."),
        ("mailto:ann@corp.com", "mailto:user@example.com"),
        (r"\"a\nann@corp.com\"", r"\"a\nuser@example.com\""),
        ("https://corp.com\nann@corp.com", "https://corp.com\nuser@example.com"),
        ("Ann <1234567+anna@users.noreply.github.com>", "Ann <user@example.com>"),
    ],
)
def test_addresses(text: str, clean: str) -> None:
    assert cleaned(text) == (clean, Counter({EMAIL: 1}))


@pytest.mark.parametrize("key", KEYS)
def test_keys(key: str) -> None:
    for text in ("{}", "export X='{}'\n", '{{"k": "{}"}}', "a {} b"):
        assert cleaned(text.format(key)) == (text.format("REDACTED_KEY"), Counter({KEY: 1}))


def test_keys_by_what_is_before_them() -> None:
    for text in (
        "Authorization: Bearer {}",
        "MY_API_KEY={}",
        'SECRET_KEY = "{}"',
        r"{{\"ACCESS_TOKEN\": \"{}\"}}",
        "AWS_SECRET_ACCESS_KEY={}",
        "aws_secret_access_key = {}",
        "GITHUB_TOKEN: {}",
        "token:     '{}'",
        '"apiKey": "{}"',
        r"\"api-key\": \"{}\"",
        "x-api-key: {}",
    ):
        for secret in (LONG, LONG[:16]) if "Bearer" not in text else (LONG,):
            assert cleaned(text.format(secret)) == (text.format("REDACTED_KEY"), Counter({KEY: 1}))


def test_private_keys_lose_their_body() -> None:
    begin, end = "-----BEGIN RSA PRIVATE " + "KEY-----", "-----END RSA PRIVATE " + "KEY-----"
    body = f"{LONG}\n{LONG}\nab=="
    for text in (f"{begin}\n{body}\n{end}\nnext", f"{begin}\nProc-Type: 4,ENCRYPTED\n\n{body}\n{end}\nnext"):
        assert cleaned(text) == (f"{begin}\nREDACTED_KEY\n{end}\nnext", Counter({KEY: 1}))
    escaped = rf"{begin}\n{LONG}\n{LONG}\nab==\n{end}\n"
    assert cleaned(escaped)[0] == rf"{begin}\nREDACTED_KEY\n{end}\n"
    assert cleaned(f"{begin}\n{LONG}\n{LONG}")[0] == f"{begin}\nREDACTED_KEY"
    assert cleaned(f'x = "{begin}" + body')[1] == {}


@pytest.mark.parametrize(
    "text",
    [
        *("/home/ubuntu/x", "/home/runner/work", "/Users/user", "/home", "ls /home/", "src/home/views.py", "./home/x"),
        *("https://x.org/home/about", "~/home/x", r"C:\Users\Public\x", "/home/$USER", "/home/<you>"),
        *("@pytest.mark.skip", "npm i @types/node@1.2.3", "A@B.T", "x@y.mean()", "a @ b.co", "git@github.com:a/b.git"),
        *("user@example.com", "bob@mail.example.org", "1+bob[bot]@users.noreply.github.com", "noreply@corp.com"),
        *("https://me@corp.com/x", "ssh://git@corp.com", "actions/checkout@v4"),
        *("sk-toggleable__content-arrow-of-something", "risk-0123456789012345678901234", "hf_hub_download"),
        *("API_KEY=os.environ.get_the_key_there", "TOKEN = tokenizer_of_this_module_here", "Bearer of good tidings"),
        *("0c7cb7a5e1b1d7b0b7e6f0a1a2a3a4a5a6a7a8a9", "eyJ.eyJ.x", "xoxo"),
        *("src/data/home/views.py", "src%2Fhome%2Fviews", "java -home-dir-x y", "-home-page-url: x"),
        *("token = tokens_of_2024.first_of_many(x)", "secret: /usr/lib/python3.11/site-packages/x.py"),
        *("pypi-publish-action-of-2024-11-23-again", "npm_config_user_agent_and_1_2_3_others"),
    ],
)
def test_what_is_nobodys(text: str) -> None:
    whole = trajectory(text)
    assert redact(whole)[0] is whole
    assert not sensitive(whole)


def test_every_text_of_a_trajectory() -> None:
    path = "/home/alice/x"
    whole = Trajectory(
        id=path,
        issue=path,
        turns=(Turn(path, Action("bash", {"command": f"cat {path}"}), path), Turn(path, None, None)),
        provenance=Provenance(path, 1, "x"),
        task=TaskLink("a__b-1", "a/b"),
        outcome=Outcome(None, path, f"+{path}\n"),
    )
    clean, counts = redact(whole)
    assert "alice" not in repr(clean)
    assert counts == {HOME: 9}
    assert replace(clean, turns=whole.turns, id="", issue="").task == whole.task
    assert redact(clean) == (clean, Counter())


def test_a_home_folders_name_is_replaced_as_a_word_everywhere() -> None:
    shown = "drwxr-xr-x  5 roblou  staff  160 Nov 23 06:23 x\nroblou@mac ~ % git clone https://github.com/roblou/x"
    whole = trajectory("/Users/roblou/x")
    whole = replace(whole, issue="roblou.", turns=(*whole.turns, Turn("", Action("bash", {"command": shown}), shown)))
    clean, counts = redact(whole)
    assert "roblou" not in repr(clean)
    assert counts == {HOME: 1, NAME: 7}
    assert redact(clean) == (clean, Counter())
    assert redact(replace(whole, turns=whole.turns[1:]))[1] == {}  # no folder tells that it is a name


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("/home/kitchen/x kitchen import kitchen", {HOME: 1, STANDING: 2}),
        ("/home/kitchen/x kitchen.sink, my kitchen", {HOME: 1, STANDING: 2}),
        ("/home/kitchen/x kitchen_1, my kitchen", {HOME: 1, STANDING: 1}),
        ("/home/kitchen/x kitchen.com, my kitchen", {HOME: 1, NAME: 2}),
        ("/home/rob/x rob", {HOME: 1, STANDING: 1}),
        ("/home/project/x the project", {HOME: 1}),
        ("/home/runner/x runner", {}),
    ],
)
def test_a_name_that_may_be_something_else_stands_and_is_counted(text: str, counts: dict[str, int]) -> None:
    seen, found = cleaned(text)
    assert found == counts
    assert NAME in counts or seen.endswith(text[text.index("x") :])


def test_a_name_with_a_full_stop_does_not_make_a_key_of_its_neighbours() -> None:
    cleaned(f"/Users/j.doe/x sk-{DIGITS[:8]}-j.doe-{LONG[:20]}")


def test_a_long_text_is_cleaned_as_a_short_one_is() -> None:
    row = "drwxr-xr-x 5 roblou staff /Users/roblou/x\n"
    n = (1 << 20) // len(row) + 10
    seen, counts = cleaned(row * n)
    assert seen == row.replace("roblou", "user") * n
    assert counts == {HOME: n, NAME: n}


words = st.sampled_from(
    [
        *KEYS,
        "/home/alice",
        "ann@corp.com",
        "C:\\Users\\Ann",
        " ",
        "\n",
        "=",
        '"',
        "\\n",
        "/",
        "@",
        ".",
        "API_KEY",
        "x1",
        "alice",
        "Ann",
        "_",
        "-",
        "token: ",
        "%2FUsers%2Falice",
        "-Users-alice-x",
    ]
)


@given(st.lists(words, max_size=8).map("".join))
def test_a_second_pass_finds_nothing(text: str) -> None:
    cleaned(text)


@given(st.lists(st.sampled_from([*KEYS, "/home/alice/a b", "ann@corp.com", "it's", "x=1"]), max_size=4))
def test_a_command_can_still_be_typed(words: list[str]) -> None:
    assert len(shlex.split(cleaned(shlex.join(words))[0])) == len(words)
