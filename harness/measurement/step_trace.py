"""Traces one step of any network.

The recorder starts before the network is built, so the trace also contains the parameters. On the
CPU, training runs two steps and the second step is measured. On a real or pretended GPU, steps run
until the reserved memory stops rising, and the next step is measured. ``trace_run`` traces the
user's own training loop on a GPU as one step.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder
from harness.instruments.cuda_counters import (
    StepPeaks,
    cuda_peaks,
    steps_until_steady,
)
from harness.instruments.forward_hooks import LayerOutputs, own_tensors, wrapped_forwards
from harness.instruments.host_pages import host_at_peak
from harness.instruments.pinned_memory import pinned_bytes
from harness.instruments.rss import Rise, resident_rise
from harness.instruments.saved_tensors import SavedTensors, saved_metrics
from harness.measurement.step_recording import StepRecording
from harness.schema.errors import StepError
from harness.schema.events import Trace, trace_metrics
from harness.schema.step_report import StepReport
from harness.training.module_step import BuiltStep, Phase, announced_to
from harness.training.own_step import OwnStep


def trace_step(own: OwnStep, device: str, announce: Phase) -> StepReport:
    """Build a step on ``device``, run it until its memory is steady, and report the last run."""
    return _Tracing(own, device, announce).report()


class _Tracing(StepRecording):
    """Records a step of any network with its peaks, module outputs and saved tensors."""

    def __init__(self, own: OwnStep, device: str, announce: Phase) -> None:
        super().__init__(device, announce)
        self._own = own
        self._device = device
        self._peaks = StepPeaks()
        self._outputs = LayerOutputs()
        self._resident = Rise("")

    def report(self) -> StepReport:
        """Run the step until its memory is steady; return the report of the last run."""
        trace = self.record(self._step, self._steps)
        step, on_gpu = self._built, self._device == "cuda"
        host = host_at_peak(self._resident.peak_bytes, pinned_bytes() if on_gpu else None)
        cuda = self._peaks.last | self._peaks.metrics() if on_gpu else None
        saved = saved_metrics(
            self._saved.most,
            tensor_roles.parameter_addresses(step.model),
            tensor_roles.input_addresses(step.x, step.y),
        )
        facts = {
            **trace_metrics(trace),
            **(saved if self._own.mode == "train" else {}),
            "cuda": cuda,
            "host": host,
            "layers": self._outputs.rows(step.model, trace, saved["modules"]),
            "trace": trace,
            "batch": self._own.batch,
        }
        return _report(facts)

    def _step(self) -> BuiltStep:
        self._built = self._own.step(self._own.network(self._device), self._device)
        return self._built

    def _steps(self, step: BuiltStep) -> None:
        on_gpu = self._device == "cuda"
        with wrapped_forwards(step.model, self._outputs.named):
            reserved_bytes = self._reserved(step)
        if on_gpu:
            steps_until_steady(partial(self._reserved, step), reserved_bytes)
        if on_gpu or step.mode == "train" or self._own.compile:
            self.run(step)

    def run(self, step: BuiltStep) -> None:
        """Run and record the step once; the measured peak RSS includes the recorder."""
        with resident_rise() as self._resident:
            super().run(step)

    def _reserved(self, step: BuiltStep) -> int:
        """Run the step; return its peak of reserved bytes, or 0 on the CPU."""
        self.run(step)
        return self._peaks.last.get("reserved_peak_bytes", 0)

    def _phases(self) -> Phase:
        peaks = self._peaks.next_part()
        counted = [peaks.phase] if self._device == "cuda" else []
        return announced_to(self._announce, self._recorder.phase, *counted, self._saved.phase)

    def _parts(self, model: nn.Module) -> Iterable[tuple[str, list[Tensor]]]:
        return [(name, own_tensors(module)) for name, module in model.named_modules()]


def trace_run(call: Callable[[], object]) -> StepReport:
    """Run ``call`` on the GPU, and report the whole call as one step."""
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
    """Mark the forward passes of outermost modules in the trace."""
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
