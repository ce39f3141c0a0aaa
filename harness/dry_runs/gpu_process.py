"""Processes that used the pretended GPUs, in the report of a dry run."""

from msgspec import Struct

from harness.schema.memory_fit import Fit
from harness.schema.metrics import CudaPeaks


class GpuProcess(Struct, frozen=True, kw_only=True):
    """One of several processes that held memory of the GPUs.

    Attributes:
        name: its rank, its name in ``multiprocessing``, or its command line.
        pid: its identifier.
        gpus: the GPUs on which it held memory.
        cuda: its peaks on the GPU on which it reserved most.
        fit: whether it would fit without the other processes.
        optimizer_steps: number of optimizer steps that it completed.
        lost: whether the process ended without a report of its own, for example because it was
            killed. Only the driver's count of its bytes is then known.
    """

    name: str
    pid: int
    gpus: tuple[int, ...]
    cuda: CudaPeaks
    fit: Fit | None = None
    optimizer_steps: int = 0
    lost: bool = False


class SharedGpu(Struct, frozen=True, kw_only=True):
    """Most bytes of one GPU that processes held at the same time, and the number of processes.

    Attributes:
        index: number of the GPU.
        processes: number of these processes, each with a context of its own.
        held_bytes: bytes that they held together, by the driver's count.
        fit: whether these bytes fit next to the memory outside the allocator of each process.
    """

    index: int
    processes: int
    held_bytes: int
    fit: Fit
