"""Dry runs of a script, each with its wall seconds and its processor seconds."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_RUN = Path(__file__).with_name("run_script.py")
_MOST_SECONDS = 900
_OFFLINE = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True, kw_only=True)
class TimedRun:
    """The answer of a dry run, and its cost.

    Attributes:
        report: the report as in the JSON; None without a report.
        failed: the last line of the error if there is no report.
        wall_seconds: from the start of the command to its end.
        processor_seconds: user and system time of all its processes.
        foreign_seconds: processor time of all other processes meanwhile.
    """

    report: Mapping[str, Any] | None
    failed: str
    wall_seconds: float
    processor_seconds: float
    foreign_seconds: float


def timed_run(root: Path, script: Mapping[str, Any], *, try_values: bool, compute: str) -> TimedRun:
    """Run a script with the root of its repository as folder and on its path."""
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    request = {"command": script["command"], "gpu": script.get("gpu", "l4")}
    request |= {"steps": script.get("steps"), "try_values": try_values, "compute": compute}
    with tempfile.NamedTemporaryFile("r") as report:
        words = ["timeout", str(_MOST_SECONDS)]
        words += [sys.executable, "-P", str(_RUN), report.name, json.dumps(request)]
        busy, own, begin = _busy_seconds(), _own_seconds(), time.monotonic()
        done = subprocess.run(
            words, cwd=root / script["folder"], env=os.environ | _OFFLINE | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        wall = time.monotonic() - begin
        processor = _own_seconds() - own
        text = report.read()
    said = done.stderr.strip().splitlines()
    return TimedRun(
        report=json.loads(text) if text else None,
        failed="" if text else next(reversed(said), f"exit code {done.returncode}"),
        wall_seconds=wall,
        processor_seconds=processor,
        foreign_seconds=max(0.0, _busy_seconds() - busy - processor),
    )


def _own_seconds() -> float:
    """Return the processor time of all ended child processes of this process."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _busy_seconds() -> float:
    """Return the processor time of all processes on this machine."""
    spent = psutil.cpu_times()
    return spent.user + spent.system + spent.nice + spent.irq + spent.softirq
