"""Steps simulated with the model of the caching allocator, until their peaks are steady.

A step that finds its blocks in another order than the one before may reserve more. So steps
are simulated until one reserves no more than the one before, and the next is the measured one,
as ``harness measure`` does.
"""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, Protocol

from harness.allocator import CachingAllocator
from harness.schema.events import Event, Trace

MOST_STEPS = 8
"""Steps after which the next is taken for the measured one, whatever they reserved."""

Request = tuple[int, int]
"""Bytes asked for and the block's number; or minus the bytes, where it is freed."""

Requests = list[tuple[str, list[Request]]]
"""What a step asks for, phase by phase."""


class Peaks(NamedTuple):
    """Peaks of the allocator's counters, in bytes, in the allocator's own words."""

    requested: int
    allocated: int
    active: int
    reserved: int

    @classmethod
    def of(cls, allocator: CachingAllocator) -> "Peaks":
        """Return the peaks since ``allocator``'s were last reset."""
        stats = allocator.stats()
        return cls(*(stats[f"{name}_bytes.all.peak"] for name in cls._fields))


class Script(Protocol):
    """A build and its steps."""

    last_step: int
    """The last that there is: of steps that are written, none that is reached."""

    @property
    def workspace_bytes(self) -> int:
        """Bytes of all workspaces that the steps so far left behind."""

    def requests(self, step: int) -> Requests:
        """Return what ``step`` asks for; 0 is the build."""


class Simulated(NamedTuple):
    """The peaks of a workload's steps under one allocator."""

    build: Peaks
    first_step: Peaks
    measured: Peaks
    phases: dict[str, Peaks]
    """Of the measured step."""
    steady_after: int
    """Number of the step before the measured one."""


def simulate(script: Script, allocator: CachingAllocator) -> Simulated:
    """Simulate the build and steps until the peaks are steady."""
    addresses: dict[int, int] = {}
    build, first = (_simulate(script.requests(step), allocator, addresses) for step in range(2))
    steps, before, now = 1, 0, highest(first.values()).reserved
    while now > before and steps < min(MOST_STEPS, script.last_step - 1):
        steps += 1
        peaks = _simulate(script.requests(steps), allocator, addresses)
        before, now = now, highest(peaks.values()).reserved
    measured = _simulate(script.requests(steps + 1), allocator, addresses)
    return Simulated(
        build=highest(build.values()),
        first_step=highest(first.values()),
        measured=highest(measured.values()),
        phases=measured,
        steady_after=steps,
    )


def _simulate(
    requests: Requests, allocator: CachingAllocator, addresses: dict[int, int]
) -> dict[str, Peaks]:
    """Simulate one step, given the address of each block that is alive.

    Return the peaks of each phase, the higher where one comes twice.
    """
    peaks: dict[str, Peaks] = {}
    malloc, free = allocator.malloc, allocator.free
    for phase, wanted in requests:
        allocator.reset_peaks()
        for size, block in wanted:
            if size > 0:
                addresses[block] = malloc(size)
            else:
                free(addresses.pop(block))
        highs = Peaks.of(allocator)
        peaks[phase] = highest([highs, peaks.get(phase, highs)])
    return peaks


def highest(peaks: Iterable[Peaks]) -> Peaks:
    """Return the highest of each counter's peaks."""
    return Peaks(*map(max, zip(*peaks, strict=True)))


def by_phase(events: Iterable[Event]) -> Requests:
    """Return what the events of one step ask for."""
    return [
        (phase, [(event.size_bytes, event.address) for event in run])
        for phase, run in groupby(events, attrgetter("phase"))
    ]


class RecordedSteps:
    """The build and the steps of ``trace``, the last of which is taken for a steady one."""

    def __init__(self, trace: Trace, kept_bytes: int = 0) -> None:
        self.workspace_bytes = kept_bytes
        self.last_step = trace.measured_step
        self._steps: list[list[Event]] = [[] for _ in range(self.last_step + 1)]
        for event in trace.events:
            self._steps[event.step].append(event)

    def requests(self, step: int) -> Requests:
        """Return what ``step`` asks for; 0 is the build."""
        requests = by_phase(self._steps[step])
        if step and requests and requests[-1][0] == "backward":  # an update that allocates nothing
            requests.append(("optimizer", []))
        return requests
