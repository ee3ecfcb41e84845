"""The command that clears away what dead harnesses left."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")]


def clean(json: Json = False) -> None:
    """Remove containers, mounts, control groups and temporary files that dead runs left; no living run's."""
    from rich.markup import escape

    from swe_srl.cli import show
    from swe_srl.sandboxes.reaper import sweep

    found = sweep().as_json()
    trouble = found["trouble"]
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in found.items() if kind != "trouble")
    show(found, "\n".join([f"removed: {counts}", *map(escape, trouble)]), json)
