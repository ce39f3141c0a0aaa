"""Allocation traces: all allocations and frees of a program in order, and metrics of a trace.

A workload's trace starts before the model is built, so the sum of the sizes up to an event is the
total of live bytes after the event. Measured traces (``harness.instruments.allocation_trace``) and
predicted traces (``harness.prediction.mlp.cpu_trace``) are objects of the same class, ``Trace``,
which computes the metrics.
"""

import bisect
import csv
import functools
import io
import itertools
import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.schema.plain_text import csv_cell
from harness.schema.shown import html_of, picture
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PHASES = ("build", "forward", "backward", "optimizer")
BEFORE_TRACE = "before the trace"
"""Operator name in the events of blocks that existed before the trace; these events come first."""
CATEGORIES = ("parameter", "gradient", "optimizer_state", "input", "activation", "temporary")


class Event(NamedTuple):
    """The allocation (``size_bytes`` > 0) or the free (``size_bytes`` < 0) of one block.

    ``step`` is 0 while the model is built, and 1 in the first training step. A free event repeats
    the category, the operator and the module of the block's allocation event. Two blocks that are
    alive at the same time have different values of ``address``.
    """

    step: int
    phase: str
    operator: str
    """Names of the nested operators that were running, outermost first, joined by ``/``."""
    module: str
    """Dotted name of the module whose forward or backward pass allocated the block."""
    category: str
    size_bytes: int
    address: int


class Block(NamedTuple):
    """The allocation event of a block, with the event's number in the trace (``order``)."""

    order: int
    event: Event


@dataclass(frozen=True, repr=False)
class Trace:
    """An ordered sequence of allocation and free events, with the metrics of one measured step.

    Attributes:
        events: all allocation and free events, in order.
        initial_bytes: bytes alive before the first event, e.g. bytes of an existing model.
        steps: number of the measured step; None for the last step in ``events``.

    >>> trace = Trace([Event(1, "forward", "aten::mm", "", "activation", 4096, 0)])
    >>> trace.peak_live_bytes, trace.peak_phase
    (4096, 'forward')
    """

    events: Sequence[Event]
    initial_bytes: int = 0
    steps: int | None = None

    @cached_property
    def live_bytes(self) -> list[int]:
        """Bytes alive after each event."""
        sizes = map(operator.itemgetter(5), self.events)
        sums = itertools.accumulate(sizes, initial=self.initial_bytes)
        return list(itertools.islice(sums, 1, None))

    @cached_property
    def measured_step(self) -> int:
        """Number of the step whose peaks are reported."""
        return max((e.step for e in self.events), default=0) if self.steps is None else self.steps

    def live_before(self, order: int) -> int:
        """Return the bytes alive just before event number ``order``, counted from 0."""
        return self.live_bytes[order - 1] if order else self.initial_bytes

    def _first(self, step: int) -> int:
        """Return the position of the first event that belongs to ``step`` or to a later step."""
        return bisect.bisect_left(self.events, step, key=operator.attrgetter("step"))

    @cached_property
    def live_at_start_bytes(self) -> int:
        """Bytes alive just before the measured step."""
        return self.live_before(self._first(self.measured_step))

    @cached_property
    def live_before_forward_bytes(self) -> int:
        """Bytes alive at the start of the measured forward pass, after old gradients are freed."""
        start, stop = (self._first(self.measured_step + more) for more in (0, 1))
        phases = (event.phase for event in self.events[start:stop])
        dropped = sum(1 for _ in itertools.takewhile("optimizer".__eq__, phases))
        return self.live_before(start + dropped)

    def step_peak_bytes(self, step: int) -> int:
        """Return the peak of live bytes in a step, including the bytes alive when the step starts.

        Step 0 builds the model; step 1 is the first training step.
        """
        start, stop = self._first(step), self._first(step + 1)
        return max([self.live_before(start), *self.live_bytes[start:stop]])

    @cached_property
    def peak_order(self) -> int:
        """Position of the first event after which live bytes equal the peak of the measured step.

        If the step starts at its peak, the position is that of the last event before the step.
        """
        start = self._first(self.measured_step)
        peak = self.step_peak_bytes(self.measured_step)
        if self.live_before(start) == peak:
            return start - 1
        return self.live_bytes.index(peak, start)

    @property
    def peak_live_bytes(self) -> int:
        """Peak of live bytes in the measured step."""
        return self.step_peak_bytes(self.measured_step)

    @property
    def peak_phase(self) -> str:
        """Phase in which the measured step first reaches its peak."""
        start = self._first(self.measured_step)
        order = max(self.peak_order, start)
        return self.events[order].phase if order < len(self.events) else "forward"

    def phase_peaks(self) -> dict[str, int]:
        """Return the peak of live bytes in each phase that allocates or frees a block.

        The ``build`` phase is the construction of the model; all other phases belong to the
        measured step. The peak of a phase includes the bytes alive at the start of the phase.
        """
        peaks: dict[str, int] = {}
        start = 0
        for (step, phase), run in itertools.groupby(self.events, operator.itemgetter(0, 1)):
            stop = start + sum(1 for _ in run)
            if step in (0, self.measured_step):
                peak = max(self.live_before(start), *self.live_bytes[start:stop])
                peaks[phase] = max(peaks.get(phase, 0), peak)
            start = stop
        return {phase: peaks[phase] for phase in PHASES if phase in peaks}

    def alive_after(self, order: int) -> list[Block]:
        """Return the blocks alive after event number ``order``, largest first."""
        blocks = [Block(number, self.events[number]) for number in sorted(self._alive_after(order))]
        return sorted(blocks, key=lambda block: -block.event.size_bytes)

    def _alive_after(self, order: int) -> list[int]:
        """Return the positions of the allocation events whose blocks are alive after ``order``."""
        addresses = map(operator.itemgetter(6), self.events[: order + 1])
        latest = dict(zip(addresses, itertools.count(), strict=False))
        return [number for number in latest.values() if self.events[number].size_bytes > 0]

    def alive_at_peak(self) -> list[Block]:
        """Return the blocks alive at the peak, largest first.

        The sizes of the blocks plus ``initial_bytes`` add up to exactly ``peak_live_bytes``.
        """
        return self.alive_after(self.peak_order)

    def as_csv(self) -> str:
        """Return CSV text with one row per event; ``live_bytes`` is the total after the event."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        cell = functools.cache(csv_cell)  # a trace has thousands of rows and few names
        writer.writerow(["order", *Event._fields, "live_bytes"])
        for order, (event, live) in enumerate(zip(self.events, self.live_bytes, strict=True)):
            writer.writerow([order, *map(cell, event), live])
        return buffer.getvalue()

    def to_frame(self) -> "pd.DataFrame":
        """Return a data frame with one row per event; ``live_bytes`` is the total after the event.

        >>> trace = Trace([Event(1, "forward", "aten::mm", "", "activation", 4096, 0)])
        >>> trace.to_frame()[["phase", "size_bytes", "live_bytes"]].to_dict("records")
        [{'phase': 'forward', 'size_bytes': 4096, 'live_bytes': 4096}]
        """
        import pandas as pd

        frame = pd.DataFrame(self.events, columns=list(Event._fields))
        frame.insert(0, "order", range(len(frame)))
        return frame.assign(live_bytes=self.live_bytes)

    def plot(self) -> "Figure":
        """Return a figure of the live bytes by category during the measured step."""
        return picture("plot_trace", self)

    def summary(self) -> str:
        """Return one line with the peak of live bytes, the peak's phase and the bytes by category.

        >>> Trace([Event(1, "forward", "aten::mm", "", "activation", 4096, 0)]).summary()
        'peak 4 KiB in forward: activation 4 KiB'
        """
        categories = sorted(self.categories_at_peak().items(), key=lambda item: -item[1])
        parts = [f"{name} {format_bytes(size)}" for name, size in categories if size]
        return f"peak {format_bytes(self.peak_live_bytes)} in {self.peak_phase}: {', '.join(parts)}"

    def __repr__(self) -> str:
        return f"<Trace: {len(self.events):,} events, {self.summary()}>"

    def _repr_html_(self) -> str:
        return html_of("trace_html", self)

    def categories_at_peak(self) -> dict[str, int]:
        """Return the bytes alive at the peak, by category."""
        sums: Counter[str] = Counter()
        for number in self._alive_after(self.peak_order):
            event = self.events[number]
            sums[event.category] += event.size_bytes
        return {category: sums[category] for category in CATEGORIES}


def totals(blocks: Iterable[Block], attribute: str) -> dict[str, int]:
    """Return the bytes of the blocks by ``attribute``, such as ``module``, largest first."""
    sums: Counter[str] = Counter()
    for block in blocks:
        sums[getattr(block.event, attribute)] += block.event.size_bytes
    return dict(sums.most_common())


def trace_metrics(trace: Trace) -> dict[str, Any]:
    """Return those metrics of a record that are computed from the trace."""
    return {
        "peak_live_bytes": trace.peak_live_bytes,
        "first_step_peak_live_bytes": trace.step_peak_bytes(1),
        "live_at_start_bytes": trace.live_at_start_bytes,
        "live_before_forward_bytes": trace.live_before_forward_bytes,
        "peak_phase": trace.peak_phase,
        "phases": {name: {"peak_live_bytes": peak} for name, peak in trace.phase_peaks().items()},
        "categories_at_peak": trace.categories_at_peak(),
    }
