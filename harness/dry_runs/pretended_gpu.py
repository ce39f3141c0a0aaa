"""The pretended GPU of a dry run, and the environment variables that describe it to the stub."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.prediction.gpu.catalogue import OUTSIDE_BYTES, Gpu, described
from harness.schema.errors import HarnessError
from harness.schema.units import format_bytes

MOST_GPUS = 64
_UNCACHED = ("PYTORCH_NO_CUDA_MEMORY_CACHING", "PYTORCH_NO_HIP_MEMORY_CACHING")
_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


class PretendedGpuError(HarnessError, ValueError):
    """Raised if a GPU cannot be pretended; the message says why."""


class AllocatorSettingsError(HarnessError, ValueError):
    """Raised for an allocator setting that a dry run does not support; the message names it."""


@dataclass(frozen=True, kw_only=True)
class PretendedGpu(Gpu):
    """Properties of the GPU that the stub reports.

    Attributes:
        outside_bytes: lowest and highest estimate of the bytes outside PyTorch's allocator.
        count: number of identical GPUs in the machine.
    """

    total_bytes: int
    outside_bytes: tuple[int, int] = OUTSIDE_BYTES
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_GPUS:
            raise PretendedGpuError(f"gpus must be between 1 and {MOST_GPUS}, got {self.count}")
        if self.total_bytes <= self.outside_bytes[0]:
            raise PretendedGpuError(
                f"memory must be more than the {format_bytes(self.outside_bytes[0])} that the CUDA"
                f" context and libraries take, got {format_bytes(self.total_bytes)}"
            )

    def binary(self, architectures: Sequence[int]) -> int | None:
        """Return the architecture of PyTorch's kernels for this GPU; None if there are none."""
        major, minor = self.capability
        runs = [one for one in architectures if one // 10 == major and one % 10 <= minor]
        return max(runs, default=None)

    def variables(self, architectures: Sequence[int]) -> dict[str, str]:
        """Return the environment variables that the stub reads (``stub/cuda/state.c``)."""
        capability = self.capability[0] * 10 + self.capability[1]
        values = {
            "NAME": self.name,
            "BINARY": self.binary(architectures) or capability,
            "GPUS": self.count,
            "CAPABILITY": capability,
            "MULTIPROCESSORS": self.multiprocessors,
            "THREADS": self.threads_per_multiprocessor,
            "MEMORY": self.total_bytes,
            "OUTSIDE": self.outside_bytes[0],
            "L2": self.l2_bytes or "",
        }
        return {f"HARNESS_DRY_RUN_{name}": str(value) for name, value in values.items()}


def pretended_gpu(
    gpu: str | Gpu | None = None,
    *,
    capability: str | None = None,
    memory_bytes: int | None = None,
    multiprocessors: int | None = None,
    count: int = 1,
    outside_bytes: int | None = None,
    one_pool: bool | None = None,
) -> PretendedGpu:
    """Return the pretended GPU; the other arguments replace properties of ``gpu``."""
    if isinstance(gpu, Gpu):
        entry = gpu
    else:
        entry = described("a100-40gb" if gpu is None and capability is None else gpu, capability)
    if not (memory_bytes or entry.total_bytes):
        raise PretendedGpuError(f"memory of a GPU of {entry.name} is not known; give --memory")
    given = {
        "total_bytes": memory_bytes or None,
        "multiprocessors": multiprocessors or None,
        "one_pool": one_pool,
        "outside_bytes": None if outside_bytes is None else (outside_bytes, outside_bytes),
        "count": count,
    }
    return PretendedGpu(
        **vars(entry) | {name: value for name, value in given.items() if value is not None}
    )


def of_any_size(gpu: Gpu) -> PretendedGpu:
    """Return a GPU from the catalogue; if its memory is unknown, use 64 TiB."""
    return pretended_gpu(gpu, memory_bytes=gpu.total_bytes or 1 << 46)


def refuse_unfollowed(
    environment: Mapping[str, str],
    given: str = "",
    *,
    memory_ends: bool = False,
    option: str = "--alloc-conf",
) -> None:
    """Raise AllocatorSettingsError for settings with which the allocator's counters are wrong.

    Args:
        environment: environment variables of the process that uses the GPU.
        given: settings from the option ``option``.
        memory_ends: whether the pretended GPU has the real GPU's memory size. The setting
            ``per_process_memory_fraction`` is refused if ``memory_ends`` is False.
        option: name of the option for ``given``; error messages contain it.
    """
    for name in _UNCACHED:
        if name in environment:
            why = "PyTorch then counts no memory; unset it"
            raise AllocatorSettingsError(f"{name} in the environment has no answer: {why}")
    settings = {name: environment.get(name, "") for name in _VARIABLES} | {option: given}
    for source, text in settings.items():
        for name, value in re.findall(r"(\w+)\s*:\s*([\w.]+)", text):
            if name == "backend" and value != "native":
                raise AllocatorSettingsError(
                    f"{source}: backend:{value} has no answer: it keeps no peaks; leave it out"
                )
            if name == "per_process_memory_fraction" and not memory_ends:
                raise AllocatorSettingsError(
                    f"{source}: {name} has no answer here: give the part as --memory, or run your"
                    " script under harness dry-run"
                )
