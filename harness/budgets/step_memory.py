"""The memory of a step of a test's model: predicted, or measured on this machine."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from msgspec import Struct

from harness.prediction.versions import torch_version
from harness.schema.errors import HarnessError
from harness.schema.layer_names import common_name, pattern
from harness.schema.metrics import Bytes
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes

Method = Literal["predicted", "measured"]
_LAYERS_NAMED = 3


class MemoryUse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The peak of a training step and the layers that hold it; an entry of the baseline file.

    Attributes:
        peak_bytes: most bytes alive on the CPU; most bytes allocated by PyTorch on a GPU.
        layers: bytes alive at the peak of the step's requests, by the layer that allocated them.
        torch: version of PyTorch; None in files of earlier versions.
    """

    peak_bytes: Bytes
    layers: dict[str, Bytes]
    method: Method
    gpu: str | None = None
    torch: str | None = None


def growth(use: MemoryUse, baseline: MemoryUse) -> list[str]:
    """Return which layers hold more than before, most growth first, a sentence each."""
    rows: dict[tuple[str, int, int | None], list[str]] = {}
    grown = {name: size - baseline.layers.get(name, 0) for name, size in use.layers.items()}
    for name in sorted(grown, key=lambda name: (-grown[name], name)):
        if grown[name] > 0:
            key = pattern(name), use.layers[name], baseline.layers.get(name)
            rows.setdefault(key, []).append(name)
    return [
        f"{_named(names)} is new, with {format_bytes(size)}"
        if before is None
        else f"{_named(names)} grew by {format_bytes(size - before)} "
        f"({format_bytes(before)} to {format_bytes(size)})"
        for (_, size, before), names in [*rows.items()][:_LAYERS_NAMED]
    ]


def _named(names: Sequence[str]) -> str:
    """Return the layer, or the layers of equal blocks that changed alike."""
    if len(names) == 1:
        return f"layer {names[0]}"
    return f"each of the {len(names)} layers {common_name(names)}"


def largest(use: MemoryUse) -> list[str]:
    """Return the layers that hold most at the peak, a sentence each."""
    order = sorted(use.layers, key=lambda name: (-use.layers[name], name))
    return [
        f"layer {name} holds {format_bytes(use.layers[name])}" for name in order[:_LAYERS_NAMED]
    ]


class MeasureError(HarnessError):
    """The step cannot be measured here; one line says why."""


def predicted(build: Callable[[], Any], batch: int, *, gpu: str | None, **step: Any) -> MemoryUse:
    """Return the prediction of ``harness.predict`` for the step, which takes the options."""
    from harness.planning.predict_step import predict_step

    report = predict_step(build, batch, gpu=gpu, **_renamed(step))
    return _use(report, gpu, "predicted")


def measured(build: Callable[[], Any], batch: int, *, gpu: str | None, **step: Any) -> MemoryUse:
    """Return the memory of the traced step on this CPU or GPU."""
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
    return _use(report, gpu, "measured")


def _renamed(step: dict[str, Any]) -> dict[str, Any]:
    """Return the options with ``inputs`` for ``input_shape``, its former name."""
    return {"inputs" if name == "input_shape" else name: value for name, value in step.items()}


def _use(report: StepReport, gpu: str | None, method: Method) -> MemoryUse:
    peak = None if report.cuda is None else report.cuda.allocated_peak_bytes
    layers = {name or "(network)": size for name, size in report.bytes_at_peak("module").items()}
    return MemoryUse(
        peak_bytes=(report.peak_live_bytes or 0) if peak is None else peak,
        layers=layers,
        method=method,
        gpu=gpu,
        torch=torch_version(),
    )
