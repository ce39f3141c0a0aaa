"""Growth of memory over the steps of training: a leak or a plateau.

The floor of a step is the least that was alive during it. Activations come and go within a step,
so floors rise only by what stays: optimizer state once, a leak in every step.
"""

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from harness.snapshots.categories import own_line
from harness.snapshots.moments import blocks_after
from harness.snapshots.snapshot import Annotation
from harness.snapshots.trace_event import TraceEvent

Kind = Literal["leak", "plateau", "unknown"]
_LEAST_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Growth of the memory that stays alive over training steps, judged by each step's floor.

    ``floors_bytes`` is the least alive in each step, ``places`` what a leak added later on.
    """

    kind: Kind
    reason: str
    floors_bytes: tuple[int, ...] = ()
    per_step_bytes: int = 0
    first_step_bytes: int = 0
    places: tuple[tuple[str, int], ...] = ()


def find_growth(
    events: Sequence[TraceEvent], alive_bytes: Sequence[int], annotations: Sequence[Annotation]
) -> Growth:
    """Return how memory grows over the steps; ``alive_bytes``: what was alive after each event."""
    edges = step_ends(events, annotations)
    if len(edges) < _LEAST_STEPS:
        reason = f"{len(edges)} training steps are recorded; {_LEAST_STEPS} are needed"
        return Growth(kind="unknown", reason=reason)
    floors = [min(alive_bytes[begin:end]) for begin, end in itertools.pairwise(edges)]
    steps = [after - before for before, after in itertools.pairwise(floors)]
    first = floors[0] - min(alive_bytes[: edges[0] + 1], default=0)
    rising = [step for step in steps if step > 0]
    level = max(floors[0] // 100, 1 << 16)
    total = floors[-1] - floors[0]
    if len(rising) >= 0.8 * len(steps) and total > level and steps[-1] > 0:
        return Growth(
            kind="leak",
            reason=f"the least alive rises in {len(rising)} of {len(steps)} steps",
            floors_bytes=tuple(floors),
            per_step_bytes=int(median(steps)),
            first_step_bytes=first,
            places=_what_stayed(events, edges[len(edges) // 2], edges[-1]),
        )
    return Growth(
        kind="plateau",
        reason=f"the least alive stays level over {len(floors)} steps",
        floors_bytes=tuple(floors),
        first_step_bytes=first,
    )


def step_ends(events: Sequence[TraceEvent], annotations: Sequence[Annotation]) -> list[int]:
    """Return the positions at which optimizer steps end, as PyTorch 2.6 and later mark them."""
    times = [event.time_us or 0 for event in events]
    ends = (
        bisect_left(times, each.time_us)
        for each in annotations
        if not each.is_start and each.name.startswith("Optimizer.step#")
    )
    return sorted({position for position in ends if position > 0})


def _what_stayed(events: Sequence[TraceEvent], begin: int, end: int) -> tuple[tuple[str, int], ...]:
    totals: Counter[str] = Counter()
    for event in blocks_after(events[begin:end], {}).values():
        totals[own_line(event.stack)] += event.size_bytes
    return tuple(totals.most_common(5))
