"""The answers about a workload on a GPU: peaks, does it fit, its largest batch.

Steps of more than ``MOST_EVENTS`` events would take minutes to search. They are simulated once,
with ascending addresses; a budget then has an answer only if the parameters and their gradients
alone exceed it.
"""

from functools import partial
from itertools import islice
from typing import Any

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.fit import (
    GpuMemory,
    OnCuda,
    Run,
    memory_of_gpu,
    peaks_on,
    verdict_on_gpu,
)
from harness.prediction.gpu.simulation import simulate
from harness.prediction.gpu.workspaces import notes_on
from harness.prediction.largest_batch import Largest
from harness.prediction.largest_batch import largest_batch as driver
from harness.prediction.largest_value import largest_within
from harness.prediction.mlp.cuda_trace import CudaSteps, most_rows
from harness.prediction.mlp.formula import buffer_bytes, gradient_bytes, parameter_bytes
from harness.prediction.versions import CHECKED_ON_CUDA, described_version
from harness.schema.events import Trace
from harness.schema.memory_fit import BudgetFit
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

MOST_EVENTS = 50_000
"""Events of a step up to which every address policy is simulated and batches are searched."""


def answers(
    workload: Workload,
    gpu: Gpu,
    settings: str,
    budget_bytes: int | None,
    notes: list[str],
    *,
    is_named: bool,
) -> tuple[Trace, dict[str, Any]]:
    """Return the trace and the fields of a prediction about the GPU; add to ``notes``."""
    notes += notes_on(gpu.capability, gpu.workspace_config)
    script = CudaSteps(workload, gpu)
    is_long = script.event_count > MOST_EVENTS
    peaks = peaks_on(script, gpu, settings, policies=1 if is_long else None)
    notes += peaks.notes
    version, memory = str(described_version()), memory_of_gpu(gpu, settings)
    if version not in CHECKED_ON_CUDA:
        checked = ", ".join(CHECKED_ON_CUDA)
        notes.append(f"torch {version}: CUDA kernels and workspaces are those of {checked}")
    if not is_named:
        notes.append(f"no GPU was given: workspaces and scratch are those of {gpu.name}")
    elif memory is None:
        notes.append(f"total memory of {gpu.name} is unknown, so whether the step fits is too")
    fields: dict[str, Any] = {"cuda": peaks.cuda}
    needed = peaks.ranges["reserved_peak_bytes"][1]
    if is_long:
        count = f"a step of {script.event_count:,} events"
        notes.append(f"{count} was simulated once, with segments at ascending addresses")
        known, least = _without_search(workload, memory if is_named else None, peaks, budget_bytes)
        still_open = {
            "gpu": is_named and "fit" not in known,
            "budget": budget_bytes is not None and "budget" not in known,
        }
        reason = f"no answer, because {count} is not searched (at most {MOST_EVENTS:,}); {least}"
        unanswered = tuple(f"{name}: {reason}" for name in still_open if still_open[name])
        return script.trace(2), fields | known | {"unanswered": unanswered}
    if is_named and memory is not None:
        verdict = memory.verdict(run_of(workload, gpu))
        batches = [largest_batch(memory, workload, surely=each) for each in (True, False)]
        fields["fit"] = verdict_on_gpu(memory, peaks, verdict, *batches)
    if budget_bytes is not None:
        memory = GpuMemory(
            gpu=gpu, settings=settings, total_bytes=budget_bytes, outside_bytes=(0, 0)
        )
        largest = largest_batch(memory, workload)
        fields["budget"] = BudgetFit(
            budget_bytes=budget_bytes,
            needed_bytes=needed,
            fits=memory.verdict(run_of(workload, gpu)) == "fits",
            largest_batch=largest.batch,
            is_searched=largest.is_found,
        )
    return script.trace(2), fields


def _without_search(
    workload: Workload, memory: GpuMemory | None, peaks: OnCuda, budget_bytes: int | None
) -> tuple[dict[str, Any], str]:
    """Return the answers that parameters and gradients alone give, and what these take."""
    # Alive at the end of every backward pass, for each batch size.
    least = parameter_bytes(workload) + buffer_bytes(workload) + gradient_bytes(workload)
    fields: dict[str, Any] = {}
    if memory is not None and least > memory.total_bytes - memory.outside_bytes[0]:
        none = Largest(None, is_found=True)
        fields["fit"] = verdict_on_gpu(memory, peaks, "does not fit", none)
    if budget_bytes is not None and least > budget_bytes:
        fields["budget"] = BudgetFit(
            budget_bytes=budget_bytes,
            needed_bytes=peaks.ranges["reserved_peak_bytes"][1],
            fits=False,
            largest_batch=None,
        )
    return fields, f"parameters and gradients alone take {format_bytes(least)}"


def run_of(workload: Workload, gpu: Gpu) -> Run:
    """Return what has to fit: the build and the steps until they are steady."""
    return partial(simulate, CudaSteps(workload, gpu))


class _Formula:
    """A workload's steps at any batch, under one address policy or under all of them."""

    def __init__(self, memory: GpuMemory, workload: Workload, *, surely: bool) -> None:
        self._memory, self._workload, self._surely = memory, workload, surely
        self.policies: int | None = 1

    def peak(self, batch: int) -> int | None:
        return _requested(self._workload, self._memory.gpu, batch)

    def completes(self, batch: int, room_bytes: int) -> bool:
        del room_bytes  # the memory knows how much is outside
        run = run_of(self._workload.replace(batch=batch), self._memory.gpu)
        completed = islice(self._memory.completed(run, surely=self._surely), self.policies)
        return all(completed) if self._surely else any(completed)


def largest_batch(memory: GpuMemory, workload: Workload, *, surely: bool = True) -> Largest:
    """Return a batch of ``workload`` that runs where the next one does not.

    The search goes on with one address policy; the others are asked where it ends.
    """
    formula = _Formula(memory, workload, surely=surely)
    room = memory.total_bytes - memory.outside_bytes[surely]
    least, most = workload.least_batch, most_rows(workload)
    search = partial(driver, formula, room, batch=least, least=least, highest=most)
    guess = largest_by_requests(workload, memory.gpu, memory.total_bytes - memory.outside_bytes[0])
    largest = search(guess=guess)
    formula.policies = None
    if surely and largest.batch is not None and formula.completes(largest.batch, room):
        return largest  # the next one fails by that policy already
    return search(guess=largest.batch or guess)


def largest_by_requests(workload: Workload, gpu: Gpu, available_bytes: int) -> int:
    """Return the largest batch whose requested bytes alone fit into ``available_bytes``."""
    low, high = workload.least_batch, most_rows(workload)
    requested = partial(_requested, workload, gpu)
    return largest_within(requested, available_bytes, low=low, high=high) or low


def _requested(workload: Workload, gpu: Gpu, batch: int) -> int:
    return max(CudaSteps(workload.replace(batch=batch), gpu).trace(2).live_bytes)
