"""Finds contradictions between the numbers in one line of a results file.

A total, such as a peak, must equal the sum of its parts. The bytes of the batch and of the
parameters must follow from the shapes of the tensors. These checks find wrong units, swapped
columns and missing parts in a line.
"""

import itertools
import math
from collections.abc import Iterator
from functools import singledispatch

from msgspec.structs import asdict

from harness.prediction.mlp.formula import parameter_bytes
from harness.schema.input_spec import parse_input
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome, Record
from harness.schema.threshold import Threshold
from harness.schema.traced_run import StepJob, StepRun
from harness.schema.training_run import TrainingRun
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

ITEM_BYTES = {"float64": 8, "int64": 8, "bfloat16": 2, "float16": 2, "bool": 1}
"""Bytes per element, by dtype; an element of any other dtype has 4 bytes."""
LABEL_BYTES = 8


@singledispatch
def contradiction(line: object) -> str:
    """Return a description of the first contradiction in a line; empty if there is none."""
    raise TypeError(f"{type(line).__name__} is no kind of line")


@contradiction.register
def _of_record(line: Record) -> str:
    if line.outcome is not Outcome.OK:
        return ""
    checks = (_of_metrics(line), _of_workload(line, line.workload), _of_repeats(line))
    return next(itertools.chain(*checks), "")


@contradiction.register
def _of_step(line: StepRun) -> str:
    if line.counted is not None and not any(line.counted.values()):
        return "every number that was counted is 0"
    return next(itertools.chain(_of_metrics(line.metrics or Metrics()), _of_inputs(line)), "")


@contradiction.register
def _of_threshold(line: Threshold) -> str:
    """Compare the largest fit with the probes, and the budget with its parts and the batch."""
    if line.outcome is not Outcome.OK or line.largest_fit is None:
        return ""
    fitted = [one.value for one in line.probes if one.outcome is Outcome.OK]
    failed = [one.value for one in line.probes if one.outcome is not Outcome.OK]
    if fitted and max(fitted) != line.largest_fit and not line.band:
        return f"the largest fit is {line.largest_fit:,}, but that of the probes {max(fitted):,}"
    if failed and min(failed) != line.smallest_fail and not line.band:
        return f"the smallest failure is {line.smallest_fail}, but probe {min(failed):,} failed"
    if line.smallest_fail is not None and line.smallest_fail <= line.largest_fit:
        return f"{line.smallest_fail:,} failed, but {line.largest_fit:,} fitted"
    parts = sum(asdict(line.headroom).values()) if line.headroom else line.budget_bytes
    if parts != line.budget_bytes:
        return f"the budget is {line.budget_bytes:,} bytes, but its parts have {parts:,}"
    batch = line.largest_fit if line.solve == "batch" else line.workload.batch
    needed = batch_bytes(line.workload.replace(batch=batch))
    if needed > line.budget_bytes:
        size = format_bytes(line.budget_bytes)
        return f"a batch of {batch:,} takes {format_bytes(needed)} of a budget of {size}"
    return ""


@contradiction.register
def _of_run(line: TrainingRun) -> str:
    steps = line.result.steps if line.result else None
    if steps is None:
        return ""
    for start, peak, end in zip(steps.start_bytes, steps.peak_bytes, steps.end_bytes, strict=False):
        if peak < max(start, end):
            return f"the peak of a step is {peak:,} bytes, but {max(start, end):,} are alive"
    return ""


def _of_inputs(line: StepRun) -> Iterator[str]:
    """Check that the live bytes of the batch at the peak follow from the input shapes."""
    parts = line.metrics.categories_at_peak if line.metrics else None
    if parts is None or not line.job.inputs or line.job.inputs_from:
        return
    given = given_bytes(line.job)
    if parts.input != given:
        yield f"the batch is {given:,} bytes, but {parts.input:,} are alive at the peak"


def given_bytes(job: StepJob) -> int:
    """Return the bytes of a micro-batch with its labels; an unsplit batch is one micro-batch.

    >>> given_bytes(StepJob(network=".n:n", batch=4, inputs=("bfloat16:8x2",)))
    160
    """
    specs = map(parse_input, job.inputs)
    example = sum(ITEM_BYTES.get(one.dtype, 4) * math.prod(one.shape) for one in specs)
    labels = LABEL_BYTES if job.mode == "train" else 0
    return job.batch // job.accumulate * (example + labels)


def _of_metrics(known: Metrics) -> Iterator[str]:
    """Compare sums with their parts, and on CUDA the peak with the allocator's counter."""
    peak, saved, parts = known.peak_live_bytes, known.saved_bytes, known.categories_at_peak
    inputs, activations = known.saved_input_bytes, known.saved_activation_bytes
    halves = None if inputs is None or activations is None else inputs + activations
    if None not in (saved, halves) and saved != halves:
        yield f"the saved bytes are {saved:,}, but their parts have {halves:,}"
    if saved is not None and known.modules:
        of_modules = sum(one.saved_bytes for one in known.modules.values())
        if of_modules > saved:
            yield f"the saved bytes are {saved:,}, but the modules save {of_modules:,}"
    phase = (known.phases or {}).get(known.peak_phase or "")
    sides = {
        "its phase's": phase and phase.peak_live_bytes,
        "the sum of its parts": parts and sum(asdict(parts).values()),
        "the allocator's counter": known.cuda and known.cuda.requested_peak_bytes,
    }
    for name, second in sides.items():
        if peak is not None and second is not None and peak != second:
            yield f"the peak is {peak:,} bytes, but {name} is {second:,}"
    if peak is not None and saved is not None and peak < saved + (parts.parameter if parts else 0):
        yield f"the peak is {peak:,} bytes, but {saved:,} are saved next to the parameters"


def _of_workload(line: Record, workload: Workload) -> Iterator[str]:
    """Check that the bytes of the batch and of the parameters follow from the workload."""
    parts = line.categories_at_peak
    if parts is not None:
        sizes = [("batch", batch_bytes(workload), parts.input)]
        if workload.norm != "batch":  # whose running sums count as parameters
            sizes.append(("parameters", parameter_bytes(workload), parts.parameter))
        for name, given, seen in sizes:
            if seen != given:
                yield f"{name} of {given:,} bytes, but {seen:,} bytes of them at the peak"
    if workload.mode == "train" and not (line.saved_activation_bytes or line.saved_bytes is None):
        yield "a training step saves no activations"


def batch_bytes(workload: Workload) -> int:
    """Return the bytes of a workload's batch, including its labels in training."""
    item = ITEM_BYTES.get(workload.dtype, 4)
    labels = LABEL_BYTES if workload.mode == "train" else 0
    return workload.batch * (item * workload.in_features + labels)


def _of_repeats(line: Record) -> Iterator[str]:
    """Check that medians are in the repeats' range, and that the parts of RSS add up to RSS."""
    for name in ("rss_rise_bytes", "wall_seconds"):
        value = getattr(line, name)
        own = [seen for one in line.repeats if (seen := getattr(one, name)) is not None]
        if value is not None and own and not min(own) <= value <= max(own):
            yield f"{name} is {value:,}, and its repeats are {min(own):,} to {max(own):,}"
    if line.process is not None and line.rss_peak_bytes is not None:
        parts = sum(asdict(line.process).values())
        if parts != line.rss_peak_bytes:
            yield f"the process held {line.rss_peak_bytes:,} bytes, but its parts have {parts:,}"
