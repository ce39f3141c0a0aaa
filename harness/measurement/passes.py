"""Measures the steps of one workload, with one instrument at a time."""

import time
from typing import Any

import torch

from harness.instruments import tensor_roles
from harness.instruments.cuda_counters import (
    StepPeaks,
    cuda_peaks,
    gpu_bytes,
    steps_until_steady,
)
from harness.instruments.forward_hooks import on_stack, wrapped_forwards
from harness.instruments.host_pages import host_at_peak
from harness.instruments.pinned_memory import pinned_bytes
from harness.instruments.rss import arranged_rise, resident_rise
from harness.instruments.saved_tensors import SavedTensors, saved_metrics
from harness.measurement.pass_jobs import RunPasses, Traced, TraceWorkload
from harness.measurement.step_recording import StepRecording
from harness.processes import process_parts
from harness.processes.environment import pretended_device
from harness.processes.malloc_policy import apply_policy
from harness.processes.workload_job import doing
from harness.schema.events import Trace, trace_metrics
from harness.schema.workload import Workload
from harness.training import data
from harness.training.data import Fill
from harness.training.module_step import BuiltStep, Phase, announced_to, free_gradients, run_step
from harness.training.training_step import build

LONG_SECONDS = 0.1
"""If a step takes longer, page faults in the heap take less than 1% of its time."""

UNDISTURBED_TRIES = 5
"""Maximum number of steps for one RSS reading; if all steps are disturbed, the RSS is unknown."""

STEPS_BESIDE = 4
"""Time reserved for a repeated step and the saved-tensor pass, divided by a plain step's time."""


@doing(RunPasses)
def measured(job: RunPasses, announce: Phase) -> dict[str, Any]:
    """Build a workload, run steps until the memory is steady, and measure the repeats."""
    deadline = time.monotonic() + job.deadline_seconds
    workload, on_gpu = job.workload, job.workload.device == "cuda"
    fill, peaks = data.source(workload), StepPeaks()
    more: dict[str, Any] = {}
    seconds = 0.0
    with announced_to(announce, *([peaks.next_part().phase] if on_gpu else []))("build"):
        built = build(workload, fill)
    if on_gpu:
        warm_up(built, announce, peaks)
    else:
        seconds = _seconds(built, announce)
        more["process"] = process_parts.of_worker()
    numbers = range(job.first_repeat, job.first_repeat + job.repeats)
    again_until = deadline - seconds * (STEPS_BESIDE + 2 * job.repeats)
    is_long = seconds > LONG_SECONDS
    repeats = [
        plain_pass(
            built, announce, number, workload.malloc, again_until=again_until, is_long=is_long
        )
        for number in numbers
    ]
    if on_gpu:
        with resident_rise() as seen:
            run_step(built, announced_to(announce, peaks.next_part().phase))
        more["host"] = host_at_peak(seen.peak_bytes, pinned_bytes())
    elif known := [repeat["rss_peak_bytes"] for repeat in repeats if "rss_peak_bytes" in repeat]:
        more["host"] = host_at_peak(max(known))
    metrics = saved_pass(built, announce)
    if on_gpu:
        more["cuda"] = peaks.metrics()
    return {"repeats": repeats, "metrics": metrics, **more}


@doing(TraceWorkload)
def traced(job: TraceWorkload, announce: Phase) -> Traced:
    """Trace a workload; return its metrics, and its events if requested."""
    fill = data.source(job.workload)
    trace = trace_pass(job.workload, fill, announce, operators=job.keep_events)
    events = [list(event) for event in trace.events] if job.keep_events else None
    return {"metrics": trace_metrics(trace), "events": events}


def trace_pass(workload: Workload, fill: Fill, announce: Phase, *, operators: bool = True) -> Trace:
    """Trace the building of the network and two steps; the last step is measured.

    Inference on the CPU needs only one step. On a GPU, the first step also allocates cuBLAS's
    workspace. With ``operators``, events contain operator names and the trace is slower.
    """
    steps = 1 if workload.mode == "inference" and workload.device == "cpu" else 2
    recording = StepRecording(workload.device, announce, operators=operators)

    def run(step: BuiltStep) -> None:
        for _ in range(steps):
            recording.run(step)

    return recording.record(lambda: build(workload, fill), run)


def plain_pass(
    step: BuiltStep, announce: Phase, number: int, malloc: str, *, again_until: float, is_long: bool
) -> dict[str, Any]:
    """Run a step without instruments; return the duration, and the process's RSS or CUDA peaks.

    On the CPU, time and RSS are measured in two steps, or in one step if ``is_long`` is true.
    """
    if step.device_type != "cuda":
        seconds = None if is_long else _seconds(step, announce)
        resident = _resident(step, announce, number, malloc, again_until)
        return resident if seconds is None else resident | {"wall_seconds": seconds}
    with cuda_peaks() as seen:
        started = time.perf_counter()
        run_step(step, announce)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    if pretended_device():  # no kernel has run, and nothing is outside the allocator
        return {"cuda": seen}
    outside = gpu_bytes()["outside_bytes"]
    return {"wall_seconds": seconds, "cuda": seen | {"outside_bytes": outside}}


def _resident(
    step: BuiltStep, announce: Phase, number: int, malloc: str, again_until: float
) -> dict[str, Any]:
    """Run a step that starts without gradients; return its duration and the process's RSS.

    Small freed gradients can leave a hole in the heap, and a large block in this hole would stay
    resident. To prevent holes in the heap, the malloc policy is applied again, which makes the step
    slower. If the kernel reclaims pages during a step, the RSS reading is dropped. The step then
    runs again, unless the time ``again_until`` (monotonic clock) has passed.
    """
    for _ in range(UNDISTURBED_TRIES):
        if step.mode != "inference":
            free_gradients(step)
        apply_policy(malloc)
        with arranged_rise(number) as seen:
            seconds = _seconds(step, announce)
        known = {"wall_seconds": seconds, "rss_source": seen.source}
        if not seen.lost_bytes:
            return known | {"rss_rise_bytes": seen.rise_bytes, "rss_peak_bytes": seen.peak_bytes}
        if time.monotonic() > again_until:
            break
    return known


def _seconds(step: BuiltStep, announce: Phase) -> float:
    started = time.perf_counter()
    run_step(step, announce)
    return time.perf_counter() - started


def warm_up(step: BuiltStep, announce: Phase, peaks: StepPeaks) -> None:
    """Run steps until the reserved memory stops rising."""

    def run() -> int:
        run_step(step, announced_to(announce, peaks.next_part().phase))
        return peaks.last["reserved_peak_bytes"]

    steps_until_steady(run, run())


def saved_pass(step: BuiltStep, announce: Phase) -> dict[str, Any]:
    """Run one step with saved-tensor hooks; return the metrics of its saved tensors."""
    saved = SavedTensors()
    with saved.watch(), wrapped_forwards(step.model, on_stack(saved.modules)):
        run_step(step, announced_to(announce, saved.phase))
    parameters = tensor_roles.parameter_addresses(step.model)
    return saved_metrics(saved.most, parameters, tensor_roles.input_addresses(step.x, step.y))
