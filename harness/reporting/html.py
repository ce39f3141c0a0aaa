"""The report as self-contained pages: story and evidence, or one on the literature."""

from functools import partial
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from harness.reporting.document import Numbered, Report, decisive, headline
from harness.reporting.figures import colour_properties, inline_svg
from harness.reporting.literature_tables import citation, witness_table, witnesses_of
from harness.reporting.methods import LIMITS, METHODS
from harness.reporting.tables import cell, shown
from harness.schema.findings import Verdict

STORY, EVIDENCE = "report.html", "evidence.html"
"""Names of the two pages."""

LONG_TABLE = 12
"""Rows from which on a table is folded away until asked for."""

LONG_TEXT = 28
"""Letters from which on the text of a table's cell may be broken into lines."""

_BADGES = {
    Verdict.SUPPORTED: "supported",
    Verdict.LIMITED: "limited",
    Verdict.REFUTED: "refuted",
    Verdict.OPEN: "open",
}


def render(report: Report) -> dict[str, str]:
    """Return the pages by name, their styles, figures and scripts inside; all text is escaped."""
    made = _environment()
    made.globals |= {
        "svgs": _svgs,
        "headline": headline,
        "decisive": decisive,
        "badge": _BADGES.__getitem__,
        "story_page": STORY,
        "evidence_page": EVIDENCE,
        "long_table": LONG_TABLE,
        "long_text": LONG_TEXT,
    }
    if report.of_literature:
        made.globals |= {
            "amount": partial(cell, ""),
            "citation": citation,
            "witnesses_of": lambda part: shown(witnesses_of(part)),
        }
        page = made.get_template("literature.html.j2").render(
            report=report, witnesses=shown(witness_table(report))
        )
        return {STORY: page + "\n"}
    story = made.get_template("story.html.j2").render(report=report)
    evidence = made.get_template("evidence.html.j2").render(
        report=report, methods=METHODS.items(), limits=LIMITS, environment=shown(report.environment)
    )
    return {STORY: story + "\n", EVIDENCE: evidence + "\n"}


def _svgs(figure: Numbered) -> Markup:
    """Return the figure for a wide page and for a phone; a page shows one of them."""
    label = f"{figure.anchor}-alt"
    wide = inline_svg(figure.picture.svg, figure.anchor, label)
    narrow = inline_svg(figure.picture.narrow_svg, f"{figure.anchor}-n", label)
    return Markup(f'<div class="wide">{wide}</div>\n<div class="narrow">{narrow}</div>')


def _template(name: str) -> str:
    """Return the text of a file in ``templates/``."""
    return (resources.files("harness.reporting") / "templates" / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    """Return the environment of every page."""
    made = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["style"] = Markup(_style())
    made.filters["keep"] = _keep_units
    return made


def _style() -> str:
    """Return the style sheet with the figures' colours in light and in the dark."""
    text = _template("report.css")
    text = text.replace("/* light figures */", colour_properties(dark=False))
    return text.replace("/* dark figures */", colour_properties(dark=True))


def _keep_units(text: str) -> str:
    """Return ``text`` with its per cent signs tied to their numbers."""
    return text.replace(" %", "\u00a0%")
