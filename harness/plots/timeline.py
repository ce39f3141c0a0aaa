"""The blocks that are alive over a series of events, for the figures of a page."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from harness.schema.plain_text import printable

MOST_BLOCKS = 10_000
"""Maximum number of blocks on a page; larger timelines leave out events and merge equal blocks."""


class ShownBlock(NamedTuple):
    """A block that is alive from state ``begin`` until just before state ``end``.

    State 0 is before the first event, and state n is after event n.
    """

    begin: int
    end: int
    size_bytes: int
    category: str
    layer: str
    line: str


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All blocks that are alive during a series of events.

    Attributes:
        blocks: each shown block, with the number of equal blocks that it represents.
        events: number of the last event before each state; 0 if there is no event before the state.
        colours: colour of each category, in stacking order.
        phases: name of each phase, with the number of the phase's first state.
        joint: separator between the parts of a layer's name.
        reserved: reserved bytes in each state, or only the peak of reserved bytes.
        times_us: time of each state in microseconds; None if times are not meaningful.
        limits: name and bytes of each limit that is drawn as a line, e.g. the GPU's memory.
        marks: name and number of each state to mark, e.g. a failure.
        heading: heading of the treemap.
    """

    blocks: Sequence[tuple[ShownBlock, int]]
    events: Sequence[int]
    colours: Mapping[str, str]
    phases: Sequence[tuple[str, int]] = ()
    joint: str = "."
    reserved: Sequence[int] = ()
    times_us: Sequence[int] | None = None
    limits: Sequence[tuple[str, int]] = ()
    marks: Sequence[tuple[str, int]] = ()
    heading: str = "Layers at the peak"

    def total_bytes(self) -> list[int]:
        """Return the bytes alive in each state."""
        changes = [0] * (len(self.events) + 1)
        for block, _ in self.blocks:
            changes[block.begin] += block.size_bytes
            changes[block.end] -= block.size_bytes
        return list(accumulate(changes))[:-1]

    def thinned(self, most: int = MOST_BLOCKS) -> "Timeline":
        """Return a timeline of at most ``most`` blocks; the peak of each group of events is kept.

        The live bytes of each remaining state are unchanged.
        """
        if len(self.blocks) <= most and len(self.events) <= 2 * most:
            return self
        total, count = self.total_bytes(), len(self.events)
        named = shown = replace(self, blocks=self._with_few_names(most // 16))
        runs = 2 * min(count, 2 * most)
        while len(shown.blocks) > most or len(shown.events) > 2 * most:
            runs //= 2
            edges = [count * run // runs for run in range(runs + 1)]
            pairs = pairwise(edges)
            shown = named._at([max(range(*pair), key=total.__getitem__) for pair in pairs])
        return shown

    def _with_few_names(self, most: int) -> list[tuple[ShownBlock, int]]:
        """Return all blocks; each layer outside the ``most`` largest is renamed to "others"."""
        sums = Counter[tuple[str, str]]()
        for block, _ in self.blocks:
            sums[block[4:]] += block.size_bytes
        kept = {name for name, _ in sums.most_common(most)}
        return [
            (block if block[4:] in kept else block._replace(layer="others", line=""), number)
            for block, number in self.blocks
        ]

    def _at(self, chosen: Sequence[int]) -> "Timeline":
        sizes, counts = Counter[ShownBlock](), Counter[ShownBlock]()
        for block, number in self.blocks:
            begin, end = bisect_left(chosen, block.begin), bisect_left(chosen, block.end)
            if begin < end:
                alike = block._replace(begin=begin, end=end, size_bytes=0)
                sizes[alike] += block.size_bytes
                counts[alike] += number

        def at(values: Sequence[int]) -> list[int]:
            return [values[moment] for moment in chosen] if len(values) > 1 else list(values)

        def moved(marks: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
            last = len(chosen) - 1
            return [(name, min(last, bisect_left(chosen, moment))) for name, moment in marks]

        return replace(
            self,
            blocks=[(b._replace(size_bytes=sizes[b]), counts[b]) for b in sizes],
            events=at(self.events),
            phases=moved(self.phases),
            reserved=at(self.reserved),
            times_us=None if self.times_us is None else at(self.times_us),
            marks=moved(self.marks),
        )

    def as_data(self) -> dict[str, Any]:
        """Return the timeline as data for JSON, for the page's script to read."""
        used = {block.category for block, _ in self.blocks}
        names = [name for name in self.colours if name in used]
        layers = {block.layer: 0 for block, _ in self.blocks}
        lines = {block.line: 0 for block, _ in self.blocks}
        for texts in (layers, lines):
            texts.update({text: number for number, text in enumerate(texts)})
        rows = [
            (
                *block[:3],
                names.index(block.category),
                layers[block.layer],
                lines[block.line],
                number,
            )
            for block, number in self.blocks
        ]
        return {
            "blocks": [list(column) for column in zip(*rows, strict=True)] or [[]] * 7,
            "moments": len(self.events),
            "events": list(self.events) if self.events != range(len(self.events)) else None,
            "kinds": [(name.replace("_", " "), self.colours[name]) for name in names],
            "layers": list(map(printable, layers)),
            "lines": list(map(printable, lines)),
            "phases": self.phases,
            "joint": self.joint,
            "reserved": self.reserved,
            "times": self.times_us,
            "limits": self.limits,
            "marks": self.marks,
        }
