"""Implements ``harness.measure`` for workloads and for the user's own networks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Unpack, overload

import msgspec

from harness.measurement.measure import DEADLINE_SECONDS
from harness.measurement.measure import measure as measure_workload
from harness.planning.ask_worker import ended_question, error_of, failed_report
from harness.planning.pretended_workers import checked, gpu_or_dry_run
from harness.planning.sent_step import device_of, name_of, request_of
from harness.planning.step_advice import with_advice
from harness.planning.step_question import TraceStep
from harness.planning.token_labels import with_labels
from harness.prediction.gpu.catalogue import Gpu, gpu_of
from harness.processes.environment import has_gpu
from harness.processes.launch import OnPhase
from harness.processes.outcome import classify
from harness.schema.argument_checks import ArgumentError
from harness.schema.errors import StepError
from harness.schema.record import Outcome, Record
from harness.schema.step import Step, StepOptions, as_step, takes_a_step
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest
from harness.schema.workload import Workload

if TYPE_CHECKING:
    from torch import nn


@overload
def measure(
    target: Workload,
    *,
    repeats: int | None = None,
    gpu: Gpu | str | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
) -> Record: ...
@overload
def measure(
    target: "Step | nn.Module | Callable[..., nn.Module] | str",
    batch: int | None = None,
    *,
    gpu: Gpu | str | None = None,
    device: str | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
    **step: Unpack[StepOptions],
) -> StepReport: ...
@takes_a_step
def measure(
    target: "Step | Workload | nn.Module | Callable[..., nn.Module] | str",
    batch: int | None = None,
    *,
    repeats: int | None = None,
    gpu: Gpu | str | None = None,
    device: str | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
    **step: Unpack[StepOptions],
) -> Record | StepReport:
    """Measure the memory of a step in separate processes.

    If the step runs out of memory or time, the result's ``outcome`` states this failure.

    Args:
        target: a ``Step``, a ``Workload``, a network, a function that returns a network, or the
            name of a network.
        batch: number of examples in a step; not for a ``Step`` or a ``Workload``.
        repeats: number of runs of a ``Workload`` that measure only time and RSS; default: 3.
        gpu: pretended GPU, as a name or a ``Gpu``; implies CUDA.
        device: ``cpu`` or ``cuda`` for a network's step; without a GPU, ``cuda`` is pretended.
        deadline_seconds: time limit of each worker process, in seconds.
        force: True to run a ``Workload`` that is predicted to need more than the available memory.
        step: other fields of a network's ``Step``, such as ``inputs``.

    Returns:
        A ``Record`` for a ``Workload``, else a ``StepReport``. All sizes are in bytes.

    Raises:
        ArgumentError: ``target`` has the wrong type, or ``batch`` is missing.
        StepError: an argument is invalid, or your code fails (the message contains the line).
        UnavailableError: the available memory is too small, or a process cannot be started.
        HarnessError: something that the step needs is missing, e.g. a GPU.

    >>> import harness
    >>> record = harness.measure(harness.Workload(width=8, in_features=8, batch=4), repeats=1)
    >>> record.outcome, record.saved_bytes
    (<Outcome.OK: 'ok'>, 452)

    """
    asked = as_step("measure", target, batch, step)
    if isinstance(asked, Workload):
        if device is not None:
            raise ArgumentError("measure of a workload takes no device: it has its own")
        workload = asked if gpu is None else asked.replace(device="cuda")
        with gpu_or_dry_run(workload.device, gpu):
            return measure_workload(
                workload, repeats=repeats or 3, deadline_seconds=deadline_seconds, force=force
            )
    if repeats is not None or force:
        raise ArgumentError("measure of a step takes no repeats and no force")
    kind = device_of("cuda" if gpu is not None and device is None else device or "cpu", gpu)
    request = request_of(asked)
    used = None if gpu is None else gpu_of(gpu)
    report = measure_step(request, device=kind, gpu=used, deadline_seconds=deadline_seconds)
    return msgspec.structs.replace(report, target=report.target or name_of(asked.target))


def measure_step(
    request: StepRequest,
    *,
    device: Literal["cpu", "cuda"],
    gpu: Gpu | None,
    deadline_seconds: float,
    progress: OnPhase | None = None,
) -> StepReport:
    """Trace the step in a worker process; also report a step that runs out of memory or time."""
    pretends = device == "cuda" and (gpu is not None or not has_gpu())
    gpus = (checked(gpu_of(gpu)),) if pretends else ()
    question = TraceStep(request=request, device=device, gpus=gpus)
    ended = ended_question(question, deadline_seconds, progress)
    if ended.failure is not None and not ended.failure.out_of_memory:
        error = error_of(ended.failure)
        other = with_labels(request, error) if isinstance(error, StepError) else None
        if other is not None:
            return measure_step(
                other, device=device, gpu=gpu, deadline_seconds=deadline_seconds, progress=progress
            )
        with with_advice(request):
            raise error
    outcome, evidence = classify(ended)
    if outcome is not Outcome.OK or ended.result is None:
        return failed_report(request, "dry run" if pretends else "measured", outcome, evidence)
    report = msgspec.convert(ended.result, StepReport)
    notes = (*request.notes, *report.notes)
    return msgspec.structs.replace(report, outcome=outcome, target=request.subject, notes=notes)
