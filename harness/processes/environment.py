"""Collects the environment of a record, e.g. versions and CPU, without importing torch."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import psutil

from harness.processes.measuring_code import measuring_code
from harness.schema.provenance import Environment
from harness.schema.workload import Workload
from harness.version import PACKAGE, __version__

PRETENDED = "HARNESS_DRY_RUN_NAME"
"""Environment variable that a dry run sets in processes that see a pretended GPU.

A pretended GPU runs no kernels, so a record contains no times and no computed values."""


def describe(workload: Workload, launcher: str) -> Environment:
    """Return the versions, machine and settings that are needed to repeat a measurement."""
    return _machine() | {
        "code": measuring_code(pretended=pretended_device() is not None),
        "launcher": launcher,
        "malloc": workload.malloc,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _machine() -> Environment:
    """Return the part of the environment that cannot change while this process runs."""
    memory_bytes = None
    with contextlib.suppress(OSError):  # no /proc is mounted
        memory_bytes = int(psutil.virtual_memory().total)
    return {
        "harness": __version__,
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "system": platform.system(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "memory_bytes": memory_bytes,
        "git_commit": git_commit(),
    }


@functools.cache
def versions(*packages: str) -> Environment:
    """Return the versions of those ``packages`` that are installed."""
    found: dict[str, str] = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return cast("Environment", found)


def _cpu_name() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """Return the git commit of this package, with ``+`` if files differ from the commit."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def pretended_device() -> str | None:
    """Return a record's name for the pretended GPU, like ``dry run, a100-40gb``, or None."""
    name = os.environ.get(PRETENDED)
    return None if name is None else f"dry run, {name}"


def has_gpu() -> bool:
    """Return whether this machine has an NVIDIA driver, without initialising CUDA."""
    under_windows = Path("/dev/dxg")  # Windows' subsystem for Linux
    return any(Path("/dev").glob("nvidia[0-9]*")) or under_windows.exists()
