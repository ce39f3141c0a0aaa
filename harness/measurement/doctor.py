"""Checks which measurements work on this machine, and reports why a measurement does not work."""

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.measurement.pass_jobs import RunPasses
from harness.processes.environment import describe
from harness.processes.launcher import Launcher, LaunchError, default_launcher
from harness.processes.limits import cgroup, rlimit
from harness.processes.messages import Describe
from harness.processes.outcome import classify
from harness.schema.ability import Ability
from harness.schema.record import Outcome
from harness.schema.units import format_bytes
from harness.schema.workload import Workload
from harness.training.image_files import images_here, missing_images


def examine(tell: Callable[[str], object] = lambda _doing: None) -> Iterator[Ability]:
    """Check every feature that measurements use, and run a tiny measurement.

    Args:
        tell: function that is called with a short description before each slow check.

    Yields:
        The result of each check, as soon as it is known.
    """
    yield _machine()
    tell("starting a worker, which measures a tiny step")
    yield from _worker()
    yield from _memory_abilities()
    tell("looking for the images")
    yield _images()


def _memory_abilities() -> Iterator[Ability]:
    marks = Path("/proc/self/clear_refs").exists()
    mark = "the kernel's own (VmHWM), reset per pass"
    if not marks:
        mark = "no /proc: psutil samples each millisecond"
    pins = platform.libc_ver()[0] == "glibc"
    malloc = f"glibc {platform.libc_ver()[1]}: mmap threshold 64 KiB, trim threshold 0"
    if not pins:
        malloc = "the C library is not glibc: resident sizes are further from the live bytes"
    yield Ability("resident high-water mark", marks, mark)
    yield Ability("pinned malloc policy", pins, malloc)
    yield Ability("budgets that refuse", *rlimit.data_segment_available())
    yield Ability("budgets that kill", *cgroup.available())


def examine_model() -> list[Ability]:
    """Compare the memory model with the installed PyTorch; return a summary and each difference."""
    from harness.measurement.model_check import check_model

    check = check_model()
    differing = check.differences.items()
    return [
        Ability("memory model", not differing, str(check)),
        *(Ability(str(workload), False, why) for workload, why in differing),
    ]


def _machine() -> Ability:
    facts = describe(Workload(), "")
    if not Path("/proc/self").exists():
        detail = "no /proc is mounted: no memory can be measured here (mount -t proc proc /proc)"
        return Ability("machine", False, detail)
    size = facts["memory_bytes"]
    memory = "memory of unknown size" if size is None else format_bytes(size)
    detail = f"{facts['cpu']}, {facts['cpu_count']} cores, {memory}, {platform.platform()}"
    return Ability("machine", True, detail)


def _worker() -> Iterator[Ability]:
    """Check worker processes with a tiny measurement, then check CUDA."""
    launcher = default_launcher("pinned")
    what = f"isolated workers ({launcher.name})"
    try:
        ended = launcher.launch(RunPasses(workload=Workload(depth=1, batch=8)), 120.0)
        outcome, evidence = classify(ended)
        if outcome is not Outcome.OK or ended.result is None:
            yield Ability(what, False, str(evidence))
            return
        facts = ended.result["environment"]
        detail = f"torch {facts['torch']}, CPU capability {facts['cpu_capability']}"
        yield Ability(what, True, detail)
        what = "CUDA"
        yield Ability(what, *_gpu(launcher))
    except LaunchError as error:
        yield Ability(what, False, str(error))
    finally:
        launcher.close()


def _gpu(launcher: Launcher) -> tuple[bool, str]:
    """Initialize CUDA in a worker; return whether CUDA works, and the GPU's name or the error."""
    ended = launcher.launch(Describe(workload=Workload(device="cuda")), 120.0)
    if ended.failure is not None:
        return False, f"{ended.failure.message}; everything on the CPU can be measured"
    if ended.result is None:
        return False, str(classify(ended)[1])
    facts = ended.result["environment"]
    used, total = facts["gpu_used_before_bytes"], facts["gpu_memory_bytes"]
    return True, (
        f"{facts['gpu']}, capability {facts['gpu_capability']}, CUDA {facts['cuda']}, driver "
        f"{facts['driver'] or 'unknown'}; before any tensor {format_bytes(used)} of "
        f"{format_bytes(total)} are in use (context, libraries, other processes)"
    )


def _images() -> Ability:
    found = images_here(train=True)
    detail = str(missing_images()) if found is None else f"{found[0].shape[0]:,} training images"
    return Ability("Fashion-MNIST images", found is not None, detail)
