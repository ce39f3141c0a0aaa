"""The page of predict, measure, dry-run and explain: timeline, treemap and curve.

``page/memory.js`` draws them from plain data. Everything is in the file; nothing is loaded.
"""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from harness.plots.self_contained_page import page_part, self_contained_page
from harness.schema.memory_fit import GpuFit
from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

MOST_BLOCKS = 10_000
"""Most blocks of a page; if there are more, moments are left out and equal blocks merged."""


class ShownBlock(NamedTuple):
    """A block, alive from moment ``begin`` until just before ``end``.

    Moment 0 is the state before the first event; moment n follows event n.
    """

    begin: int
    end: int
    size_bytes: int
    category: str
    layer: str
    line: str


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Every block over some events.

    Attributes:
        blocks: each block, and the number of equal blocks that it stands for.
        events: number of the event before each moment; the first is of the state before all.
        colours: colour of each category, in the order in which they are stacked.
        phases: name and first moment of each phase.
        joint: separator in a layer's name.
        reserved: reserved bytes at each moment, or only their peak.
        times_us: time of each moment, if it means anything.
        limits: name and bytes of each line to draw, such as the GPU's memory.
        marks: name and moment of each mark, such as the failure.
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
        """Return the bytes alive at each moment."""
        changes = [0] * (len(self.events) + 1)
        for block, _ in self.blocks:
            changes[block.begin] += block.size_bytes
            changes[block.end] -= block.size_bytes
        return list(accumulate(changes))[:-1]

    def thinned(self, most: int = MOST_BLOCKS) -> "Timeline":
        """Return at most ``most`` blocks: those of the highest moment of each run of events.

        What is alive at a moment that is left adds up to the same bytes.
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
        """Return the blocks; all but the ``most`` largest names become "others"."""
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
        """Return what the script of the page draws, as plain data."""
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


def memory_page(
    title: str,
    *,
    verdict: Iterable[str],
    timeline: Timeline | None = None,
    fit: GpuFit | None = None,
    batch: int | None = None,
    commands: Sequence[str] = (),
    body: str,
) -> str:
    """Return the page: the verdict, the pictures, the next commands, then ``body``, which is HTML.

    ``fit`` gives the curve of the reserved bytes over the batches that were tried.
    """
    parts = [f"<p>{'<br>'.join(f'<strong>{escape(line)}</strong>' for line in verdict)}</p>"]
    data: dict[str, Any] = {}
    if timeline is not None and timeline.blocks:
        data["timeline"] = timeline.as_data()
        parts += [_timeline_html(timeline)] * (len(timeline.events) > 1)
        parts.append(_treemap_html(timeline))
    elif timeline is not None:
        parts.append("<p>Nothing was allocated.</p>")
    if fit is not None and len(fit.tried) > 1:
        room = fit.total_bytes - fit.outside_bytes[1]
        data["curve"] = {"name": fit.gpu, "room": room, "points": fit.tried, "batch": batch}
        data["curve"]["largest"] = fit.largest_batch
        words = "; ".join(filter(None, [fit.largest_batch_text, "each point is a batch tried"]))
        parts.append(page_part("curve", words=escape(words)))
    if commands:
        lines = "".join(f"<p><code>{escape(line)}</code></p>" for line in commands)
        parts.append(f'<section class="next"><h2>Next</h2>{lines}</section>')
    script = json.dumps(data, separators=(",", ":"))
    return self_contained_page(title, "\n".join([*parts, body]), data=script)


def _timeline_html(timeline: Timeline) -> str:
    axes = ["phases"] * (len(timeline.phases) > 1) + ["events", "bytes"]
    axes += ["time"] * (timeline.times_us is not None)
    return page_part("timeline", options="".join(f"<option>{name}</option>" for name in axes))


def _treemap_html(timeline: Timeline) -> str:
    words = "Colours are those of the timeline. A click marks a layer's blocks in it."
    if len(timeline.events) == 1:
        sums = Counter[str]()
        for block, _ in timeline.blocks:
            sums[block.category] += block.size_bytes
        named = (f"{name.replace('_', ' ')}: {format_bytes(size)}" for name, size in sums.items())
        words = "; ".join(named)
    return page_part("treemap", heading=escape(timeline.heading), words=escape(words))
