"""The attack suite as a table: what happened to each attack in each arm (docs/sandboxes.md).

    python benchmarks/attacks.py [PYTEST OPTIONS, as -m 'not slow' or -k bomb]

As root, with a Docker daemon (environments/docker/start.sh). A cell: how it ended, in seconds, and a figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ARMS = ("docker", "runc", "docker-user", "runc-user")
TESTS = Path(__file__).parents[1] / "tests" / "test_attacks.py"


def main() -> int:
    with tempfile.NamedTemporaryFile() as file:
        pytest = [sys.executable, "-m", "pytest", str(TESTS), "-p", "no:cacheprovider", *sys.argv[1:]]
        code = subprocess.run(pytest, env={**os.environ, "ATTACKS": file.name}, stdout=sys.stderr).returncode
        rows = [json.loads(line) for line in Path(file.name).read_text().splitlines()]
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        arm = next(arm for arm in sorted(ARMS, key=len, reverse=True) if row["arm"].startswith(arm))
        attack = " ".join([row["attack"], row["arm"].removeprefix(arm).strip("-")]).replace("_", " ").strip()
        cells.setdefault(attack, {})[arm] = f"{row['how']}, {row['took_s']} s {row['note']}".strip()
    print("| attack |" + "|".join(ARMS) + "|\n|---|" + "---|" * len(ARMS))
    for attack, found in cells.items():
        print(f"| {attack} |" + "|".join(found.get(arm, "") for arm in ARMS) + "|")
    return code


if __name__ == "__main__":
    sys.exit(main())
