"""Writes predicted allocator events in order."""

from harness.schema.events import Event, Trace

# Makes an Event of a tuple in half the time that Event(*fields) takes.
_new = tuple.__new__


class TraceWriter:
    """Writes events with their step and phase.

    A block is the event that allocated it. Blocks are numbered from 1 on in the order in which
    they are allocated; the number stands for the address, so no address is used twice.
    """

    __slots__ = ("_blocks", "_step", "events", "phase")

    def __init__(self) -> None:
        self._blocks = 0
        self._step = 0
        self.events: list[Event] = []
        self.phase = "build"
        """Phase in which the next events are written."""

    def next_step(self) -> None:
        """Begin another step: 1 after the build, then 2."""
        self._step += 1

    def allocate(
        self, size_bytes: int, operator: str, category: str = "temporary", module: str = ""
    ) -> Event:
        """Write that a block is allocated and return it."""
        self._blocks = number = self._blocks + 1
        fields = (self._step, self.phase, operator, module, category, size_bytes, number)
        block = _new(Event, fields)
        self.events.append(block)
        return block

    def free(self, *blocks: Event | None) -> None:
        """Write that ``blocks`` are freed, in this order; nothing for None."""
        for block in blocks:
            if block is not None:
                _, _, operator, module, category, size_bytes, number = block
                fields = (self._step, self.phase, operator, module, category, -size_bytes, number)
                self.events.append(_new(Event, fields))

    def scratch(self, *blocks: tuple[int, str], module: str = "") -> None:
        """Write blocks (bytes and operator) that are freed at once, the last block first."""
        taken = [self.allocate(size, operator, "temporary", module) for size, operator in blocks]
        self.free(*reversed(taken))

    def trace(self) -> Trace:
        """Return the written trace, whose last step is the measured step."""
        return Trace(self.events, steps=self._step)
