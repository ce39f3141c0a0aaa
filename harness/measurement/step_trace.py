"""One traced step of any network: the source of every answer about it.

The recorder starts before the network is built, so sums over the trace are absolute. On the CPU
two steps run and the second one is measured; on a GPU, real or pretended, steps run until one
reserves no more than the one before, and the next one is measured. The user's own training loop is
traced as one step (``trace_run``), on a GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import msgspec
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder
from harness.instruments.cuda_counters import (
    PhasePeaks,
    cuda_peaks,
    free_workspaces,
    highest,
    steps_until_steady,
)
from harness.instruments.forward_hooks import LayerOutputs, own_tensors, wrapped_forwards
from harness.instruments.saved_tensors import SavedTensors, saved_metrics
from harness.schema.errors import StepError
from harness.schema.events import Trace, trace_metrics
from harness.schema.metrics import CudaMetrics, CudaPeaks
from harness.schema.step_report import StepReport
from harness.training.module_step import Phase, Step, announced_to, run_step
from harness.training.nested_tensors import tensors
from harness.training.own_step import OwnStep


def trace_step(own: OwnStep, device: str, announce: Phase) -> StepReport:
    """Build the step on ``device``, run it until it is steady, and return the last run's report."""
    return _Tracing(own, device, announce).run()


class _Tracing:
    """One recording of a step; used once."""

    def __init__(self, own: OwnStep, device: str, announce: Phase) -> None:
        self._own = own
        self._device = device
        self._announce = announce
        self._recorder = AllocationRecorder(device)
        self._saved = SavedTensors(self._recorder.mark_saved)
        self._peaks: list[dict[str, dict[str, int]]] = []
        """Of the phases of the build, then of each step; empty on the CPU."""

    def run(self) -> StepReport:
        outputs = LayerOutputs()
        on_gpu = self._device == "cuda"
        with self._recorder:
            with self._phases()("build"):
                model = self._own.network(self._device)
                step = self._own.step(model, self._device)
            for name, module in model.named_modules():
                self._recorder.adopt(own_tensors(module), "parameter", name)
            self._recorder.adopt(tensors([step.x, step.y]), "input")
            with wrapped_forwards(model, outputs.named):
                reserved_bytes = self._step(step)
            if on_gpu:
                steps_until_steady(partial(self._step, step), reserved_bytes)
            if on_gpu or step.mode == "train" or self._own.compile:
                self._step(step)
        cuda = self._cuda() if on_gpu else None
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

    def _phases(self) -> Phase:
        """Return the phase that announces the build, or a step, to every instrument."""
        peaks = PhasePeaks()
        self._peaks.append(peaks.metrics)
        counted = [peaks.phase] if self._device == "cuda" else []
        return announced_to(self._announce, self._recorder.phase, *counted, self._saved.phase)

    def _step(self, step: Step) -> int:
        """Run and record a step; return the most that was reserved, 0 on the CPU."""
        self._recorder.next_step()
        self._saved.most = []
        modules = self._recorder.module_scopes(step.model, self._saved.modules)
        with self._saved.watch(), modules:
            run_step(step, self._phases())
        for name, module in step.model.named_modules():
            own = own_tensors(module)
            self._recorder.adopt(tensor_roles.gradients(own), "gradient", name)
            if step.optimizer is not None:
                states = tensors([step.optimizer.state.get(tensor) for tensor in own])
                self._recorder.adopt(states, "optimizer_state", name)
        self._recorder.mark(tensor_roles.state_addresses(step.optimizer))
        return highest(self._peaks[-1].values()).get("reserved_peak_bytes", 0)

    def _cuda(self) -> CudaMetrics:
        build, first, *_, last = self._peaks
        return CudaMetrics(
            **highest(last.values()),
            workspace_bytes=free_workspaces(),
            first_step=CudaPeaks(**highest(first.values())),
            phases={name: CudaPeaks(**peaks) for name, peaks in {**build, **last}.items()},
            steady_after=len(self._peaks) - 2,
        )


def trace_run(call: Callable[[], object]) -> StepReport:
    """Return the report of a call, all of it as one step."""
    recorder = AllocationRecorder("cuda", infer=True)
    saved = SavedTensors(recorder.mark_saved)
    with (
        recorder,
        cuda_peaks() as peaks,
        saved.watch(),
        tensor_roles.marked_steps(recorder, parameters=True) as steps,
        _seen_forwards(recorder),
    ):
        call()
    events = [event._replace(step=1) for event in recorder.trace.events]
    if not events:
        raise StepError("run allocated nothing on the GPU; does it say device='cuda'?")
    trace = Trace(events, steps=1)
    facts = {"cuda": peaks, "trace": trace, "steps": len(steps)}
    return _report(trace_metrics(trace) | facts)


def _report(facts: dict[str, Any]) -> StepReport:
    return msgspec.convert(
        {**facts, "method": "measured", "torch": str(torch.__version__)}, StepReport
    )


@contextmanager
def _seen_forwards(recorder: AllocationRecorder) -> Iterator[None]:
    """Name in the trace the forward pass of every module that no other one calls."""
    running: list[AbstractContextManager[None]] = []

    def before(*_: object) -> None:
        scope = recorder.module_scope("") if not running else nullcontext()
        scope.__enter__()
        running.append(scope)

    def after(*_: object) -> None:
        running.pop().__exit__(None, None, None)

    hooks = (
        register_module_forward_pre_hook(before),
        register_module_forward_hook(after, always_call=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
