"""Timeline of all blocks in a recording, or in its last step, for the HTML page."""

from bisect import bisect_left
from collections.abc import Iterator

from harness.plots.category_colours import BLOCK_COLOURS
from harness.plots.timeline import ShownBlock, Timeline
from harness.schema.block_categories import CATEGORY_WORDS
from harness.snapshots.categories import (
    Guess,
    caller,
    categories,
    module_of,
)
from harness.snapshots.device_history import DeviceHistory
from harness.snapshots.failed_request import find_failure, step_ends
from harness.snapshots.trace_event import TraceEvent, own_line

_MOST_PARTED = 4
"""Largest number of steps for which the timeline shows forward, backward and update."""
COLOURS = {words: BLOCK_COLOURS[name] for name, words in CATEGORY_WORDS.items()}


def recorded_timeline(history: DeviceHistory, *, last_step: bool = False) -> Timeline:
    """Return the timeline up to the failure; with ``last_step``, return only the last step.

    Set ``last_step`` for a dry run; the times of a dry run have no meaning and are left out.
    """
    events, category_at = history.events, categories(history)
    failure = find_failure(history)
    stop = len(events) if failure is None else failure.position + 1
    ends = step_ends(history, stop)
    start = 0
    if last_step and ends:
        start = ends[-1] if failure else [0, *ends][-2]
        stop = stop if failure else ends[-1]
    count = stop - start + 1
    before = len(history.origin.live)
    blocks = []
    for begin, end in history.lifetimes.items():
        first = max(0, begin - before - start + 1)
        last = count if end is None else min(count, end - before - start + 1)
        if first < last:
            blocks.append(
                (_shown(first, last, history.log[begin], CATEGORY_WORDS[category_at(begin)]), 1)
            )
    times = [event.time_us for event in events[start:stop]]
    known = [time for time in times if time is not None]
    phases = list(_phases(history, start, stop, [end for end in ends if end > start]))
    return Timeline(
        blocks=blocks,
        events=range(start, stop + 1),
        colours=COLOURS,
        phases=phases if len(phases) > 1 else (),
        joint=" > ",
        reserved=history.reserved_bytes[start : stop + 1],
        times_us=None if last_step or len(known) < len(times) or not known else [known[0], *known],
        limits=[] if failure is None else [("all that PyTorch may reserve", failure.usable_bytes)],
        marks=[] if failure is None else [("out of memory", count - 1)],
    ).thinned()


def _shown(begin: int, end: int, event: TraceEvent, category: str) -> ShownBlock:
    place = event.stack.place
    line = own_line(event)
    shown = line if place is None or place in line else f"{place} < {line}"
    layer = module_of(event) if event.stack.modules else line
    return ShownBlock(begin, end, event.size_bytes, category, layer, shown)


def _phases(
    history: DeviceHistory, start: int, stop: int, ends: list[int]
) -> Iterator[tuple[str, int]]:
    """Yield the name and the start of each phase or, if there are many steps, of each step."""
    if len(ends) > _MOST_PARTED:
        edges = [0, *(end - start + 1 for end in ends)]
        yield from ((f"step {number}", edge) for number, edge in enumerate(edges, 1))
        return
    before_all, guess = len(history.origin.live), Guess(history)
    times = [event.time_us or 0 for event in history.events[:stop]]
    starts = {bisect_left(times, mark.time_us) for mark in history.steps if mark.stage == "START"}
    updates = starts - {start, *ends}  # an update that allocates nothing begins where it ends
    phase, first = "" if start else "build", 0
    for position in range(start, stop):
        event, before = history.events[position], phase
        phase = "update" if position in updates else "" if position in ends else phase
        if phase != "update" and event.action == "alloc":
            seen = guess.of(before_all + position)
            if seen == "backward" or caller(event).in_backward:
                phase = "backward"
            elif seen == "forward" or phase == "":
                phase = "forward"
        if phase and (phase != before or not first):
            yield phase, position - start + 1 if first else 0
            first = 1
