"""Writes a figure as SVG and PNG, and its data as CSV; equal figures give equal bytes."""

import dataclasses
import functools
import html
import io
import logging
import re
import textwrap
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from harness.plots.theme import NARROW_INCHES, RC, dark_colours
from harness.reporting.tables import csv_text
from harness.schema.findings import Figure
from harness.schema.plain_text import printable
from harness.schema.users_place import users_place

DPI = 160
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DrawnFigure:
    """A figure, drawn as SVG and as PNG."""

    name: str
    caption: str
    alt: str
    """Alternative text; empty if the caption is the alternative text."""
    heading: str
    svg: str
    """SVG document for a wide page."""
    narrow_svg: str
    """SVG document for a phone, with panels below each other and an unchanged text size."""
    png: bytes
    data: pd.DataFrame
    problem: str = ""
    """Reason why the figure shows only this reason: an error in the function that draws it."""


def picture(figure: Figure) -> DrawnFigure:
    """Draw ``figure`` as an SVG for a wide page, as an SVG for a phone, and as a PNG.

    If its function raises an error, the figure is a text that names the error. The user's settings
    of matplotlib are ignored, so the bytes depend only on the figure and on the version of
    matplotlib.
    """
    try:
        return _picture(figure)
    except Exception as error:  # a mistake in a figure must not cost the claims
        _LOG.debug("the traceback of an error in a figure", exc_info=error)
        problem = f"Figure {figure.name} could not be drawn: {fault_text(error)}."
        draw = functools.partial(_write, text=problem)
        drawn = _picture(dataclasses.replace(figure, draw=draw, tips=None))
        return dataclasses.replace(drawn, problem=problem)


def fault_text(error: Exception) -> str:
    """Return an error with the line of the experiment's file that raised it."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = users_place(error)
    return f"internal error: {what}" if place is None else f"{place}: {what}"


def _write(canvas: Canvas, _: pd.DataFrame, *, text: str) -> None:
    axes = canvas.subplots()
    axes.set_axis_off()
    axes.text(0, 0.5, "\n".join(textwrap.wrap(text, 50)), parse_math=False)


def _picture(figure: Figure) -> DrawnFigure:
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        wide = _canvas(figure, figure.size)
        ratio = figure.size[1] / figure.size[0]
        height = max(NARROW_INCHES * ratio, min(figure.size[1], 0.85 * NARROW_INCHES))
        narrow = _canvas(figure, (NARROW_INCHES, height))
        return DrawnFigure(
            name=figure.name,
            caption=figure.caption,
            alt=figure.alt,
            heading=figure.heading,
            svg=_svg(wide, figure),
            narrow_svg=_svg(narrow, figure),
            png=_png(wide, figure),
            data=figure.data,
        )


def _canvas(figure: Figure, size: tuple[float, float]) -> Canvas:
    """Draw the figure on a new canvas, and compute the layout."""
    canvas = Canvas(figsize=size, layout="constrained")
    FigureCanvasAgg(canvas)
    figure.draw(canvas, figure.data)
    if figure.heading:  # so that a figure that is copied elsewhere says what it is
        canvas.suptitle(figure.heading, x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    engine = canvas.get_layout_engine()
    assert engine is not None
    engine.execute(canvas)
    canvas.set_layout_engine("none")  # laid out now; drawing would do it again each time
    return canvas


# The canvases' own methods draw once, where savefig draws twice.


def _png(canvas: Canvas, figure: Figure) -> bytes:
    png = io.BytesIO()
    canvas.set_facecolor("white")
    canvas.dpi = DPI
    metadata = {"Title": figure.caption, "Software": None}
    FigureCanvasAgg(canvas).print_png(png, metadata=metadata)  # type: ignore[no-untyped-call]
    return png.getvalue()


def _svg(canvas: Canvas, figure: Figure) -> str:
    text = io.StringIO()
    canvas.set_facecolor("none")
    metadata = {"Title": figure.caption, "Date": None, "Creator": None}
    FigureCanvasSVG(canvas).print_svg(text, metadata=metadata)  # type: ignore[no-untyped-call]
    return text.getvalue().replace("</svg>", f"{_tips(canvas, figure)}</svg>")


def _tips(canvas: Canvas, figure: Figure) -> str:
    """Return invisible SVG boxes over the first axes; a browser shows their titles as tooltips."""
    if figure.tips is None:
        return ""
    to_points = 72 / canvas.dpi
    axes = canvas.axes[0]
    bottom, top = (edge * to_points for edge in (axes.bbox.y0, axes.bbox.y1))
    y = canvas.get_figheight() * 72 - top
    boxes = []
    for start, stop, words in figure.tips(figure.data):
        left, right = (axes.transData.transform((x, 0))[0] * to_points for x in (start, stop))
        boxes.append(
            f'<rect x="{left:.2f}" y="{y:.2f}" width="{right - left:.2f}" '
            f'height="{top - bottom:.2f}"><title>{html.escape(words)}</title></rect>\n'
        )
    return f'<g fill="none" pointer-events="all">\n{"".join(boxes)}</g>\n'


def picture_files(drawn: DrawnFigure, stem: str) -> dict[str, bytes]:
    """Return the names and the contents of the SVG, PNG and CSV files of a figure."""
    svg, data = printable(drawn.svg).encode(), csv_text(drawn.data).encode()
    return {f"{stem}.svg": svg, f"{stem}.png": drawn.png, f"{stem}.csv": data}


_PROLOG = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_TITLE = re.compile(r"\s*<title>.*?</title>", re.DOTALL)
_ID = re.compile(r'(\bid="|href="#|url\(#)')
_HEX = re.compile(r"(?<=: )#[0-9a-f]{6}\b")
_DARK = dark_colours()


def inline_pair(drawn: DrawnFigure, prefix: str, label_id: str) -> str:
    """Return HTML with the wide and the narrow SVG; the page's style shows one of the two.

    ``label_id`` is the id of the element whose text describes the figure.
    """
    wide = inline_svg(drawn.svg, prefix, label_id)
    narrow = inline_svg(drawn.narrow_svg, f"{prefix}-n", label_id)
    return f'<div class="wide">{wide}</div>\n<div class="narrow">{narrow}</div>'


def inline_svg(svg: str, prefix: str, label_id: str) -> str:
    """Return ``svg`` for an HTML page: without prolog and fixed size, and with unique ids.

    Colours that differ in dark mode become CSS custom properties (see ``colour_properties``).
    """
    text = _PROLOG.sub("", svg, count=1)
    text = _TITLE.sub("", _METADATA.sub("", text, count=1), count=1)
    text = _ID.sub(lambda match: f"{match[1]}{prefix}-", text)
    text = _HEX.sub(_property, text)
    opening, rest = text.split(">", 1)
    opening = re.sub(r'\s(?:width|height)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-labelledby="{label_id}">{rest}'.strip()


def _property(match: re.Match[str]) -> str:
    colour = match[0]
    return f"var(--c{colour[1:]}, {colour})" if colour in _DARK else colour


def colour_properties(*, dark: bool) -> str:
    """Return the custom properties that ``inline_svg`` refers to, as CSS declarations."""
    return " ".join(f"--c{light[1:]}: {_DARK[light] if dark else light};" for light in _DARK)
