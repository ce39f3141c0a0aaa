"""A recording or a message explained as one self-contained page: no script, nothing loaded."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from harness.plots.category_colours import LEVELS
from harness.plots.self_contained_page import (
    html_table,
    legend,
    scrolling,
    self_contained_page,
    stacked_bar,
)
from harness.schema.units import format_bytes
from harness.snapshots.categories import Category
from harness.snapshots.explain import Explanation
from harness.snapshots.explain_text import blocks_text, explanation_text, outcomes
from harness.snapshots.log_failures import LogFailure, explained
from harness.snapshots.moments import RecordedMoment
from harness.snapshots.oom_message import OutOfMemoryMessage
from harness.snapshots.oom_text import facts, headline, parts

_COLOURS = {category.words: category.colour for category in Category}
_WIDTH, _HEIGHT, _LEFT, _TOP = 900, 320, 80, 20
_PLOT = _WIDTH - _LEFT - 20


def timeline_chart(explanation: Explanation) -> str:
    """Return the timeline as SVG with its legend, both self-contained."""
    points = explanation.timeline
    if not points:
        return "<p>The recording has no events.</p>"
    most: Counter[str] = Counter()
    for _, sizes in points:
        most |= Counter(sizes)
    highest = max(sum(sizes.values()) for _, sizes in points) or 1
    last = max(1, points[-1][0])

    def x(position: int) -> float:
        return _LEFT + _PLOT * position / last

    def y(size: int) -> float:
        return _TOP + _HEIGHT * (1 - size / highest)

    tick = max(1, 1 << (highest // 4).bit_length())  # whole powers of two
    shapes = [_rule(y(size), format_bytes(size)) for size in range(0, highest + 1, tick)]
    labels: list[tuple[str, str]] = []
    below = [0] * len(points)
    for name, size in most.most_common():
        above = [low + sizes.get(name, 0) for low, (_, sizes) in zip(below, points, strict=True)]
        edge = [f"{x(p):.1f},{y(v):.1f}" for (p, _), v in zip(points, above, strict=True)]
        back = [f"{x(p):.1f},{y(v):.1f}" for (p, _), v in zip(points, below, strict=True)]
        labels.append((_COLOURS[name], f"{name} (most: {format_bytes(size)})"))
        color, label = labels[-1]
        shapes.append(
            f'<polygon points="{" ".join(edge + back[::-1])}" fill="{color}">'
            f"<title>{escape(label)}</title></polygon>"
        )
        below = above
    bottom = _TOP + _HEIGHT
    shapes.append(
        f'<text x="{_LEFT + _PLOT / 2:.1f}" y="{bottom + 20}" text-anchor="middle">'
        f"events 0 to {last:,} of the allocator</text>"
    )
    if explanation.failure is not None:
        at = x(min(explanation.failure.position, last))
        shapes.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}" class="failure" '
            f'stroke-dasharray="4 3"/><text x="{at - 6:.1f}" y="{_TOP - 5}" text-anchor="end" '
            'class="failure">out of memory</text>'
        )
    picture = (
        f'<svg viewBox="0 0 {_WIDTH} {bottom + 28}" font-size="13" role="img" '
        f'aria-label="Bytes alive by category over the events">{"".join(shapes)}</svg>'
    )
    return scrolling("Timeline", picture) + legend(labels)


def _rule(height: float, label: str) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{height:.1f}" y2="{height:.1f}" '
        f'class="rule"/><text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{label}</text>'
    )


_STYLE = """
svg line.failure { stroke: var(--bad); } svg text.failure { fill: var(--bad); }
.bad { color: var(--bad); } .good { color: var(--good); }
"""


def explanation_page(explanations: Sequence[Explanation]) -> str:
    """Return the page of all devices; every text from the recording is escaped."""
    body = "".join(_device(explanation) for explanation in explanations)
    return self_contained_page("Memory snapshot explained", body, style=_STYLE)


def failures_page(failures: Sequence[LogFailure], text: str) -> str:
    """Return the page of a log: its failures, those explained with a bar of the GPU's memory."""
    body = "".join(map(_failure, explained(failures)))
    return self_contained_page("Out of memory explained", body + _as_text(text), style=_STYLE)


def _failure(failure: LogFailure) -> str:
    frame = (
        "" if failure.frame is None else f"<p>Failed at <code>{escape(failure.frame)}</code></p>"
    )
    picture = "" if failure.message is None else _bar(failure.message)
    return (
        f"<h2>Cause: {escape(failure.cause)}</h2><p>{escape(failure.advice)}</p>"
        f'{frame}<p class="quiet">In the log: {escape(facts(failure))}.</p>{picture}'
    )


def _bar(message: OutOfMemoryMessage) -> str:
    held = parts(message)
    whole = max(message.total_bytes, sum(size for _, _, size in held))  # some may have spilled
    rest = iter(LEVELS)
    shown = [
        (name, size, "var(--rule)" if name == "free" else next(rest, LEVELS[-1]))
        for _, name, size in held
    ]
    bar = stacked_bar("The GPU's memory at the failure", shown, whole)
    return f"<p>{escape(headline(message))}.</p>{bar}"


def _device(explanation: Explanation) -> str:
    rows = "".join(
        f"<tr><td>{escape(names)}</td>"
        f'<td class="{"bad" if is_bad else "good"}">{escape(words)}</td></tr>'
        for names, words, is_bad in outcomes(explanation)
    )
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in explanation.sentences)
    notes = "".join(f'<p class="quiet">Note: {escape(note)}.</p>' for note in explanation.notes)
    first, *others = explanation.moments
    moments = _moment(first)
    for other in others:  # the peak: left out where the failure has the same blocks
        if other.categories != first.categories:
            name = f"Alive {escape(other.name)}, in other amounts"
            moments += f"<details><summary>{name}</summary>{_moment(other)}</details>"
    return (
        f"<h2>Device {explanation.device}: {escape(explanation.diagnosis)}</h2>{sentences}{notes}"
        f"<h3>Memory over the recording</h3>{timeline_chart(explanation)}"
        f"<h3>What if</h3><table>{rows}</table>{moments}{_as_text(explanation_text(explanation))}"
    )


def _moment(moment: RecordedMoment) -> str:
    blocks = ((blocks_text(group), group.size_bytes) for group in moment.groups)
    return (
        f"<h3>Alive {escape(moment.name)}: {format_bytes(moment.alive_bytes)} of "
        f"{format_bytes(moment.reserved_bytes)} reserved</h3>"
        + _groups("By category", moment.categories)
        + _groups("By module", moment.modules)
        + _groups("By line, all blocks that are alike together", blocks)
    )


def _groups(caption: str, groups: Iterable[tuple[str, int]]) -> str:
    rows = ((format_bytes(size), name) for name, size in groups)
    return html_table(caption, (">size", "alive"), rows)


def _as_text(text: str) -> str:
    return f"<details><summary>Everything as text</summary><pre>{escape(text)}</pre></details>"
