"""Long steps, for which a search through the allocator model would take minutes.

They are played once, with ascending addresses. What is asked of a budget is answered where the
parameters and their gradients alone exceed it, which needs no search; otherwise it has no answer.
"""

from typing import Any

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.peaks import memory_of_gpu, peaks_on, verdict_on_gpu
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.prediction.mlp.formula import buffer_bytes, gradient_bytes, parameter_bytes
from harness.schema.memory_fit import BudgetFit
from harness.schema.units import format_bytes
from harness.schema.verdict import DOES_NOT_FIT
from harness.schema.workload import Workload

MOST_EVENTS = 50_000
"""Events of a step up to which every address policy is played and batches are searched."""


def is_long(script: CudaSteps) -> bool:
    """Return whether the steps are too long to be searched."""
    return script.event_count > MOST_EVENTS


def answer(
    script: CudaSteps,
    workload: Workload,
    gpu: Gpu,
    settings: str,
    *,
    is_named: bool,
    budget_bytes: int | None,
    examples: bool,
) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a prediction that one play and the closed forms give, and notes."""
    peaks = peaks_on(script, gpu, settings, policies=1)
    memory = memory_of_gpu(gpu, settings)
    # What is alive at the end of a backward pass, whatever the batch.
    least = parameter_bytes(workload) + buffer_bytes(workload) + gradient_bytes(workload)
    fields: dict[str, Any] = {"cuda": peaks.cuda}
    still = {"gpu": is_named, "budget": budget_bytes is not None, "examples": examples}
    if is_named and memory is not None and least > memory.total_bytes - memory.outside_bytes[0]:
        fields["fit"] = verdict_on_gpu(memory, peaks, DOES_NOT_FIT, is_searched=True)
        still["gpu"] = False
    if budget_bytes is not None and least > budget_bytes:
        fields["budget"] = BudgetFit(
            budget_bytes=budget_bytes,
            needed_bytes=peaks.ranges["reserved_peak_bytes"][1],
            fits=False,
            largest_batch=None,
        )
        still["budget"] = False
    count = f"a step of {script.event_count:,} events"
    reason = (
        f"no answer, because {count} is not searched (at most {MOST_EVENTS:,}); "
        f"parameters and gradients alone take {format_bytes(least)}"
    )
    fields["unanswered"] = tuple(f"{name}: {reason}" for name, is_open in still.items() if is_open)
    note = f"{count} was played once, with segments at ascending addresses"
    return fields, [*peaks.notes, note]
