"""Data types for processes that used the pretended GPUs."""

from msgspec import Struct

from harness.schema.memory_fit import Fit
from harness.schema.metrics import CudaPeaks


class GpuProcess(Struct, frozen=True, kw_only=True):
    """One of several processes that used GPU memory.

    Attributes:
        name: rank of the process, its name in ``multiprocessing``, or its command line.
        pid: process ID.
        gpus: indices of the GPUs on which the process used memory.
        cuda: peaks of the process on the GPU where it reserved most memory.
        fit: whether the process would fit the GPU without the other processes.
        optimizer_steps: number of completed optimizer steps.
        lost: whether the process ended without a report, e.g. because it was killed. For a lost
            process, only the bytes that the driver stub counted are known.
    """

    name: str
    pid: int
    gpus: tuple[int, ...]
    cuda: CudaPeaks
    fit: Fit | None = None
    optimizer_steps: int = 0
    lost: bool = False


class SharedGpu(Struct, frozen=True, kw_only=True):
    """Peak memory of one GPU that several processes used at the same time.

    Attributes:
        index: index of the GPU, counted from 0.
        processes: number of processes that used the GPU; each process has its own CUDA context.
        held_bytes: peak memory of all processes together, as counted by the driver stub.
        fit: whether ``held_bytes`` and each process's memory outside the allocator fit the GPU.
    """

    index: int
    processes: int
    held_bytes: int
    fit: Fit
