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

A pretended GPU runs no kernels, so the record of a dry run has no times or computed values."""


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
        "cpu": _of_cpu("model name") or platform.processor() or platform.machine(),
        "cpu_bfloat16": _bfloat16_instructions(),
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


def _of_cpu(name: str) -> str:
    """Return a field of the first processor in /proc/cpuinfo; an empty string if it is missing."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


def _bfloat16_instructions() -> str:
    """Return the processor's flags for bfloat16, e.g. ``amx_bf16 avx512_bf16``, or ``none``.

    The size of oneDNN's scratch memory for a matmul depends on these instructions.
    """
    flags = (_of_cpu("flags") or _of_cpu("Features")).split()  # of x86, or of ARM
    return " ".join(sorted(flag for flag in flags if flag.endswith("bf16"))) or "none"


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
