"""Finds the failed request in a recording, and the ends of the optimizer steps."""

from bisect import bisect_left
from dataclasses import dataclass

from harness.prediction.gpu.rounding import segment_bytes
from harness.snapshots.device_history import DeviceHistory
from harness.snapshots.moments import FRAMES_SHOWN


@dataclass(frozen=True, kw_only=True)
class FailedRequest:
    """The last request for memory that failed in a recording.

    ``is_limited`` is True if a limit of the process caused the failure. ``usable_bytes`` is the sum
    of the reserved and the free bytes at the failure or, if ``is_limited``, the peak of the
    reserved bytes before the failure.
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

    @property
    def left_bytes(self) -> int:
        """Bytes that were free, or reserved and unused, when the request failed."""
        return self.usable_bytes - self.alive_bytes

    @property
    def fitting_bytes(self) -> int:
        """Live bytes with which the request fits, if whole segments are freed before it.

        A new segment needs ``segment_bytes``. Gaps between live blocks do not count, because the
        request may fit into none of them.
        """
        free = self.usable_bytes - self.reserved_bytes
        return max(0, self.alive_bytes - self.segment_bytes + free)


def find_failure(history: DeviceHistory) -> FailedRequest | None:
    """Return the last request that failed; None if no request failed."""
    failed = [position for position, event in enumerate(history.events) if event.action == "oom"]
    if not failed:
        return None
    position = failed[-1]
    event = history.events[position]
    reserved = history.reserved_bytes[position + 1]
    segment = segment_bytes(event.size_bytes)
    is_limited = event.address >= segment
    allowed = max(history.reserved_bytes[: position + 1])
    return FailedRequest(
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


def step_ends(history: DeviceHistory, until: int) -> list[int]:
    """Return the event positions at which optimizer steps end, before position ``until``."""
    times = [event.time_us or 0 for event in history.events[:until]]
    ends = (bisect_left(times, each.time_us) for each in history.steps if each.stage == "END")
    return sorted({position for position in ends if position > 0})
