"""Measurements that this machine can make, and the reasons against the others."""

import importlib.util
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.measurement.environment import describe
from harness.measurement.limits import cgroup, rlimit
from harness.measurement.process.launcher import Launcher, LaunchError, default_launcher
from harness.measurement.process.messages import Job
from harness.measurement.process.outcome import classify
from harness.schema.record import Outcome
from harness.schema.units import format_bytes
from harness.schema.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One ability: there or not, and how or why not."""

    what: str
    available: bool
    detail: str

    def as_dict(self) -> dict[str, object]:
        """Return the finding as plain data."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything a measurement may use; a tiny measurement is made to be sure."""
    return [*_machine(), *_worker(), _kernel_mark(), _malloc(), *_budgets(), _images()]


def examine_model() -> list[Finding]:
    """Compare the memory model with the installed PyTorch: in all, then what differs."""
    from harness.measurement.model_check import check_model

    check = check_model()
    differing = check.differences.items()
    return [
        Finding(what="memory model", available=not differing, detail=str(check)),
        *(Finding(what=str(workload), available=False, detail=why) for workload, why in differing),
    ]


def _machine() -> list[Finding]:
    facts = describe(Workload(), "")
    if not Path("/proc/self").exists() and sys.platform.startswith("linux"):
        detail = "no /proc is mounted: no memory can be measured here (mount -t proc proc /proc)"
        return [Finding(what="machine", available=False, detail=detail)]
    size = facts["memory_bytes"]
    memory = "memory of unknown size" if size is None else format_bytes(size)
    detail = f"{facts['cpu']}, {facts['cpu_count']} cores, {memory}, {platform.platform()}"
    return [Finding(what="machine", available=True, detail=detail)]


def _worker() -> list[Finding]:
    """Start a worker for real and ask it what it sees."""
    launcher = default_launcher("pinned")
    what = f"isolated workers ({launcher.name})"
    try:
        ended = launcher.launch(Job(kind="passes", workload=Workload(depth=1, batch=8)), 120.0)
        gpu = _gpu(launcher)
    except LaunchError as error:
        return [Finding(what=what, available=False, detail=str(error))]
    finally:
        launcher.close()
    outcome, evidence = classify(ended)
    if outcome is not Outcome.OK:
        return [Finding(what=what, available=False, detail=str(evidence))]
    environment = (ended.result or {})["environment"]
    detail = f"torch {environment['torch']}, CPU capability {environment['cpu_capability']}"
    return [Finding(what=what, available=True, detail=detail), gpu]


def _gpu(launcher: Launcher) -> Finding:
    """Have a worker initialise CUDA and say what it sees."""
    ended = launcher.launch(Job(kind="describe", workload=Workload(device="cuda")), 120.0)
    if ended.failure is not None:
        detail = f"{ended.failure.message}; everything on the CPU can be measured"
        return Finding(what="CUDA", available=False, detail=detail)
    if ended.result is None:
        return Finding(what="CUDA", available=False, detail=str(classify(ended)[1]))
    facts = ended.result["environment"]
    used, total = facts["gpu_used_before_bytes"], facts["gpu_memory_bytes"]
    detail = (
        f"{facts['gpu']}, capability {facts['gpu_capability']}, CUDA {facts['cuda']}, driver "
        f"{facts['driver'] or 'unknown'}; before any tensor {format_bytes(used)} of "
        f"{format_bytes(total)} are in use (context, libraries, other processes)"
    )
    return Finding(what="CUDA", available=True, detail=detail)


def _kernel_mark() -> Finding:
    marks = Path("/proc/self/clear_refs").exists()
    detail = "the kernel's own (VmHWM), reset per pass"
    if not marks:
        detail = "no /proc: psutil samples each millisecond"
    return Finding(what="resident high-water mark", available=marks, detail=detail)


def _malloc() -> Finding:
    pins = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"
    detail = f"glibc {platform.libc_ver()[1]}: mmap threshold 64 KiB, trim threshold 0"
    if not pins:
        detail = "the C library is not glibc: resident sizes are further from the live bytes"
    return Finding(what="pinned malloc policy", available=pins, detail=detail)


def _budgets() -> Iterator[Finding]:
    """Try to enforce a budget on the CPU in either manner."""
    for what, try_it in (
        ("budgets that refuse", rlimit.data_segment_available),
        ("budgets that kill", cgroup.available),
    ):
        available, detail = try_it()
        yield Finding(what=what, available=available, detail=detail)


def _images() -> Finding:
    what = "Fashion-MNIST images"
    if importlib.util.find_spec("torchvision") is None:
        return Finding(what=what, available=False, detail="torchvision is not installed")
    from harness.training.data import DataError, load_fashion_mnist

    try:
        images, _ = load_fashion_mnist(train=True)
    except DataError as error:
        return Finding(what=what, available=False, detail=str(error))
    return Finding(what=what, available=True, detail=f"{len(images):,} training images")
