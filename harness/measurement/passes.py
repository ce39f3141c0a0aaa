"""The passes over one workload, one instrument each, and the metrics each one gives."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder
from harness.instruments.cuda_counters import PhasePeaks, cuda_peaks, gpu_bytes
from harness.instruments.rss import resident_rise
from harness.instruments.saved_tensors import SavedTensors, saved_metrics
from harness.measurement.environment import pretended_device
from harness.schema.events import Trace
from harness.schema.workload import Workload
from harness.training.data import Fill
from harness.training.training_step import Built, Phase, build, step

MOST_WARM_STEPS = 8


def trace_pass(workload: Workload, fill: Fill, announce: Phase, *, operators: bool = True) -> Trace:
    """Trace the build and two steps, from nothing to the measured step.

    One step in inference on the CPU; on a GPU the first one makes cuBLAS's workspace. Metrics
    need no ``operators``, whose names are most of a trace's cost; a timeline shows them.
    """
    steps = 1 if workload.mode == "inference" and workload.device == "cpu" else 2
    with AllocationRecorder(workload.device, operators=operators) as recorder:
        phase = _both(announce, recorder.phase)
        with phase("build"):
            built = build(workload, fill)
        recorder.mark(tensor_roles.parameter_addresses(built.model))
        recorder.mark(tensor_roles.input_addresses(built.x, built.y))
        saved = SavedTensors(recorder.mark_saved)
        for _ in range(steps):
            recorder.next_step()
            with saved.watch(), recorder.module_scopes(built.model):
                step(built, phase)
            recorder.mark(tensor_roles.gradient_addresses(built.model))
            recorder.mark(tensor_roles.state_addresses(built.optimizer))
    return recorder.trace


def plain_pass(built: Built, announce: Phase) -> dict[str, Any]:
    """Run one step with no instrument inside it; return rise, CUDA peaks and seconds."""
    if built.workload.device != "cuda":
        with resident_rise() as rise:
            started = time.perf_counter()
            step(built, announce)
            seconds = time.perf_counter() - started
        source = rise.source
        return {"wall_seconds": seconds, "rss_rise_bytes": rise.rise_bytes, "rss_source": source}
    with cuda_peaks() as peaks:
        started = time.perf_counter()
        step(built, announce)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    if pretended_device():  # no kernel has run, and nothing is outside the allocator
        return {"cuda": peaks.metrics}
    outside = gpu_bytes()["outside_bytes"]
    return {"wall_seconds": seconds, "cuda": peaks.metrics | {"outside_bytes": outside}}


def warm_up(built: Built, announce: Phase) -> dict[str, Any]:
    """Run steps until one raises no peak of the allocator; return what is known of CUDA by then.

    The first step makes gradients, optimizer state and cuBLAS's workspaces. Later ones may
    still find their blocks in another order than the one before, and reserve more: at most
    ``MOST_WARM_STEPS`` are waited for.
    """
    with cuda_peaks() as first:
        step(built, announce)
    steps, before, now = 1, 0, first.metrics["reserved_peak_bytes"]
    while now > before and steps < MOST_WARM_STEPS:
        with cuda_peaks() as peaks:
            step(built, announce)
        steps, before, now = steps + 1, now, peaks.metrics["reserved_peak_bytes"]
    return {"first_step": first.metrics, "steady_after": steps}


def phase_pass(built: Built, announce: Phase) -> dict[str, dict[str, int]]:
    """Run one step with the CUDA allocator's peaks read around each phase; return them."""
    peaks = PhasePeaks()
    step(built, _both(announce, peaks.phase))
    return peaks.metrics


def _both(outer: Phase, inner: Phase) -> Phase:
    @contextmanager
    def phase(name: str) -> Iterator[None]:
        with outer(name), inner(name):
            yield

    return phase


def saved_pass(built: Built, announce: Phase) -> dict[str, Any]:
    """Run one step under saved-tensor hooks; return the most that one forward pass held."""
    instrument = SavedTensors()

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        with announce(name):
            yield
        if name == "forward":
            instrument.keep_most()

    with instrument.watch(built.model):
        step(built, phase)
    parameters = tensor_roles.parameter_addresses(built.model)
    return saved_metrics(
        instrument.most, parameters, tensor_roles.input_addresses(built.x, built.y)
    )
