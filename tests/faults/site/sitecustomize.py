"""Makes workers misbehave: imported by every interpreter that has this folder on its path.

``FAULT_FOLDER`` holds a file per cell that was hit already: each cell is hit once.
"""

import os
import sys
from pathlib import Path
from typing import Any


def _misbehave(kind: str) -> None:
    pipes = [
        int(name)
        for name in os.listdir("/proc/self/fd")  # noqa: PTH208  # descriptors, not paths
        if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}")  # noqa: PTH110
    ]
    pipes = [fd for fd in pipes if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")]  # noqa: PTH115
    if kind == "prints":
        for _ in range(8):
            os.write(2, b"x" * (1 << 20) + b"\n")
    elif kind == "closes":
        for fd in pipes:
            os.close(fd)
    elif kind == "garbage":
        for fd in pipes:
            try:
                os.write(fd, b'\xff{"result": [1]\x00}\n{"result"' + b" " * 4096 + b"\n")
            except OSError:
                continue
    elif kind == "exits":
        os._exit(3)


def _install(kinds: list[str], folder: Path) -> None:
    import msgspec

    from harness.processes import worker
    from harness.schema.workload import Workload

    run_job = worker.run_job

    def faulty(job: Any, send: Any, *, primed: bool = True) -> int:
        workload = msgspec.convert(msgspec.json.decode(job.request)["workload"], Workload)
        hit = folder / workload.id
        if not hit.exists():
            kind = kinds[workload.batch % len(kinds)]
            hit.write_text(kind)
            _misbehave(kind)
        return run_job(job, send, primed=primed)

    worker.run_job = faulty


if "FAULT_FOLDER" in os.environ and "harness.processes.fork_server" in sys.orig_argv:
    _install(os.environ["FAULT_KINDS"].split(","), Path(os.environ["FAULT_FOLDER"]))
