"""Writes predicted allocator events down in order."""

import itertools
from collections.abc import Sequence

from harness.schema.events import Event, Trace

# Makes an Event of a tuple in half the time that Event(*fields) takes.
_new = tuple.__new__

Place = tuple[int, int]
"""A place on a writer: events and blocks before it."""


class TraceWriter:
    """Writes events; knows the step and phase that they belong to.

    A block is the event that allocated it. Blocks are numbered from 1 on in the order in which
    they are allocated; the number stands for the address, so no address is used twice.

    Some blocks lie in the host's memory wherever the network runs: wrapped Python numbers,
    Adam's step counters, a saved random state. ``with_host`` says whether that memory is the
    one whose events are written, as it is on the CPU.
    """

    __slots__ = ("_blocks", "_events", "_phase", "_step", "_with_host")

    def __init__(self, *, with_host: bool = True) -> None:
        self._with_host = with_host
        self._events: list[Event] = []
        self._blocks = 0
        self._step = 0
        self._phase = "build"

    @property
    def phase(self) -> str:
        """The phase of the step that is being written."""
        return self._phase

    def next_step(self) -> None:
        """Begin another step: 1 after the build, then 2."""
        self._step += 1

    def begin(self, phase: str) -> None:
        """Begin another phase of the current step."""
        self._phase = phase

    def allocate(
        self, size_bytes: int, operator: str, category: str = "temporary", module: str = ""
    ) -> Event:
        """Write that a block is allocated and return it."""
        self._blocks = number = self._blocks + 1
        fields = (self._step, self._phase, operator, module, category, size_bytes, number)
        block = _new(Event, fields)
        self._events.append(block)
        return block

    def take_on_host(
        self, size_bytes: int, operator: str, category: str = "temporary", module: str = ""
    ) -> Event | None:
        """Write a block in host memory and return it; None where host memory is not written."""
        return self.allocate(size_bytes, operator, category, module) if self._with_host else None

    def free(self, block: Event | None) -> None:
        """Write that ``block`` is freed; nothing for None."""
        if block is None:
            return
        _, _, operator, module, category, size_bytes, number = block
        fields = (self._step, self._phase, operator, module, category, -size_bytes, number)
        self._events.append(_new(Event, fields))

    def here(self) -> Place:
        """Return a place on the writer, for ``repeat``."""
        return len(self._events), self._blocks

    def since(self, place: Place) -> Sequence[Event]:
        """Return the events written since ``place``."""
        return self._events[place[0] :]

    def repeat(self, start: Place, stop: Place) -> int:
        """Write once more, in the current step, what is between two places."""
        shift = self._blocks - start[1]
        _, *kept, numbers = zip(*self._events[start[0] : stop[0]], strict=True)
        shifted = map(shift.__add__, numbers)
        rows = zip(itertools.repeat(self._step), *kept, shifted, strict=False)
        self._events += map(_new, itertools.repeat(Event), rows)
        self._blocks += stop[1] - start[1]
        return shift

    def trace(self) -> Trace:
        """Return what was written; its last step is the measured one."""
        return Trace(self._events, steps=self._step)
