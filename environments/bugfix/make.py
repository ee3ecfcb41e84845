"""mutations/ and packages/ → tasks.jsonl, told.jsonl and spots.jsonl: `python environments/bugfix/make.py`.

Each mutation is put into a copy of its package. The issue's {want} and {got} are what the call really gives
before and after; the tests of both lists are what pytest says of the broken copy; the gold patch is git's
diff from the broken copy to the package; `difficulty` follows from that patch, `clarity` from the issue.
told.jsonl has those tasks whose fix is one line for another, with issues that tell it; spots.jsonl those of them whose
fix is a few signs in a function, with issues that name the function and the signs.
"""

from __future__ import annotations

import difflib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from git import Repo
from unidiff.patch import PatchSet

HERE = Path(__file__).resolve().parent
SPOT = 6  # tokens at most, of what is wrong and what is right
TEST_COMMAND = "python -m pytest -rA"


def main() -> None:
    rows = []
    split = tomllib.loads((HERE / "split.toml").read_text())
    for package in [package for packages in split.values() for package in packages]:
        mutations = tomllib.loads((HERE / "mutations" / f"{package}.toml").read_text())["task"]
        for number, mutation in enumerate(mutations, 1):
            rows.append(make(package, number, mutation))
            print(rows[-1]["task_id"], "|", rows[-1]["issue"], file=sys.stderr)
    write_rows("tasks.jsonl", rows)
    of_a_line = [row for row in rows if row["difficulty"] in ("token", "line")]
    write_rows("told.jsonl", [told(row) for row in of_a_line])
    write_rows("spots.jsonl", [row for row in map(spot, of_a_line) if row])


def write_rows(name: str, rows: list[dict[str, Any]]) -> None:
    (HERE / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def told(row: dict[str, Any]) -> dict[str, Any]:
    """The task with an issue that says which line is to be which."""
    file = PatchSet(row["gold_patch"])[0]
    old, new = (next(line.value.strip() for line in file[0] if line.line_type == sort) for sort in "-+")
    return {**row, "issue": f"In `{file.path}` `{old}` should be `{new}`.", "clarity": "told"}


def spot(row: dict[str, Any]) -> dict[str, Any] | None:
    """The task with an issue that says which few signs of which function are to be which; None if they are many."""
    file = PatchSet(row["gold_patch"])[0]
    removed, added = (next(line.value for line in file[0] if line.line_type == sort) for sort in "-+")
    broken = (HERE / "packages" / row["repository"] / file.path).read_text().replace(added, removed)
    function = re.findall(r"^def (\w+)", broken[: broken.index(removed) + len(removed)], re.MULTILINE)[-1]
    text = re.search(rf"^def {function}\(.*?(?:\n\n|\Z)", broken, re.MULTILINE | re.DOTALL)
    assert text
    old, new = (re.findall(r"\w+|.", line.strip()) for line in (removed, added))
    first, last = 0, 0  # what both begin and end with
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    while True:  # what stands beside it makes it the only one
        wrong, good = ("".join(part[first : len(part) - last]) for part in (old, new))
        if good and alone(wrong, text[0]):
            break
        if first == last == 0:
            return None
        first, last = (first - 1, last) if first else (first, last - 1)
    if max(len(old), len(new)) - first - last > SPOT:
        return None
    issue = f"In `{function}` of `{file.path}` `{wrong}` should be `{good}`."
    return {**row, "issue": issue, "clarity": "spot"}


def alone(wrong: str, function: str) -> bool:
    """Whether sed finds it once in the function, under other names too; a dot stands for any sign there."""
    if not wrong.strip() or len(re.findall(re.escape(wrong).replace(r"\.", "."), function)) != 1:
        return False
    words = tomllib.loads((HERE / "words.toml").read_text())
    return not any(wrong in word for kind in words.values() for word in kind.split())


def make(package: str, number: int, mutation: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, package)
        shutil.copytree(HERE / "packages" / package, tree, ignore=shutil.ignore_patterns("__pycache__"))
        want = answer(tree, package, mutation["call"])
        places = mutation.get("places", [mutation])
        whole, broken = states(tree / package, places)
        write(broken)
        with Repo.init(tree) as repo:
            repo.git.add("-A")
            write(whole)
            patch = repo.git.diff("--no-color", strip_newline_in_stdout=False)
        for place in places if len(places) > 1 else []:
            write(states(tree / package, [other for other in places if other != place])[1])
            assert run_tests(tree)[1], f"no test sees what is left of {mutation}"
            write(whole)
        write(broken)
        got = answer(tree, package, mutation["call"])
        assert got != want, mutation
        passed, failed = run_tests(tree)
        assert failed, f"no test sees {mutation}"
    return {
        "task_id": f"{package}__{number}",
        "repository": package,
        "issue": mutation["issue"].format(call=mutation["call"], want=want, got=got),
        "kind": mutation["kind"],
        "difficulty": difficulty(PatchSet(patch)),
        "clarity": clarity(mutation["issue"]),
        "test_command": TEST_COMMAND,
        "fail_to_pass": failed,
        "pass_to_pass": passed,
        "gold_patch": patch,
    }


def states(folder: Path, places: list[dict[str, str]]) -> tuple[dict[Path, str], dict[Path, str]]:
    """The files that the places are in, as they should be and as they are."""
    whole = {folder / place["file"]: (folder / place["file"]).read_text() for place in places}
    broken = dict(whole)
    for place in places:
        path = folder / place["file"]
        assert whole[path].count(place["right"]) == 1, place
        broken[path] = broken[path].replace(place["right"], place["wrong"])
    return whole, broken


def write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.write_text(text)


def difficulty(patch: PatchSet) -> str:
    """How far the defect spreads: token, line, branch, hunks or files."""
    if len(patch) > 1:
        return "files"
    if len(patch[0]) > 1:
        return "hunks"
    if patch.removed == 0:
        return "branch"
    old, new = (
        [token for line in patch[0][0] if line.line_type == sort for token in re.findall(r"\w+|\s+|.", line.value)]
        for sort in "-+"
    )
    changes = [block for block in difflib.SequenceMatcher(None, old, new).get_opcodes() if block[0] != "equal"]
    return "token" if all(max(b - a, d - c) == 1 for _, a, b, c, d in changes) and len(changes) == 1 else "line"


def clarity(issue: str) -> str:
    """How well the issue tells it: exact, loose or vague."""
    if "{call}" not in issue:
        return "vague"
    return "exact" if "{want}" in issue else "loose"


def answer(tree: Path, package: str, call: str) -> str:
    """What a user sees: the value, or "raises" and the error's name."""
    program = (
        f"import {package}\n"
        f"try:\n    print('`' + repr({call}) + '`')\n"
        "except Exception as error:\n    print('raises ' + type(error).__name__)\n"
    )
    return subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=tree, check=True, capture_output=True, text=True
    ).stdout.strip()


def run_tests(tree: Path) -> tuple[list[str], list[str]]:
    """Names of the tests that pass, and of those that do not."""
    command = [sys.executable, "-B", "-m", "pytest", "-rA"]
    output = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60).stdout
    found = re.findall(r"^(PASSED|FAILED) (\S+)", output, re.MULTILINE)
    return [name for how, name in found if how == "PASSED"], [name for how, name in found if how == "FAILED"]


if __name__ == "__main__":
    main()
