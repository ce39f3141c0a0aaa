"""Finds why a request for memory failed, e.g. because of a leak or of fragmentation."""

from collections.abc import Sequence
from typing import Literal

from harness.schema.block_categories import CATEGORY_WORDS
from harness.schema.growth import Growth
from harness.schema.units import format_bytes
from harness.snapshots.device_history import DeviceHistory
from harness.snapshots.failed_request import FailedRequest
from harness.snapshots.moments import RecordedMoment
from harness.snapshots.oom_message import is_full
from harness.snapshots.what_if import WhatIf

_NO_SETTING = "None of the other settings that were tried (see below) makes the request fit."

Diagnosis = Literal[
    "leak", "first optimizer step", "fragmentation", "full", "real need", "no failure"
]  # fmt: skip


def diagnose(
    failure: FailedRequest | None,
    growth: Growth,
    cases: Sequence[WhatIf],
    moments: Sequence[RecordedMoment],
    history: DeviceHistory,
) -> tuple[Diagnosis, tuple[str, ...]]:
    """Return the diagnosis of a failure, and sentences that explain the diagnosis."""
    size = format_bytes
    first = moments[0]
    name, most = first.categories[0] if first.categories else ("nothing", 0)
    holds = f"{size(first.alive_bytes)} alive {first.name}, most of it {name} ({size(most)})"
    total = None if failure is None else failure.usable_bytes
    fitting = [c.name for c in cases[1:] if (c.verdict, c.total_bytes) == ("fits", total)]
    cause = "no failure" if failure is None else cause_of(failure, fitting)
    fragmented = cause == "fragmentation"
    if growth.kind == "leak" and not (fragmented and (fitting or not cases)):
        place = f"; most of it from {growth.places[0][0]}" if growth.places else ""
        return "leak", (
            f"Leak: {size(growth.per_step_bytes)} more stay alive after every step{place}.",
            (
                "Something keeps tensors with their graph, such as a sum of losses without .item() "
                "or .detach()."
            ),
            f"{holds}.",
        )
    if failure is None:
        return "no failure", (f"No request failed. {holds}.",)
    requested = f"{size(failure.requested_bytes)} requested"
    if _in_first_optimizer_step(failure, history):
        return "first optimizer step", (
            f"Out of memory in the optimizer's first step: {requested} for its state.",
            (
                "The forward and backward pass fitted; the state that the optimizer creates in "
                "its first step, and keeps, does not."
            ),
            f"{holds}.",
        )
    left = f"{size(failure.left_bytes)} left in pieces"
    if fragmented:
        helps = f"The same requests fit with {fitting[0]}." if fitting else _NO_SETTING
        return cause, (f"Fragmentation: {requested}, with {left}.", helps, f"{holds}.")
    if cause == "full":
        return cause, (f"Full: {requested}, with {left}.", f"{holds}.", _less(failure, first))
    missing = failure.requested_bytes - failure.left_bytes
    whose = "the process's limit allows" if failure.is_limited else "the GPU has"
    short = f"{size(missing)} more than {whose}"
    return "real need", (f"Real need: {requested}, {short}.", f"{holds}.", _less(failure, first))


def cause_of(failure: FailedRequest, fitting: Sequence[str]) -> Diagnosis:
    """Return the cause by the same sizes as for a message; ``fitting`` are settings that help."""
    if failure.left_bytes < failure.requested_bytes:
        return "real need"
    full = is_full(failure.requested_bytes, failure.left_bytes, failure.usable_bytes)
    return "full" if full and not fitting else "fragmentation"


def _less(failure: FailedRequest, moment: RecordedMoment) -> str:
    """Return advice that names the line of user code with the largest activations."""
    if failure.segment_bytes > failure.usable_bytes:
        return "The request alone is larger than all that may be reserved: split it."
    most = f"It fits if at most {format_bytes(failure.fitting_bytes)} are alive before it."
    saved = {CATEGORY_WORDS[name] for name in ("activation", "forward")}
    kept = [group for group in moment.groups if group.category in saved]
    if not kept:
        return f"{most} Reduce the batch size; harness plan compares other changes."
    line, size = kept[0].line, format_bytes(kept[0].size_bytes)
    return (
        f"{most} Reduce the batch size, or checkpoint what {line} calls ({size} of activations); "
        "harness plan compares such changes."
    )


def _in_first_optimizer_step(failure: FailedRequest, history: DeviceHistory) -> bool:
    """Return whether the first ``Optimizer.step`` made the failed request."""
    failed = history.events[failure.position]
    if failed.time_us is not None and history.steps:
        before = [each.stage for each in history.steps if each.time_us < failed.time_us]
        now = [each.stage for each in history.steps if each.time_us == failed.time_us]
        return "END" not in before and "START" in (*before, *now)
    return any(frame.startswith("_init_group (") for frame in failed.stack.frames)
