"""One traced step of any network: the source of every answer about it.

The recorder starts before the network is built, so sums over the trace are absolute. On the CPU
two steps run and the second one is measured; on a GPU, real or pretended, steps run until one
reserves no more than the one before, and the next one is measured. The user's own training loop is
traced as one step (``trace_run``), on a GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder, storage_addresses
from harness.instruments.cuda_counters import PhasePeaks, cuda_peaks, free_workspaces
from harness.instruments.forward_hooks import LayerOutputs, own_tensors, wrapped_forwards
from harness.instruments.saved_tensors import SavedTensors, saved_metrics
from harness.schema.errors import StepError
from harness.schema.events import Trace, trace_metrics
from harness.schema.metrics import CudaMetrics, CudaPeaks
from harness.schema.step_report import StepReport
from harness.training.module_step import Step, run_step
from harness.training.nested_tensors import tensors
from harness.training.own_step import OwnStep
from harness.training.training_step import Phase

MOST_STEPS = 8
"""Steps after which the next one is measured, whatever they reserved."""


def trace_step(
    own: OwnStep, device: str, announce: Phase, *, with_values: bool = True
) -> StepReport:
    """Build the step on ``device``, run it until it is steady, and return the last run's report.

    ``with_values`` says whether the network's large tensors need their values.
    """
    return _Tracing(own, device, announce).run(with_values=with_values)


class _Tracing:
    """One recording of a step; used once."""

    def __init__(self, own: OwnStep, device: str, announce: Phase) -> None:
        self._own = own
        self._device = device
        self._announce = announce
        self._recorder = AllocationRecorder(device)
        self._saved = SavedTensors(self._recorder.mark_saved)
        self._peaks = PhasePeaks()

    def run(self, *, with_values: bool) -> StepReport:
        outputs = LayerOutputs()
        with self._recorder:
            with self._phase("build"):
                model = self._own.network(self._device, with_values=with_values)
                step = self._own.step(model, self._device)
            for name, module in model.named_modules():
                self._recorder.adopt(own_tensors(module), "parameter", name)
            self._recorder.adopt(tensors([step.x, step.y]), "input")
            build = self._peaks.metrics
            first: dict[str, dict[str, int]] = {}
            for number in self._steps():
                with wrapped_forwards(model, outputs.named) if number == 1 else nullcontext():
                    self._step(model, step)
                first = first or self._peaks.metrics
        cuda = self._cuda(build, first) if self._device == "cuda" else None
        trace = self._recorder.trace
        saved = saved_metrics(
            self._saved.most,
            tensor_roles.parameter_addresses(model),
            tensor_roles.input_addresses(step.x, step.y),
        )
        facts = {
            **trace_metrics(trace),
            **(saved if self._own.mode == "train" else {}),
            "cuda": cuda,
            "layers": outputs.rows(model, trace, saved["modules"]),
            "trace": trace,
            "batch": self._own.batch,
        }
        return _report(facts)

    def _steps(self) -> Iterator[int]:
        """Yield the number of each step; the last one is the measured one."""
        yield 1
        number, before, now = 1, 0, self._reserved()
        while self._device == "cuda" and now > before and number < MOST_STEPS:
            number += 1
            yield number
            before, now = now, self._reserved()
        if self._device == "cuda" or self._own.mode == "train" or self._own.compile:
            self._steady_after = number
            yield number + 1

    def _reserved(self) -> int:
        return highest(self._peaks.metrics).get("reserved_peak_bytes", 0)

    def _step(self, model: nn.Module, step: Step) -> None:
        self._recorder.next_step()
        self._peaks = PhasePeaks()
        self._saved.most = []
        modules = self._recorder.module_scopes(model, self._saved.modules)
        with self._saved.watch(), modules:
            run_step(step, self._phase)
        for name, module in model.named_modules():
            own = own_tensors(module)
            grads = [p.grad for p in own if p.grad is not None]
            self._recorder.adopt(grads, "gradient", name)
            if step.optimizer is not None:
                states = [step.optimizer.state.get(p) for p in own if isinstance(p, nn.Parameter)]
                self._recorder.adopt(tensors(states), "optimizer_state", name)
        self._recorder.mark(tensor_roles.state_addresses(step.optimizer))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        counted = self._peaks.phase(name) if self._device == "cuda" else nullcontext()
        with self._announce(name), self._recorder.phase(name), counted:
            yield
            if name == "forward":
                self._saved.keep_most()

    def _cuda(self, build: dict[str, Any], first: dict[str, dict[str, int]]) -> CudaMetrics:
        last = self._peaks.metrics
        return CudaMetrics(
            **highest(last),
            workspace_bytes=free_workspaces(),
            first_step=CudaPeaks(**highest(first)),
            phases={name: CudaPeaks(**peaks) for name, peaks in {**build, **last}.items()},
            steady_after=self._steady_after,
        )


def highest(phases: dict[str, dict[str, int]]) -> dict[str, int]:
    """Return the highest of each counter's peaks over the phases."""
    names = {name for peaks in phases.values() for name in peaks}
    return {name: max(peaks[name] for peaks in phases.values()) for name in sorted(names)}


def trace_run(call: Callable[[], object]) -> StepReport:
    """Return the report of a call, all of it as one step."""
    recorder = AllocationRecorder("cuda", infer=True)
    steps: list[Optimizer] = []
    saved = SavedTensors(recorder.mark_saved)
    with recorder, cuda_peaks() as peaks, saved.watch(), _watched(recorder, steps):
        call()
    events = [event._replace(step=1) for event in recorder.trace.events]
    if not events:
        raise StepError("run allocated nothing on the GPU; does it say device='cuda'?")
    trace = Trace(events, steps=1)
    facts = {"cuda": peaks.metrics, "trace": trace, "steps": len(steps)}
    return _report(trace_metrics(trace) | facts)


def _report(facts: dict[str, Any]) -> StepReport:
    return msgspec.convert(
        {**facts, "method": "measured", "torch": str(torch.__version__)}, StepReport
    )


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
