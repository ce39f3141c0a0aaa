"""The request that failed, and why: a leak, the optimizer's first step, fragmentation, or need."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.prediction.gpu.rounding import segment_bytes
from harness.schema.growth import Growth
from harness.schema.units import format_bytes
from harness.snapshots.categories import Category
from harness.snapshots.device_history import DeviceHistory
from harness.snapshots.moments import FRAMES_SHOWN, RecordedMoment
from harness.snapshots.what_if import WhatIf

Diagnosis = Literal["leak", "first optimizer step", "fragmentation", "real need", "no failure"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The request that failed last.

    ``usable_bytes`` is all that PyTorch could have reserved: what the GPU had or, if a limit of the
    process refused (``is_limited``), the most that was reserved before.
    """

    position: int
    requested_bytes: int
    segment_bytes: int
    alive_bytes: int
    reserved_bytes: int
    device_free_bytes: int
    usable_bytes: int
    is_limited: bool
    frames: tuple[str, ...]


def find_failure(history: DeviceHistory) -> Failure | None:
    """Return the last request that failed, None where none did."""
    failed = [position for position, event in enumerate(history.events) if event.action == "oom"]
    if not failed:
        return None
    position = failed[-1]
    event = history.events[position]
    reserved = history.reserved_bytes[position + 1]
    segment = segment_bytes(event.size_bytes)
    is_limited = event.address >= segment
    allowed = max(history.reserved_bytes[: position + 1])
    return Failure(
        position=position,
        requested_bytes=event.size_bytes,
        segment_bytes=segment,
        alive_bytes=history.alive_bytes[position + 1],
        reserved_bytes=reserved,
        device_free_bytes=event.address,
        usable_bytes=allowed if is_limited else reserved + event.address,
        is_limited=is_limited,
        frames=event.stack.frames[:FRAMES_SHOWN],
    )


def diagnose(
    failure: Failure | None,
    growth: Growth,
    cases: Sequence[WhatIf],
    moments: Sequence[RecordedMoment],
    history: DeviceHistory,
) -> tuple[Diagnosis, tuple[str, ...]]:
    """Return the diagnosis and its sentences."""
    size = format_bytes
    first = moments[0]
    name, most = first.categories[0] if first.categories else ("nothing", 0)
    holds = f"{size(first.alive_bytes)} alive {first.name}, most of it {name} ({size(most)})"
    # Enough was reserved and unused, and other settings serve the request, if they were tried.
    unused = 0 if failure is None else failure.reserved_bytes - failure.alive_bytes
    total = None if failure is None else failure.usable_bytes
    fitting = [c.name for c in cases[1:] if (c.verdict, c.total_bytes) == ("fits", total)]
    may_fit = bool(fitting) or not cases
    fragmented = failure is not None and unused >= failure.requested_bytes and may_fit
    if growth.kind == "leak" and not fragmented:
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
    if fragmented:
        return "fragmentation", (
            f"Fragmentation: {requested}, while {size(unused)} were reserved and unused.",
            *(f"The same requests fit with {name}." for name in fitting[:1]),
            f"{holds}.",
        )
    missing = failure.alive_bytes + failure.requested_bytes - failure.usable_bytes
    whose = "the process's limit allows" if failure.is_limited else "the GPU has"
    short = f"{size(missing)} more than {whose}" if missing > 0 else "no free piece that large"
    return "real need", (f"Real need: {requested}, {short}.", f"{holds}.", _less(failure, first))


def _less(failure: Failure, moment: RecordedMoment) -> str:
    """Return what would have to go, and the line of the user's that activations come from."""
    room = failure.usable_bytes - failure.requested_bytes
    if room <= 0:
        return "The request alone is larger than all that may be reserved: split it."
    most = f"At most {format_bytes(room)} may be alive before this request."
    kept = [group for group in moment.groups if group.category == Category.FORWARD.words]
    if not kept:
        return f"{most} Reduce the batch size; harness plan compares other changes."
    line, size = kept[0].line, format_bytes(kept[0].size_bytes)
    return (
        f"{most} Reduce the batch size, or checkpoint what {line} calls ({size} of activations); "
        "harness plan compares such changes."
    )


def _in_first_optimizer_step(failure: Failure, history: DeviceHistory) -> bool:
    """Return whether the request came from within the first ``Optimizer.step``."""
    failed = history.events[failure.position]
    if failed.time_us is not None and history.steps:
        before = [each.stage for each in history.steps if each.time_us < failed.time_us]
        now = [each.stage for each in history.steps if each.time_us == failed.time_us]
        return "END" not in before and "START" in (*before, *now)
    return any(frame.startswith("_init_group (") for frame in failed.stack.frames)


def step_ends(history: DeviceHistory, until: int) -> list[int]:
    """Return the positions at which optimizer steps end, up to the event at ``until``."""
    times = [event.time_us or 0 for event in history.events[:until]]
    ends = (bisect_left(times, each.time_us) for each in history.steps if each.stage == "END")
    return sorted({position for position in ends if position > 0})
