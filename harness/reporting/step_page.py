"""A step's report as a page: the answers, the timeline, the layers, the largest blocks."""

from collections.abc import Iterator
from html import escape

from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.self_contained_page import self_contained_page, stacked_bar
from harness.plots.shown_tables import blocks_table, layers_table, sizes_table
from harness.plots.step_timeline import of_trace, timeline_figure
from harness.reporting.figures import Picture, colour_properties, inline_pair, picture
from harness.schema.events import CATEGORIES, Trace
from harness.schema.metrics_text import metrics_rows
from harness.schema.step_report import StepReport

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
    if report.trace is not None and report.trace.events:
        drawn = _drawn(report.trace, title)
        pictures = inline_pair(drawn, drawn.name, "timeline-words")
        caption = f'<figcaption class="quiet" id="timeline-words">{escape(drawn.alt)}</figcaption>'
        yield f"<figure>{pictures}{caption}</figure>"
    elif report.categories_at_peak is not None:
        sizes = {name: getattr(report.categories_at_peak, name) for name in CATEGORIES}
        parts = [(name.replace("_", " "), sizes[name], CATEGORY_COLOURS[name]) for name in sizes]
        yield "<h2>Alive at the peak</h2>"
        yield stacked_bar("Bytes alive at the peak, by category", parts, sum(sizes.values()))
    for head, table in (("Layers", layers_table), ("Largest blocks", blocks_table)):
        if shown := table(report).html:
            yield f"<h2>{head}</h2>{shown}"
    metrics = sizes_table("Sizes of the step", metrics_rows(report)).html
    yield f"<details><summary>Metrics</summary>{metrics}</details>"
    for note in report.notes:
        yield f'<p class="quiet">Note: {escape(note)}</p>'


def _drawn(trace: Trace, title: str) -> Picture:
    return picture(timeline_figure(of_trace(trace), name="timeline", caption=title))
