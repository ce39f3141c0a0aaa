"""A trace as a script whose last step repeats."""

from itertools import groupby
from operator import attrgetter

from harness.prediction.gpu.simulation import Request, Requests
from harness.schema.events import Event, Trace


class RecordedSteps:
    """The build and steps of ``trace``; after the last one it is played again and again.

    A block that the last step frees was allocated in it or in the step before; played again,
    it is the one allocated at the same place of the same step. So the last two steps allocate
    equally many blocks; older blocks are freed once. ``kept_bytes`` are in workspaces.
    """

    def __init__(self, trace: Trace, kept_bytes: int = 0) -> None:
        self.workspace_bytes = kept_bytes
        self._steps: list[list[Event]] = [[] for _ in range(trace.measured_step + 1)]
        for event in trace.events:
            self._steps[event.step].append(event)
        self._taken = [[e.address for e in step if e.size_bytes > 0] for step in self._steps]
        self._first_new = 1 + max((max(taken, default=0) for taken in self._taken), default=0)

    def requests(self, step: int) -> Requests:
        """Return what ``step`` asks for; 0 is the build."""
        last = len(self._steps) - 1
        events = self._steps[min(step, last)]
        new = {} if step <= last else self._renumbered(step)
        requests: Requests = []
        for phase, found in groupby(events, attrgetter("phase")):
            wanted: list[Request] = []
            for event in found:
                if not new:
                    wanted.append((event.size_bytes, event.address))
                elif event.address in new:
                    wanted.append((event.size_bytes, new[event.address]))
            requests.append((phase, wanted))
        if step and requests and requests[-1][0] == "backward":  # an update that allocates nothing
            requests.append(("optimizer", []))
        return requests

    def _renumbered(self, step: int) -> dict[int, int]:
        """Return the numbers in a repeated step for those in the last."""
        numbers: dict[int, int] = {}
        for taken, number in ((self._taken[-2], step - 1), (self._taken[-1], step)):
            numbers |= zip(taken, self._numbers(number), strict=False)
        return numbers

    def _numbers(self, step: int) -> "range | list[int]":
        """Return the consecutive numbers of the blocks that a step allocates."""
        last = len(self._steps) - 1
        if step <= last:
            return self._taken[step]
        count = len(self._taken[-1])
        first = self._first_new + (step - last - 1) * count
        return range(first, first + count)
