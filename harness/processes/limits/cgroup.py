"""Puts a worker into a memory cgroup; the kernel kills a worker that exceeds the budget.

Version 1 of cgroups has a tree for each controller, and version 2 has a single tree. The parent
process creates the cgroup. The worker runs warm-up steps, limits the empty cgroup to the budget,
and joins the cgroup. Memory that the worker allocated before joining stays charged to the worker's
former cgroup. A counter of the cgroup shows whether the kernel's OOM killer killed the worker.

Source: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst of the Linux kernel.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_ATTEMPTS, _PAUSE_SECONDS = 50, 0.02
_PREFIX = "harness-"
_STALE_SECONDS = 3600.0
"""Age above which a cgroup is certainly unused, in seconds."""
_ROOTS = (
    (1, Path("/sys/fs/cgroup/memory")),
    (2, Path("/sys/fs/cgroup")),
    (2, Path("/sys/fs/cgroup/unified")),
)
"""Versions of cgroups, with the folders in which systemd may mount the memory controller."""
_OWN = Path("/proc/self/cgroup")


class CgroupError(OSError):
    """No memory cgroup can be created on this machine; the message gives the reason."""


class Names(NamedTuple):
    """File names of the memory controller in one version of cgroups."""

    limit: tuple[str, ...]
    """Files to which the limit is written, in this order; only the first file must exist."""
    usage: str
    peak: str
    """File with the peak of charged bytes; old kernels do not have this file."""
    events: str
    """File whose line ``oom_kill N`` contains the number of killed processes."""


VERSIONS = {
    1: Names(
        limit=("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
        usage="memory.usage_in_bytes",
        peak="memory.max_usage_in_bytes",
        events="memory.oom_control",
    ),
    2: Names(
        limit=("memory.max",), usage="memory.current", peak="memory.peak", events="memory.events"
    ),
}


@dataclass(frozen=True, kw_only=True)
class ControlGroup:
    """A cgroup that this process created."""

    folder: Path
    version: int

    def oom_kills(self) -> int:
        """Return the number of the cgroup's processes that the kernel's OOM killer killed."""
        for line in (self.folder / VERSIONS[self.version].events).read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0

    def charged_bytes(self) -> int | None:
        """Return the peak of charged bytes, or None if the kernel does not report the peak.

        The kernel charges up to 64 pages per processor in advance (``MEMCG_CHARGE_BATCH``).
        """
        with suppress(OSError, ValueError):
            return int((self.folder / VERSIONS[self.version].peak).read_text())
        return None


@contextmanager
def group() -> Iterator[ControlGroup]:
    """Create a memory cgroup for the ``with`` block; also remove old cgroups of killed runs."""
    made = _make()
    try:
        for folder in made.folder.parent.glob(f"{_PREFIX}*"):  # of makers that were killed
            with suppress(OSError):  # the kernel keeps one that has a process in it
                if time.time() - folder.stat().st_ctime > _STALE_SECONDS:
                    folder.rmdir()
        yield made
    finally:
        _remove(made.folder)


@contextmanager
def joined(folder: str, budget_bytes: int) -> Iterator[None]:
    """Limit the empty cgroup to the budget, and move this process into the cgroup."""
    place = Path(folder)
    names = VERSIONS[2 if (place / "memory.max").exists() else 1]
    for name in names.limit:
        if name == names.limit[0] or (place / name).exists():
            (place / name).write_text(str(budget_bytes))
    if (place / "memory.swap.max").exists():
        (place / "memory.swap.max").write_text("0")
    (place / "cgroup.procs").write_text(str(os.getpid()))
    yield  # the group's maker removes it, limit and all, when this process is gone


def stay_on_one_processor() -> None:
    """Bind this thread to a processor, which is the same for all children of a fork server.

    The kernel charges a cgroup for batches of pages, and each processor keeps the unused rest of
    its batch. A processor also keeps the last 31 pages that it mapped, even after they are freed.
    If a process moves to another processor, the old processor's pages stay charged but unusable.

    Source: mm/memcontrol.c (``refill_stock``) and mm/swap.c (``lru_add_drain``) of Linux.
    """
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[os.getppid() % len(allowed)]})


def available() -> tuple[bool, str]:
    """Return whether a process can create and enter a memory cgroup, and an explanation."""
    try:
        with group() as made:
            enter = ["/bin/sh", "-c", 'echo 0 > "$0"', str(made.folder / "cgroup.procs")]
            done = subprocess.run(enter, capture_output=True, text=True, check=False)
            if done.returncode:
                return False, f"cgroup v{made.version}: cannot be entered: {done.stderr.strip()}"
            return True, f"cgroup v{made.version}: the kernel kills what exceeds the budget"
    except CgroupError as error:
        return False, str(error)


def _make() -> ControlGroup:
    """Create a cgroup below this process's cgroup, or below its nearest writable ancestor."""
    reason = "no memory controller is mounted"
    for version, parent in places():
        folder = parent / f"{_PREFIX}{os.getpid()}-{time.monotonic_ns()}"
        try:
            folder.mkdir()
        except OSError as error:
            reason = f"cgroup v{version}: {parent}: {error.strerror}"
            continue
        if (folder / VERSIONS[version].limit[0]).exists():
            return ControlGroup(folder=folder, version=version)
        folder.rmdir()
        reason = f"cgroup v{version}: {parent}: does not hand the memory controller down"
    raise CgroupError(reason)


def places() -> Iterator[tuple[int, Path]]:
    """Yield this process's cgroup and then its ancestors; version 1 of cgroups is first."""
    own: dict[int, str] = {}
    with suppress(OSError):  # no Linux, or no /proc
        for line in _OWN.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                own[1] = path
            elif number == "0":
                own[2] = path
    for version, root in _ROOTS:
        if version in own and (root / "cgroup.procs").exists():
            inmost = root / own[version].lstrip("/")
            for place in (inmost, *inmost.parents):
                if place.is_dir() and place.is_relative_to(root):
                    yield version, place


def _remove(folder: Path) -> None:
    """Remove a cgroup; for up to a second, retry until the cgroup's last process has ended."""
    for _ in range(_ATTEMPTS):
        try:
            folder.rmdir()
            return
        except OSError:
            time.sleep(_PAUSE_SECONDS)
