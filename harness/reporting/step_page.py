"""A step's report as a page: the answers, the timeline, the layers, the largest blocks."""

from collections import Counter
from collections.abc import Iterator
from html import escape

from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.self_contained_page import self_contained_page, sizes_first_table, stacked_bar
from harness.plots.step_timeline import of_trace, timeline_figure
from harness.reporting.figures import Picture, colour_properties, inline_pair, picture
from harness.schema.events import CATEGORIES, Trace
from harness.schema.layer_names import common_name, pattern
from harness.schema.metrics_text import metrics_rows
from harness.schema.plain_text import printable
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes

MOST_BLOCKS = 15
_STYLE = f"""
:root {{ {colour_properties(dark=False)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {colour_properties(dark=True)} }} }}
figure {{ margin: 1rem 0; }} figure svg {{ display: block; width: 100%; height: auto; }}
.narrow {{ display: none; }}
@media (max-width: 44rem) {{ .wide {{ display: none; }} .narrow {{ display: block; }} }}
"""


def step_page(report: StepReport, title: str) -> str:
    """Return a self-contained HTML page of ``report``."""
    return self_contained_page(title, "\n".join(_parts(report, title)), style=_STYLE)


def _parts(report: StepReport, title: str) -> Iterator[str]:
    answers = "<br>".join(f"<strong>{escape(answer)}</strong>" for answer in report.answers)
    if answers:
        yield f"<p>{answers}</p>"
    yield f"<p>{escape(report.line)}</p>"
    trace = report.trace
    if trace is not None and trace.events:
        drawn = _drawn(trace, title)
        pictures = inline_pair(drawn, drawn.name, "timeline-words")
        caption = f'<figcaption class="quiet" id="timeline-words">{escape(drawn.alt)}</figcaption>'
        yield f"<figure>{pictures}{caption}</figure>"
        yield "<h2>Layers, in forward order</h2>"
        yield _layers(trace)
        yield "<h2>Largest blocks at the peak</h2>"
        yield _blocks(trace)
    elif report.categories_at_peak is not None:
        sizes = {name: getattr(report.categories_at_peak, name) for name in CATEGORIES}
        parts = [(words(name), size, CATEGORY_COLOURS[name]) for name, size in sizes.items()]
        yield "<h2>Alive at the peak</h2>"
        yield stacked_bar("Bytes alive at the peak, by category", parts, sum(sizes.values()))
    rows = [(format_bytes(size), name.strip()) for name, size in metrics_rows(report) if size]
    metrics = sizes_first_table("Sizes of the step", ("size", "metric"), rows, numbers=1)
    yield f"<details><summary>Metrics</summary>{metrics}</details>"
    for note in report.notes:
        yield f'<p class="quiet">Note: {escape(note)}</p>'


def timeline_svg(trace: Trace, title: str) -> str:
    """Return the picture of the measured step as an SVG document."""
    return printable(_drawn(trace, title).svg)


def _drawn(trace: Trace, title: str) -> Picture:
    return picture(timeline_figure(of_trace(trace), name="timeline", caption=title))


def words(name: str) -> str:
    """Return the name of a category in words."""
    return name.replace("_", " ")


def _layers(trace: Trace) -> str:
    """Return the bytes of each layer at the peak, in the order of the forward pass."""
    seen = [event.module for event in trace.events if event.phase == "forward"]
    order = dict.fromkeys([*seen, *(event.module for event in trace.events)])
    alive = trace.alive_at_peak()
    held = {name: Counter[str]() for name in order}
    for block in alive:
        held[block.event.module][block.event.category] += block.event.size_bytes
    alike: dict[tuple[str, int], list[str]] = {}
    for name, sizes in held.items():
        if sizes:
            alike.setdefault((pattern(name), sizes["parameter"]), []).append(name)
    used = [name for name in CATEGORIES if any(sizes[name] for sizes in held.values())]
    rows = []
    for names in alike.values():
        sizes = Counter[str]()
        for name in names:
            sizes.update(held[name])
        several = f" x{len(names)}" if len(names) > 1 else ""
        rows.append(
            [
                format_bytes(sizes.total()),
                f"{sizes.total() / trace.peak_live_bytes:.1%}",
                f"{common_name(names) or '(network)'}{several}",
                *(format_bytes(sizes[one]) if sizes[one] else "" for one in used),
            ]
        )
    heads = ["at the peak", "share", "layer", *map(words, used)]
    return sizes_first_table("Bytes alive at the peak, by layer", heads, rows, numbers=2)


def _blocks(trace: Trace) -> str:
    rows = [
        [
            format_bytes(block.event.size_bytes),
            f"{block.event.size_bytes:,}",
            block.event.module or "(network)",
            words(block.event.category),
            block.event.operator.replace("autograd::engine::evaluate_function: ", ""),
        ]
        for block in trace.alive_at_peak()[:MOST_BLOCKS]
    ]
    return sizes_first_table(
        f"The {len(rows)} largest blocks alive at the peak",
        ["size", "bytes", "layer", "category", "allocated by"],
        rows,
        numbers=2,
    )
