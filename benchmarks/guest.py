"""What a command costs by the guest, without any isolation: `python benchmarks/guest.py` (as root)."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable

from swe_srl.sandboxes.pipe import Guest
from swe_srl.sandboxes.toolbox import argv, toolbox

NAMESPACE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
VARIABLES = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}


def started() -> Guest:
    command = [*NAMESPACE, *argv(toolbox())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={})
    assert process.stdin is not None
    assert process.stdout is not None
    guest = Guest(process.stdout, process.stdin)
    guest.start(VARIABLES, "/tmp")
    return guest


def ms(repeats: int, call: Callable[[], object]) -> dict[str, float]:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return {"p50": round(statistics.median(times), 2), "p99": round(times[int(0.99 * len(times))], 2)}


def main() -> None:
    toolbox()
    guest = started()
    bash = ["bash", "--noprofile", "--norc", "-c", "true"]
    python = [*argv(toolbox())[:-1], "-c", "pass"]
    figures = {
        "true": ms(500, lambda: guest.exec("true", 9)),
        "/bin/true": ms(200, lambda: guest.exec("/bin/true", 9)),
        "100 KB of output": ms(200, lambda: guest.exec("head -c 100000 /dev/zero", 9)),
        "read 10 KB": ms(500, lambda: guest.read("/etc/services")),
        "beside it: bash -c true by subprocess": ms(200, lambda: subprocess.run(bash, check=True)),
        "start to first answer": ms(50, lambda: started().close()),
        "beside it: the toolbox's python -c pass": ms(50, lambda: subprocess.run(python, check=True, env={})),
    }
    guest.close()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
