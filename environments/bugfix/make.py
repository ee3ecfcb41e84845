"""mutations.toml and packages/ → tasks.jsonl: `python environments/bugfix/make.py`.

Each mutation is put into a copy of its package. The issue's {want} and {got} are what the call really gives
before and after; the tests of both lists are what pytest says of the broken copy; the gold patch is git's
diff from the broken copy to the package.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from git import Repo

HERE = Path(__file__).resolve().parent
TEST_COMMAND = "python -m pytest -rA"


def main() -> None:
    rows = []
    for package, mutations in tomllib.loads((HERE / "mutations.toml").read_text()).items():
        for number, mutation in enumerate(mutations, 1):
            rows.append(make(package, number, mutation))
            print(rows[-1]["task_id"], "|", rows[-1]["issue"], file=sys.stderr)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (HERE / "tasks.jsonl").write_text(text)


def make(package: str, number: int, mutation: dict[str, str]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, package)
        shutil.copytree(HERE / "packages" / package, tree, ignore=shutil.ignore_patterns("__pycache__"))
        want = answer(tree, package, mutation["call"])
        path = tree / package / mutation["file"]
        whole = path.read_text()
        assert whole.count(mutation["right"]) == 1, mutation
        broken = whole.replace(mutation["right"], mutation["wrong"])
        path.write_text(broken)
        with Repo.init(tree) as repo:
            repo.git.add("-A")
            path.write_text(whole)
            patch = repo.git.diff("--no-color", strip_newline_in_stdout=False)
        path.write_text(broken)
        got = answer(tree, package, mutation["call"])
        assert got != want, mutation
        passed, failed = run_tests(tree)
        assert failed, f"no test sees {mutation}"
    return {
        "task_id": f"{package}__{number}",
        "repository": package,
        "issue": mutation["issue"].format(call=mutation["call"], want=want, got=got),
        "kind": mutation["kind"],
        "test_command": TEST_COMMAND,
        "fail_to_pass": failed,
        "pass_to_pass": passed,
        "gold_patch": patch,
    }


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
    output = subprocess.run(command, cwd=tree, capture_output=True, text=True).stdout
    found = re.findall(r"^(PASSED|FAILED) (\S+)", output, re.MULTILINE)
    return [name for how, name in found if how == "PASSED"], [name for how, name in found if how == "FAILED"]


if __name__ == "__main__":
    main()
