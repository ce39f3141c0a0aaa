"""A whole training loop traced as one step: the user's own function, on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import msgspec
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder, storage_addresses
from harness.instruments.cuda_counters import cuda_peaks
from harness.instruments.saved_tensors import SavedTensors
from harness.measurement.step_trace import StepTrace
from harness.schema.errors import StepError
from harness.schema.events import Trace, trace_metrics
from harness.schema.metrics import CudaMetrics, Metrics

NOTHING = "run allocated nothing on the GPU; does it say device='cuda'?"


def trace_run(call: Callable[[], object]) -> tuple[StepTrace, int]:
    """Return the trace of a call, all of it as one step, and its number of optimizer steps."""
    recorder = AllocationRecorder("cuda", infer=True)
    steps: list[Optimizer] = []
    saved = SavedTensors(recorder.mark_saved)
    with recorder, cuda_peaks() as peaks, saved.watch(), _watched(recorder, steps):
        call()
    events = [event._replace(step=1) for event in recorder.trace.events]
    if not events:
        raise StepError(NOTHING)
    trace = Trace(events, steps=1)
    metrics = msgspec.convert(trace_metrics(trace), Metrics)
    result = StepTrace(
        metrics=msgspec.structs.replace(metrics, cuda=msgspec.convert(peaks.metrics, CudaMetrics)),
        events=[list(event) for event in events],
        layers=[],
    )
    return result, len(steps)


@contextmanager
def _watched(recorder: AllocationRecorder, steps: list[Optimizer]) -> Iterator[None]:
    """Mark what every optimizer holds before and after its steps, and every forward pass."""
    running: list[AbstractContextManager[None]] = []

    def before_step(optimizer: Optimizer, *_: object) -> None:
        recorder.accumulates = True
        held = [p for group in optimizer.param_groups for p in group["params"]]
        recorder.mark(storage_addresses(held, "parameter"))
        grads = [p.grad for p in held if isinstance(p.grad, torch.Tensor)]
        recorder.mark(storage_addresses(grads, "gradient"))

    def after_step(optimizer: Optimizer, *_: object) -> None:
        steps.append(optimizer)
        recorder.mark(tensor_roles.state_addresses(optimizer))

    def before_forward(*_: object) -> None:
        scope = recorder.module_scope("") if not running else nullcontext()
        scope.__enter__()
        running.append(scope)

    def after_forward(*_: object) -> None:
        running.pop().__exit__(None, None, None)

    hooks = (
        register_optimizer_step_pre_hook(before_step),
        register_optimizer_step_post_hook(after_step),
        register_module_forward_pre_hook(before_forward),
        register_module_forward_hook(after_forward, always_call=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
