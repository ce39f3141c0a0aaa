"""The answers about a workload on a GPU: does it fit, its largest batch, a smaller last batch."""

from functools import partial

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.fit import GpuMemory, Run
from harness.prediction.gpu.peaks import (
    ENDLESS,
    OnCuda,
    by_each_policy,
    named_peaks,
    verdict_on_gpu,
)
from harness.prediction.gpu.simulation import simulate
from harness.prediction.largest_value import largest_within
from harness.prediction.mlp.cuda_trace import CudaSteps, most_rows
from harness.prediction.mlp.last_batch import Epoch
from harness.schema.memory_fit import BudgetFit, GpuFit, LastBatch
from harness.schema.metrics import CudaPeaks
from harness.schema.verdict import FITS
from harness.schema.workload import Workload


def runs_of(workload: Workload, gpu: Gpu, epoch: Epoch | None = None) -> tuple[Run, ...]:
    """Return what has to fit: the steady steps, and with ``epoch`` the smaller last one too."""
    steps = partial(simulate, CudaSteps(workload, gpu))
    return (steps,) if epoch is None else (steps, epoch.simulate)


def largest_batch(memory: GpuMemory, workload: Workload, *, surely: bool = True) -> int | None:
    """Return a batch of ``workload`` that runs where the next one does not."""
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


def fit_of_workload(
    memory: GpuMemory, peaks: OnCuda, runs: tuple[Run, ...], workload: Workload
) -> GpuFit:
    """Return whether ``runs`` fit on the GPU, and the workload's largest batches."""
    surely, at_best = (largest_batch(memory, workload, surely=each) for each in (True, False))
    verdict = memory.verdict(*runs)
    return verdict_on_gpu(memory, peaks, verdict, surely, at_best, is_searched=True)


def last_batch(epoch: Epoch, settings: str = "") -> tuple[LastBatch, tuple[str, ...]]:
    """Return the peaks of the epoch's partial step and of the one after it, and notes."""
    runs, endless = by_each_policy(epoch.simulate, epoch.gpu, settings)
    rises = [simulated.reserved_rise_bytes for simulated in runs]
    reserved = [simulated.reserved_peak_bytes for simulated in runs]
    result = LastBatch(
        examples=epoch.examples,
        rows=epoch.rows,
        steps_before=epoch.steps_before,
        partial_step=CudaPeaks(**named_peaks(runs[0].partial)),
        next_step=CudaPeaks(**named_peaks(runs[0].following)),
        reserved_peak_bytes=(min(reserved), max(reserved)),
        reserved_rise_bytes=(min(rises), max(rises)),
    )
    return result, (ENDLESS,) if endless else ()


def within(
    workload: Workload,
    gpu: Gpu,
    settings: str,
    needed_bytes: int,
    budget_bytes: int,
    epoch: Epoch | None = None,
) -> BudgetFit:
    """Return whether the allocator needs to reserve at most the budget."""
    memory = GpuMemory(gpu=gpu, settings=settings, total_bytes=budget_bytes, outside_bytes=(0, 0))
    return BudgetFit(
        budget_bytes=budget_bytes,
        needed_bytes=needed_bytes,
        fits=memory.verdict(*runs_of(workload, gpu, epoch)) == FITS,
        largest_batch=largest_batch(memory, workload),
    )
