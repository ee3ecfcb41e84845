"""What `swe-srl doctor` found of the machine, for people; of a config: doctor_config_view.py."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from swe_srl.doctor_config_view import config
from swe_srl.sandboxes.choice import OPEN

GROUP_IS_ROOT = "who may use the daemon, and so you, may do all on this machine as root"


def table(found: Mapping[str, Any]) -> RenderableType:
    """The machine, a line for each sandbox, and whether the config fits."""
    machine = Table.grid(padding=(0, 2))
    for name in ("python", "torch", "cores", "memory_gib", "disk_free_gib"):
        machine.add_row(name, str(found[name]))
    machine.add_row("devices", escape(", ".join(found["devices"])))
    machine.add_row("engines", escape(", ".join(f"{name}: {said}" for name, said in found["engines"].items())))
    packages = found["packages"].items()
    machine.add_row("packages", escape(", ".join(f"{name} {version or 'is missing'}" for name, version in packages)))
    parts: list[RenderableType] = [machine, _sandboxes(found)]
    return Group(*parts, *(config(found["config"]) if "config" in found else ()))


def _sandboxes(found: Mapping[str, Any]) -> Table:
    rows = Table("sandbox", expand=True)
    rows.add_column("works here", ratio=1)
    rows.add_column("does not promise here", ratio=1)
    for kind, said in found["sandboxes"].items():
        missing = found["sandboxes_do_not_promise"].get(kind, {})
        notes = [f"{name}: {text}" for name, text in missing.items()]
        if kind == OPEN:
            notes = ["anything: commands run on this machine, as you"]
        if kind == "docker" and said == "ok" and os.geteuid() != 0:
            notes.append(GROUP_IS_ROOT)
        nothing = "" if said != "ok" else "(keeps all promises)"
        rows.add_row(kind, escape(said), escape("\n".join(notes) or nothing))
    return rows
