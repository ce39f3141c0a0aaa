"""Makes the timeline of a traced step for an HTML page."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.timeline import ShownBlock, Timeline
from harness.schema.events import BEFORE_TRACE, Event, Trace


def traced_timeline(
    trace: Trace, *, reserved: Sequence[int] = (), limits: Sequence[tuple[str, int]] = ()
) -> Timeline:
    """Return the timeline of the measured step, with at most ``MOST_BLOCKS`` blocks."""
    start = bisect_left(trace.events, trace.measured_step, key=lambda event: event.step)
    events = trace.events[start:]
    stop = len(events) + 1
    before = trace.alive_after(start - 1) if start else []
    alive = {block.event.address: (0, block.event) for block in before}
    blocks = [_shown(0, stop, _before(trace.initial_bytes))] if trace.initial_bytes else []
    for moment, event in enumerate(events, 1):
        if event.size_bytes > 0:
            alive[event.address] = moment, event
        elif event.address in alive:
            begin, born = alive.pop(event.address)
            blocks.append(_shown(begin, moment, born))
    blocks += [_shown(begin, stop, event) for begin, event in alive.values()]
    return Timeline(
        blocks=[(block, 1) for block in blocks],
        events=range(stop),
        colours=CATEGORY_COLOURS,
        phases=list(_phases(events)),
        reserved=reserved,
        limits=limits,
    ).thinned()


def _before(size: int) -> Event:
    return Event(0, "build", BEFORE_TRACE, "", "temporary", size, 0)


def _shown(begin: int, end: int, event: Event) -> ShownBlock:
    operator = event.operator.replace("autograd::engine::evaluate_function: ", "")
    line = operator.replace("/", " / ")
    return ShownBlock(begin, end, event.size_bytes, event.category, event.module, line)


def _phases(events: Sequence[Event]) -> Iterator[tuple[str, int]]:
    """Yield each phase with its first state; an optimizer phase at the start is ``zero_grad``."""
    last = None
    for moment, event in enumerate(events):
        if event.phase != last:
            opening = "zero_grad" if moment == 0 else "update"
            yield (opening if event.phase == "optimizer" else event.phase), moment
        last = event.phase
