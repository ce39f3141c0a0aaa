"""Finds, hides and describes the GPU that a worker process uses."""

import contextlib
import os
from pathlib import Path

import torch

from harness.instruments.cuda_counters import free_workspaces, gpu_bytes
from harness.processes.environment import pretended_device
from harness.processes.forked_call import in_fork
from harness.processes.outcome import ForkFailedError
from harness.schema.errors import HarnessError
from harness.schema.provenance import Environment

_DRIVER = Path("/proc/driver/nvidia/version")
_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


class NoGpuError(HarnessError):
    """PyTorch cannot use a GPU on this machine; the message gives the reason."""


def seen_in_a_fork() -> bool:
    """Return whether PyTorch sees a GPU; the check runs in a forked process.

    If the check initialised CUDA in this process, no child process could use CUDA. With NVIDIA's
    library NVML, the check does not initialise CUDA.
    """
    with contextlib.suppress(ForkFailedError):
        return _built_with_cuda() and in_fork(torch.cuda.is_available)
    return False


def _built_with_cuda() -> bool:
    return torch.version.cuda is not None or torch.version.hip is not None


def hide() -> None:
    """Hide all GPUs from this process, so that a step on the CPU creates no CUDA context.

    Call this before any code that initialises CUDA, e.g. before an optimizer step.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def start() -> Environment:
    """Initialise CUDA, and return the properties of the current GPU for a record."""
    if not _built_with_cuda():
        raise NoGpuError("device: 'cuda': the installed torch is a build without CUDA")
    if not torch.cuda.is_available():
        built = f"torch {torch.__version__} is a CUDA build"
        raise NoGpuError(f"device: 'cuda': {built} but sees no GPU; see nvidia-smi")
    torch.cuda.init()  # type: ignore[no-untyped-call]
    free_workspaces()  # of earlier jobs, where a debugger runs several in one process
    torch.cuda.empty_cache()
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    sizes = gpu_bytes()
    return {
        **({"device": device} if (device := pretended_device()) else {}),
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "gpu_multiprocessors": properties.multi_processor_count,
        "gpu_threads_per_multiprocessor": properties.max_threads_per_multi_processor,
        "gpu_used_before_bytes": sizes["outside_bytes"],
        "cuda": torch.version.cuda,
        "driver": driver_version(),
        "allocator": torch.cuda.get_allocator_backend(),
        "allocator_settings": next((os.environ[n] for n in _SETTINGS if n in os.environ), ""),
        "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
    }


def driver_version() -> str | None:
    """Return the version of the NVIDIA kernel driver, or None if no driver is loaded."""
    with contextlib.suppress(OSError):
        words = _DRIVER.read_text().split()
        return next((word for word in words if word[0].isdigit() and "." in word), None)
    return None


def memory_at_failure() -> dict[str, int] | None:
    """Return the total, free, reserved and other memory of the GPU; None if CUDA is unused."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    with contextlib.suppress(RuntimeError):
        return gpu_bytes()
    return None
