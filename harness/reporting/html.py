"""The report as one self-contained page."""

from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from harness.reporting.document import Chapter, Report
from harness.reporting.figures import Picture, inline_svg
from harness.reporting.methods import LIMITS, METHODS
from harness.reporting.tables import shown
from harness.schema.findings import Ruling

LONG_TABLE = 12
"""Rows from which on a table is folded away until asked for."""

_BADGES = {
    Ruling.SUPPORTED: "supported",
    Ruling.LIMITED: "limited",
    Ruling.REFUTED: "refuted",
    Ruling.OPEN: "open",
}


def render(report: Report) -> str:
    """Return ``report`` as HTML with its styles and pictures inside; all text is escaped."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["svg"] = _svg
    environment.filters["set"] = _keep_percent
    environment.globals["badge"] = _BADGES.__getitem__
    page = environment.get_template("report.html.j2").render(
        report=report,
        methods=METHODS,
        limits=LIMITS,
        environment=shown(report.environment),
        style=Markup(_template("report.css")),
        long_table=LONG_TABLE,
    )
    return page + "\n"


def _template(name: str) -> str:
    return (resources.files("harness.reporting") / "templates" / name).read_text(encoding="utf-8")


def _keep_percent(text: str) -> str:
    """Return ``text`` with its per cent signs tied to their numbers."""
    return text.replace(" %", "\u00a0%")


def _svg(part: Chapter, drawn: Picture) -> Markup:
    """Return a picture's SVG; matplotlib has escaped every text in it."""
    anchor = f"{part.name}-{drawn.name}"
    return Markup(inline_svg(drawn.svg, anchor, f"{anchor}-caption"))
