"""Sentences that more than one command says."""

from __future__ import annotations

from collections.abc import Mapping

from swe_srl.redact import NAME, STANDING

# What a terminal obeys instead of showing it: C0 but tab and line end, DEL, C1, and what turns the direction of text.
_OBEYED = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}
_OBEYED |= dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)


def visible(text: str) -> str:
    """Text of a log or of a sandbox as it may be written to a terminal: no escape sequence of theirs acts there."""
    return text.translate(_OBEYED)


def counted(count: int, noun: str) -> str:
    """ "1 file", "2 files", "3 e-mail addresses"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def about_sensitive(counts: Mapping[str, int], redacted: bool, where: str) -> str | None:
    """What is to be said of home folders, addresses, keys and users' names; None if there were none."""
    found = ", ".join(counted(count, kind) for kind, count in counts.items() if kind != STANDING)
    if not found:
        return None
    left = counted(counts.get(STANDING, 0), NAME)
    left = f"; too short or too like code to be replaced: {left}" if counts.get(STANDING) else ""
    if redacted:
        return f"replaced: {found}{left}"
    return (
        f"WARNING: {where} holds {found}. Before you share it, or what is trained on it: --redact replaces them{left}"
    )
