"""Predicts the memory of a workload on CUDA, by a dry run or an estimate."""

import dataclasses

from msgspec.structs import replace

from harness.dry_runs.toolchain import torch_version
from harness.planning.ask_step import answered
from harness.planning.predict_questions import CheckGpus, PredictStep
from harness.prediction.gpu.catalogue import OUTSIDE_BYTES, Gpu, gpu_of
from harness.schema.argument_checks import ArgumentError, check_bytes
from harness.schema.memory_fit import BudgetFit
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest
from harness.schema.workload import Workload


def predict_on_cuda(
    workload: Workload,
    *,
    budget_bytes: int | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    torch: str | None = None,
    method: str = "auto",
    largest: bool = True,
) -> StepReport:
    """Predict the memory of a workload on CUDA; ``harness.predict`` describes the arguments."""
    check_bytes("budget_bytes", budget_bytes)
    if torch is not None:
        raise ArgumentError(
            f"torch must be left out on CUDA, where the installed PyTorch answers, got {torch!r}"
        )
    used = gpu_of(gpu)
    request = request_of(workload)
    fits = gpu is not None and used.total_bytes is not None
    question = PredictStep(
        request=request,
        device="cuda",
        gpus=(used,),
        settings=allocator_settings,
        fits=fits,
        largest=fits and largest,
    )
    report = answered(question, method)
    notes = list(report.notes)
    if gpu is None:
        notes.append(f"no GPU was given: workspaces and scratch are those of {used.name}")
    elif not fits:
        notes.append(f"total memory of {used.name} is unknown, so whether the step fits is too")
    budget = None
    if budget_bytes is not None:
        budget = _budget(request, used, allocator_settings, budget_bytes, method)
    saved = ("saved_bytes", "saved_input_bytes", "saved_activation_bytes")
    return replace(
        report,
        **(dict.fromkeys(saved, 0) if workload.mode == "inference" else {}),
        workload=workload,
        workload_id=workload.id,
        target=None,
        torch=report.torch or torch_version(),
        budget=budget,
        notes=tuple(notes),
        host=None,
    )


def request_of(workload: Workload) -> StepRequest:
    """Convert a workload to the request that a worker process receives."""
    return StepRequest(
        workload=workload, batch=workload.batch, mode=workload.mode, threads=workload.threads
    )


def _budget(
    request: StepRequest, gpu: Gpu, settings: str, budget_bytes: int, method: str
) -> BudgetFit:
    """Check whether the step fits on a GPU whose allocator can use exactly ``budget_bytes``."""
    room = dataclasses.replace(gpu, total_bytes=budget_bytes + OUTSIDE_BYTES[1])
    every = CheckGpus(request=request, device="cuda", gpus=(room,), settings=settings)
    (fit,) = answered(every, method).fits
    return BudgetFit(
        budget_bytes=budget_bytes,
        needed_bytes=fit.reserved_peak_bytes[1],
        fits=fit.verdict == "fits",
        largest_batch=fit.largest_batch,
        is_searched=fit.is_searched,
    )
