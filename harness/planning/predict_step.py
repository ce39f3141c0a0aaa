"""Predicts the memory of a network's step or of a whole training loop."""

from collections.abc import Callable, Iterable
from typing import Literal, get_args

from msgspec.structs import replace

from harness.dry_runs.sent_without_values import sent_without_values
from harness.planning.ask_step import answered, ask
from harness.planning.predict_questions import CheckGpus, PredictStep, TraceRun
from harness.planning.sent_step import device_of, name_of, request_of
from harness.prediction.gpu.catalogue import USUAL, Gpu, gpu_of
from harness.processes.launch import OnPhase
from harness.schema.argument_checks import ArgumentError, check_choice
from harness.schema.step import Step
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest, own_places

Method = Literal["auto", "dry-run", "estimate"]
"""Prediction method for CUDA; ``auto`` uses the dry run if possible, else the estimate."""


def predict_step(
    step: Step,
    *,
    device: object = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    largest: bool = False,
    largest_on_all: bool = True,
    method: str = "auto",
    progress: OnPhase | None = None,
) -> StepReport:
    """Predict the memory of a step; ``harness.predict`` describes the arguments.

    ``largest_on_all=False`` leaves out the search for the largest batch if ``gpu`` is ``all``.
    """
    check_choice("method", method, get_args(Method))
    on_all = isinstance(gpu, str) and gpu.lower() == "all"
    kind = device_of(device, gpu)
    if kind == "cpu" and method == "dry-run":
        raise ArgumentError("method dry-run needs a CUDA device, e.g. gpu='l4'")
    gpus = tuple(USUAL.values()) if on_all else (gpu_of(gpu),)
    if kind == "cuda" and largest and (gpu is None or not gpus[0].total_bytes):
        raise ArgumentError("largest needs a GPU of known size, e.g. gpu='l4'")
    request = request_of(step, sent_without_values)
    if not on_all:
        question = PredictStep(
            request=request,
            device=kind,
            gpus=gpus,
            settings=allocator_settings,
            fits=gpu is not None,
            largest=largest,
        )
        report = answered(question, method, progress)
        return replace(report, target=report.target or name_of(step.target), host=None)
    every = CheckGpus(
        request=request,
        device=kind,
        gpus=gpus,
        settings=allocator_settings,
        largest=largest_on_all,
    )
    found = answered(every, method, progress)
    fits = tuple(sorted(found.fits, key=lambda fit: fit.total_bytes))
    return StepReport(
        method=found.method,
        target=request.subject or name_of(step.target),
        batch=step.batch,
        gpus=fits,
        notes=found.notes,
    )


def predict_run(
    *,
    run: Callable[..., object],
    shapes: Iterable[object] | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
) -> StepReport:
    """Predict the memory of a whole training loop; the report describes the loop as one step."""
    if not callable(run):
        raise ArgumentError(f"run must be a function, got a {type(run).__name__}")
    if shapes is not None and not isinstance(shapes, Iterable):
        raise ArgumentError(f"shapes must be a list, e.g. [(32, 128)], got {shapes!r}")
    objects = {"run": run, "shapes": None if shapes is None else list(shapes)}
    request = StepRequest(
        target=getattr(run, "__qualname__", None), sent=sent_without_values(objects), **own_places()
    )
    gpus, fits = (gpu_of(gpu),), gpu is not None
    return ask(
        TraceRun(request=request, device="cuda", gpus=gpus, settings=allocator_settings, fits=fits)
    )
