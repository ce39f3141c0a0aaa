"""The memory of a step of a test's model: predicted, or measured on this machine."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from harness.budgets.memory_use import MemoryUse, layers_at_peak
from harness.prediction.module.predict_module import predict_module
from harness.profiling.module_trace import trace
from harness.schema.errors import HarnessError
from harness.training.module_step import Step, make_optimizer, run_step

Build = Callable[[], nn.Module]


class MeasureError(HarnessError):
    """The step cannot be measured here; one line says why."""


def predicted(build: Build, batch: int, *, gpu: str | None, **options: Any) -> MemoryUse:
    """Return the prediction of ``harness.predict`` for the step, which takes the options."""
    prediction = predict_module(build, batch, gpu=gpu, **options)
    peak = prediction.peak_live_bytes
    if prediction.cuda is not None and prediction.cuda.allocated_peak_bytes is not None:
        peak = prediction.cuda.allocated_peak_bytes
    layers = layers_at_peak(prediction.trace)
    return MemoryUse(peak_bytes=peak, layers=layers, method="predicted", gpu=gpu)


def measured(
    build: Build,
    batch: int,
    *,
    gpu: str | None,
    input_shape: tuple[int, ...] | None = None,
    inputs: Callable[[int], tuple[Any, Any]] | None = None,
    optimizer: Any = "sgd",
    loss: Any = "cross-entropy",
    mode: str = "train",
) -> MemoryUse:
    """Run two steps in this process and trace the second, on the CPU or on the GPU."""
    device = "cpu" if gpu is None else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise MeasureError("measuring a step on a GPU needs a CUDA device; predict it instead")
    if inputs is None and input_shape is None:
        raise MeasureError("the step needs input_shape or inputs")
    model = build().to(device).train(mode == "train")
    if inputs is not None:
        x, y = inputs(batch)
    else:
        assert input_shape is not None
        x, y = torch.zeros((batch, *input_shape)), torch.zeros(batch, dtype=torch.int64)
    x, y = (each.to(device) if isinstance(each, torch.Tensor) else each for each in (x, y))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    made = make_optimizer(optimizer, trained) if mode == "train" else None
    step = Step(model=model, x=x, y=y, optimizer=made, loss=loss, mode=mode)
    run_step(step, lambda _: nullcontext())
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run_step(step, lambda _: nullcontext())
    with trace(model, optimizer=made or (), inputs=(x, y), device=device) as traced:
        run_step(step, lambda _: nullcontext())
    peak = traced.trace.peak_live_bytes
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return MemoryUse(
        peak_bytes=peak, layers=layers_at_peak(traced.trace), method="measured", gpu=gpu
    )
