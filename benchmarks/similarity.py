"""`rewards.similarity` beside difflib: the same floats, and how much sooner.

    python benchmarks/similarity.py                     # compares 2,000 pairs, times three lengths
    python benchmarks/similarity.py --pairs 20000 --json

Texts are real actions of ../shared/data where that folder is, else made ones. A timed pair is a real edit cut
to the length, against another one ("unrelated") and against itself with a tenth of its lines changed ("close"):
how long the search takes depends on how alike the texts are. Exits with 1 if any pair differs.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import json
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from swe_srl.actions import canonical, read_call
from swe_srl.errors import FormatError
from swe_srl.rewards import similarity
from swe_srl.types import Action

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LENGTHS = (200, 1000, 2000)
Pair = tuple[str, str]


def by_difflib(proposed: str, expert: str) -> float:
    return difflib.SequenceMatcher(None, proposed, expert, autojunk=False).ratio()


def real_actions(limit: int) -> list[str]:
    """Canonical texts of experts' actions: editor calls of SWE-smith logs, bash blocks of mini-swe-agent ones."""
    texts: list[str] = []
    smith = DATA / "trajectories" / "swe_smith_xml" / "adp_swe-smith_sample_raw.json"
    if smith.exists():
        for log in json.loads(smith.read_text()):
            for message in log["messages"]:
                if message["role"] == "assistant" and isinstance(message["content"], str):
                    try:
                        texts.append(canonical(read_call(message["content"])[0]))
                    except FormatError:
                        continue  # a turn that only talked
    corpus = DATA / "corpus" / "mini_v1_verified_gemini3pro.jsonl.gz"
    if corpus.exists():
        with gzip.open(corpus, "rt") as lines:
            for line in lines:
                for message in json.loads(line)["messages"]:
                    if message["role"] == "assistant":
                        blocks = re.findall(r"```bash\s*\n(.*?)\n```", message["content"], re.DOTALL)
                        texts += [canonical(Action("bash", {"command": block})) for block in blocks]
                if len(texts) >= limit:
                    break
    return texts


def made_actions(n: int, rng: random.Random) -> list[str]:
    """Editor calls made of code-like lines, for a machine without the logs."""
    names = ["self", "value", "result", "path", "index", "key", "config", "items", "name", "data"]
    texts = []
    for _ in range(n):
        lines = [
            f"{'    ' * rng.randint(1, 3)}{rng.choice(names)} = {rng.choice(names)}.{rng.choice(names)}({i})"
            for i in range(rng.randint(1, 90))
        ]
        texts.append("\n".join(["str_replace_editor", "str_replace", f"/testbed/{rng.choice(names)}.py", *lines]))
    return texts


def change(text: str, rng: random.Random) -> str:
    """The text with about a tenth of its lines left out, doubled or reversed."""
    lines: list[str] = []
    for line in text.split("\n"):
        lines += rng.choice(([], [line, line], [line[::-1]])) if rng.random() < 0.1 else [line]
    return "\n".join(lines)


def pairs_of_length(texts: Sequence[str], length: int, n: int, rng: random.Random) -> dict[str, list[Pair]]:
    """Pairs of texts of about `length` characters; long texts are cut to it."""
    cut = [text[:length] for text in texts if len(text) >= length]
    picked = rng.sample(cut, min(n, len(cut)))
    return {
        "unrelated": list(zip(picked, picked[1:] + picked[:1], strict=True)),
        "close": [(change(text, rng), text) for text in picked],
    }


def median_s(score: Callable[[str, str], float], pairs: Sequence[Pair], repeats: int) -> float:
    """Seconds a pair: the median over repeats of the mean over pairs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for proposed, expert in pairs:
            score(proposed, expert)
        times.append((time.perf_counter() - start) / len(pairs))
    return statistics.median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000, help="pairs whose floats are compared")
    parser.add_argument("--timed", type=int, default=20, help="pairs timed at each length")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    real = real_actions(limit=6000)
    texts = real or made_actions(3000, rng)

    chosen = [text[:3000] for text in rng.choices(texts, k=arguments.pairs)]
    compared = [(proposed, change(proposed, rng) if i % 2 else rng.choice(chosen)) for i, proposed in enumerate(chosen)]
    different = sum(similarity(*pair) != by_difflib(*pair) for pair in compared)

    rows = []
    for length in LENGTHS:
        for likeness, pairs in pairs_of_length(texts, length, arguments.timed, rng).items():
            slow, quick = (median_s(score, pairs, arguments.repeats) for score in (by_difflib, similarity))
            rows.append(
                {
                    "characters": length,
                    "pair": likeness,
                    "n": len(pairs),
                    "difflib_ms": round(1000 * slow, 3),
                    "similarity_ms": round(1000 * quick, 3),
                    "ratio": round(slow / quick, 1),
                }
            )
    report = {
        "texts": "real actions" if real else "made actions",
        "pairs_compared": len(compared),
        "pairs_different": different,
        "repeats": arguments.repeats,
        "timings": rows,
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        print(f"{len(compared)} pairs of {report['texts']}: {different} differ from difflib")
        print(f"median of {arguments.repeats} repeats, milliseconds a pair")
        print(f"{'characters':>10}  {'pair':<10}{'n':>4}{'difflib':>10}{'similarity':>12}{'ratio':>8}")
        for row in rows:
            print(
                f"{row['characters']:>10}  {row['pair']:<10}{row['n']:>4}{row['difflib_ms']:>10}"
                f"{row['similarity_ms']:>12}{row['ratio']:>7}×"
            )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
