"""Committed steps with other numbers, each step as consistent as a recorded one."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from experiments.literature import sbh34
from harness.analysis.contradictions import given_bytes
from harness.schema.metrics import CategoryBytes, PhaseMetrics
from harness.schema.traced_run import StepRun
from tests.known import known

Change = Callable[[StepRun], StepRun]
LARGE = 10**11


def argument(run: StepRun, name: str, default: Any = None) -> Any:
    """Return an argument of the network."""
    return run.job.arguments.get(name, default)


def with_peak(run: StepRun, peak: float) -> StepRun:
    """Return the step with another peak, in all places where it was recorded."""
    if run.metrics is None:
        return run
    size, parts = round(peak), known(run.metrics.categories_at_peak)
    rest = size - parts.input - parts.optimizer_state
    own = {"input": parts.input, "optimizer_state": parts.optimizer_state, "temporary": rest}
    phase = {str(run.metrics.peak_phase): PhaseMetrics(peak_live_bytes=size)}
    metrics = replace(
        run.metrics, peak_live_bytes=size, phases=known(run.metrics.phases) | phase,
        categories_at_peak=CategoryBytes(**own),
        cuda=run.metrics.cuda and replace(run.metrics.cuda, requested_peak_bytes=size),
    )  # fmt: skip
    return replace(run, metrics=metrics)


def with_saved(run: StepRun, saved: float) -> StepRun:
    """Return the step with other saved bytes, and with a peak that holds them."""
    if run.metrics is None:
        return run
    size = round(saved)
    own = {"saved_bytes": size, "saved_input_bytes": 0, "saved_activation_bytes": size}
    metrics = replace(run.metrics, **own, modules=None)
    more = size + known(run.metrics.categories_at_peak).parameter
    changed = replace(run, metrics=metrics)
    return changed if known(metrics.peak_live_bytes) >= more else with_peak(changed, more + LARGE)


def with_counts(run: StepRun, **numbers: float) -> StepRun:
    """Return what a function counted with other numbers."""
    found = {name: round(number) for name, number in numbers.items()}
    return replace(run, counted=known(run.counted) | found)


def scaled(run: StepRun, factor: int) -> StepRun:
    """Return the step with all its numbers multiplied."""
    line = msgspec.to_builtins(run)
    line |= {part: _times(line[part], factor) for part in ("metrics", "counted")}
    return msgspec.convert(line, StepRun)


def _times(value: Any, factor: int) -> Any:
    if isinstance(value, dict):
        return {key: _times(one, factor) for key, one in value.items()}
    return value * factor if isinstance(value, int) else value


def lengths(chains: Callable[[int, int], float], course: Callable[[int, int], float]) -> Change:
    """Plant peaks by the length of a segment and the number of layers; most without checkpoints."""

    def change(run: StepRun) -> StepRun:
        layers, length = argument(run, "depth") or argument(run, "layers"), argument(run, "segment")
        if length is None:
            return run
        cost = chains if run.metrics else course
        peak = LARGE * (cost(length, layers) if length else 1000)
        return with_peak(run, peak) if run.metrics else with_counts(run, allocated_peak=peak)

    return change


def root(length: int, layers: int) -> float:
    """Return a cost that is least at the square root."""
    return 1 + max(length**2 / layers, layers / length**2)


def held(a_parameter: int) -> Change:
    """Plant what is held between steps, in bytes a parameter."""

    def change(run: StepRun) -> StepRun:
        width, depth = argument(run, "width"), argument(run, "depth")
        start = given_bytes(run.job) + a_parameter * depth * (width * width + width)
        return replace(run, metrics=replace(known(run.metrics), live_at_start_bytes=start))

    return change


def by_formula(factor: float) -> Change:
    """Make a layer keep a multiple of what the paper says."""

    def change(run: StepRun) -> StepRun:
        length = int(run.job.inputs[0].partition(":")[2].partition("x")[0])
        shape = (length, argument(run, "hidden"), argument(run, "heads"))
        return with_saved(run, factor * sbh34.paper(shape) * argument(run, "layers"))

    return change


def attention(eager: int, fused: int) -> Change:
    """Let attention grow with powers of the sequence."""

    def change(run: StepRun) -> StepRun:
        grown = argument(run, "length") ** (fused if argument(run, "kernel") else eager)
        return with_counts(run, saved=grown, backward_peak=known(run.counted)["inputs"] + grown)

    return change


def peaks(size: Callable[[StepRun], float]) -> Change:
    """Plant each step's peak, in units of a hundred billion bytes."""
    return lambda run: with_peak(run, LARGE * size(run))


def a_layer(kept: Callable[[StepRun], int]) -> Change:
    """Let each further layer or block keep those bytes."""
    return lambda run: with_saved(run, LARGE + kept(run) * argument(run, "depth", 0))


def states(reached: float) -> Change:
    """Let that part of what a smaller state saves reach the peak."""

    def share(run: StepRun) -> float:
        parts = run.metrics and run.metrics.categories_at_peak
        return 1 + reached * (parts.optimizer_state if parts else 0) / LARGE

    return peaks(share)
