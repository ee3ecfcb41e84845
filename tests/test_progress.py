"""What is shown of long work: a bar within another's block, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from swe_srl import progress
from swe_srl.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_within_another_stands_under_it_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with bar("training", 2) as outer:
        with bar("validation", 7) as inner:
            inner(3, "")
        outer(1, "loss 0.1")
        with pytest.raises(ZeroDivisionError), bar("broken", 1):
            _ = 1 // 0
        before = len(terminal.getvalue())
        outer(2, "loss 0.2")
    shown, last = terminal.getvalue(), terminal.getvalue()[before:]
    assert "0/7" in shown
    assert "training" in last
    assert "validation" not in last
    assert "broken" not in last


def test_where_there_is_no_terminal_only_the_outer_bar_has_a_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for quiet_s, lines in ((1e9, ["outer: 1/1"]), (0.0, ["inner: 1/2", "inner: 2/2", "outer: 1/1"])):
        monkeypatch.setattr(progress, "QUIET_S", quiet_s)
        with bar("outer", 1) as outer:
            with bar("inner", 2) as inner:
                inner(1, "")
                inner(2, "")
            outer(1, "")
        assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == lines
