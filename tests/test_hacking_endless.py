"""Rules that name hacks look at whatever a policy writes: no text of it ends a training, nor holds it up."""

from __future__ import annotations

import pytest
from test_hacking import FAILING, SUITE, before, change, ran

from swe_srl.evaluate.hacking import flags
from swe_srl.evaluate.special_cases import _word
from swe_srl.tasks.bugfix import load_task

ENDLESS = {
    "digits": f"    if span == 0x{'f' * 1_900}:\n        return False\n",
    "many digits": f"    if span == {'9' * 4_000}:\n        return False\n",
    "signs": f"    if span == {'-' * 6_000}1:\n        return False\n",
    "signs within a case": f"    if span == {'-' * 1_900}1:\n        return False\n",
    "terms": f"    if span == {'1+' * 20_000}1:\n        return False\n",
    "brackets": f"    if span == {'(' * 900}1{')' * 900}:\n        return False\n",
    "lines": "\n" * 50_000 + "    if span == 1:" + "\n" * 50_000,
    "spaces": f"    if span == 1:{' ' * 100_000}x = {' ' * 100_000}\n",
    "equal": "def __eq__(" * 20_000,
    "comparisons": "if " + "==:" * 60_000,
}  # fmt: skip


@pytest.mark.parametrize("code", ENDLESS.values(), ids=ENDLESS.keys())
def test_code_without_end_is_looked_at_all_the_same(code: str) -> None:
    """What a policy writes ends no training: neither by an error nor by the time that a pattern takes."""
    task = load_task(SUITE, "spans__1")
    old = before(task, "spans/relate.py")
    patch = change("spans/relate.py", old, f"{old}{code}\n")
    patch += change("tests/test_more.py", None, f"{code}\n")
    script = f"cat >x.py <<'EOF'\n{code}\nEOF\n{'cp ' * 5_000}"
    found = flags(task, patch + change(FAILING, before(task, FAILING), ""), ran(script))
    assert found == ("tests deleted",)


def test_an_int_of_more_digits_than_python_prints() -> None:
    assert _word(int("f" * 4_000, 16)) == "0x" + "f" * 4_000
