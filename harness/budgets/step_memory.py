"""The memory of a step of a test's model: predicted, or measured on this machine."""

from collections.abc import Callable
from typing import Any

from harness.budgets.memory_use import MemoryUse
from harness.schema.errors import HarnessError
from harness.schema.step_report import StepReport


class MeasureError(HarnessError):
    """The step cannot be measured here; one line says why."""


def predicted(build: Callable[[], Any], batch: int, *, gpu: str | None, **step: Any) -> MemoryUse:
    """Return the prediction of ``harness.predict`` for the step, which takes the options."""
    from harness.planning.predict_step import predict_step

    report = predict_step(build, batch, gpu=gpu, **_renamed(step))
    return _use(report, gpu, measured=False)


def measured(build: Callable[[], Any], batch: int, *, gpu: str | None, **step: Any) -> MemoryUse:
    """Return the memory of the traced step on this CPU or GPU.

    Raises:
        MeasureError: there is no GPU, or the step does not run to its end.
    """
    from harness.dry_run.for_workers import has_gpu
    from harness.measurement.measure import DEADLINE_SECONDS
    from harness.planning.measure_step import measure_step
    from harness.planning.predict_step import request_of

    if gpu is not None and not has_gpu():
        raise MeasureError("measuring a step on a GPU needs a CUDA device; predict it instead")
    report = measure_step(
        request_of(build, batch, _renamed(step)),
        device="cpu" if gpu is None else "cuda",
        gpu=None,
        deadline_seconds=DEADLINE_SECONDS,
    )
    if report.trace is None:
        raise MeasureError(f"the step was not measured: {report.reason}")
    return _use(report, gpu, measured=True)


def _renamed(step: dict[str, Any]) -> dict[str, Any]:
    """Return the options with ``inputs`` for ``input_shape``, its former name."""
    return {"inputs" if name == "input_shape" else name: value for name, value in step.items()}


def _use(report: StepReport, gpu: str | None, *, measured: bool) -> MemoryUse:
    peak = report.peak_live_bytes or 0
    if report.cuda is not None and report.cuda.allocated_peak_bytes is not None:
        peak = report.cuda.allocated_peak_bytes
    layers = {name or "(network)": size for name, size in report.bytes_at_peak("module").items()}
    method = "measured" if measured else "predicted"
    return MemoryUse(peak_bytes=peak, layers=layers, method=method, gpu=gpu)  # type: ignore[arg-type]
