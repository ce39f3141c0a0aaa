"""Whether a workload fits on a GPU, and its largest batch."""

from functools import partial

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.fit import GpuMemory, Run
from harness.prediction.gpu.simulation import play
from harness.prediction.largest_value import largest_within
from harness.prediction.mlp.cuda_trace import CudaSteps, most_rows
from harness.prediction.mlp.last_batch import Epoch
from harness.schema.workload import Workload


def runs_of(workload: Workload, gpu: Gpu, epoch: Epoch | None = None) -> tuple[Run, ...]:
    """Return what has to fit: the steady steps, and with ``epoch`` the smaller last one too."""
    steps = partial(play, CudaSteps(workload, gpu))
    return (steps,) if epoch is None else (steps, epoch.play)


def largest_batch(memory: GpuMemory, workload: Workload, *, surely: bool = True) -> int | None:
    """Return a batch of ``workload`` that runs where the next one does not.

    Args:
        memory: the GPU's.
        workload: its batch is varied.
        surely: whether the batch has to run surely, or only may run.

    Returns:
        None where not even the smallest batch runs.

    """
    return memory.largest_batch(
        lambda batch: runs_of(workload.replace(batch=batch), memory.gpu)[0],
        low=workload.least_batch,
        high=most_rows(workload),
        guess=largest_by_requests(
            workload, memory.gpu, memory.total_bytes - memory.outside_bytes[0]
        ),
        surely=surely,
    )


def largest_by_requests(workload: Workload, gpu: Gpu, available_bytes: int) -> int:
    """Return the largest batch whose requested bytes alone fit into ``available_bytes``."""

    def requested(batch: int) -> int:
        return max(CudaSteps(workload.replace(batch=batch), gpu).trace(2).live_bytes)

    low, high = workload.least_batch, most_rows(workload)
    return largest_within(requested, available_bytes, low=low, high=high) or low
