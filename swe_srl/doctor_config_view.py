"""What `swe-srl doctor CONFIG` found of the config, for people: its sum, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

GIB = 2**30
_LAST = ("context", "fragments")
_TOLD = {"path", "command", "missing", "memory", "disk", "costs", "dry_run", "parts", "fits"}  # in words of their own


def config(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield f"\n{escape(found['path'])}: a config of swe-srl {found['command']}"
    facts = Table.grid(padding=(0, 2))
    for name, value in found.items():
        if name not in _TOLD and value is not None:
            facts.add_row(name, escape(_words(value)))
    yield facts
    for one in found["missing"]:
        yield escape(f"not here: {one}")
    if "memory" in found:
        yield from _memory(found["memory"])
        yield escape(_verdict(found["memory"]))
    if "parts" in found:
        yield _answers(found)
        yield f"[bold]{'fits' if found['fits'] else 'does not fit'}[/bold]: {found['need_gib']} GiB"
    if "disk" in found:
        disk = found["disk"]
        fits = "fits" if disk["fits"] else "does not fit here"
        yield escape(f"disk: {disk['need_gib']} GiB at most, {disk['free_gib']} free: {fits} ({disk['how']})")
    for name, cost in found.get("costs", {}).items():
        yield escape(f"an update of {name}, estimated (docs/scaling.md): {_words(cost)}")
    if "dry_run" in found:
        yield from _dry_run(found["dry_run"])


def _memory(memory: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Parts by phase in GiB, and how each was counted."""
    phases: Mapping[str, Any] = memory["phases"]
    hows: dict[str, str] = {}
    every = [part for phase in phases.values() for part in phase["parts"]]
    for part in sorted(every, key=lambda part: part["name"] in _LAST):
        hows.setdefault(part["name"], part["how"])
    rows = Table(title=f"GiB on each of {memory['device']}, stage {memory['stage']}", title_justify="left")
    rows.add_column("part")
    for name in phases:
        rows.add_column(name, justify="right")
    rows.add_column("how it is counted", overflow="fold")
    for name, how in hows.items():
        sizes = [sum(p["bytes"] for p in phase["parts"] if p["name"] == name) for phase in phases.values()]
        rows.add_row(name, *(f"{size / GIB:.2f}" if size else "" for size in sizes), escape(how))
    rows.add_section()
    rows.add_row("sum", *(f"{phase['gib']:.2f}" for phase in phases.values()), f"of {memory['available_gib']}")
    yield rows


def _verdict(memory: Mapping[str, Any]) -> str:
    need = f"{memory['need_gib']} of {memory['available_gib']} GiB, when it comes to {memory['phase']}"
    if memory["fits"]:
        return f"memory: fits ({need})"
    changes = memory.get("after_a_change_gib") or {}
    told = "; ".join(f"{gib} with {name}" for name, gib in changes.items())
    return f"memory: does not fit ({need})" + (f". GiB after one change: {told}" if told else "")


def _answers(found: Mapping[str, Any]) -> Table:
    rows = Table("part", "GiB", "how it is counted")
    for part in found["parts"]:
        rows.add_row(part["name"], f"{part['bytes'] / GIB:.2f}", escape(part["how"]))
    return rows


def _dry_run(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A row for each weight of a layer: layers are alike."""
    from swe_srl.plan.dry_run import by_layer

    rows = Table(title=f"dry run: {found['ranks']} ranks, nothing computed", title_justify="left")
    for column in ("weights", "shape", "on rank 0", "in vLLM"):
        rows.add_column(column, overflow="fold")
    kinds: dict[tuple[str, ...], int] = {}
    for row in found["weights"]:
        shape, shard = ("×".join(map(str, row[key])) for key in ("shape", "shard"))
        kind = (by_layer(row["name"]), shape, shard, by_layer(row["vllm"] or "merged"))
        kinds[kind] = kinds.get(kind, 0) + 1
    for (name, *rest), count in kinds.items():
        rows.add_row(escape(name) + (f"  ({count})" if count > 1 else ""), *map(escape, rest))
    yield rows
    by_rank = f"{found['on_first_rank']:,} on the first, {found['on_last_rank']:,} on the last rank"
    yield f"{found['numbers']:,} numbers; {by_rank}; {len(found['weights'])} weights are {found['in_vllm']} in vLLM"
    for group in found["optimizer"]:
        yield f"AdamW: {group['weights']} weights, {group['numbers']:,} numbers, decay {group['weight_decay']}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
