"""Processes that used the pretended GPUs, as the report of a dry run has them."""

from msgspec import Struct

from harness.schema.memory_fit import Fit
from harness.schema.metrics import CudaPeaks


class GpuProcess(Struct, frozen=True, kw_only=True):
    """One of several processes that held memory of the GPUs.

    Attributes:
        name: its rank, its name in ``multiprocessing``, or its command line.
        pid: its identifier.
        gpus: the GPUs that it held memory of.
        cuda: its peaks, of the GPU that it reserved most of.
        fit: whether it would fit without the other processes.
        optimizer_steps: number of optimizer steps that it completed.
        lost: whether it ended without a report of its own, for example because it was killed. Then
            only the bytes are known that the driver gave it.
    """

    name: str
    pid: int
    gpus: tuple[int, ...]
    cuda: CudaPeaks
    fit: Fit | None = None
    optimizer_steps: int = 0
    lost: bool = False


class SharedGpu(Struct, frozen=True, kw_only=True):
    """Most bytes that processes held of one GPU at the same time, and their number.

    Attributes:
        index: the GPU.
        processes: how many processes they were, each with a context of its own.
        held_bytes: what they held together, as the driver counts.
        fit: whether that fits with the memory outside the allocator of each of them.
    """

    index: int
    processes: int
    held_bytes: int
    fit: Fit
