"""Templates become pages: every text is escaped, styles and scripts are inside."""

from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from harness.reporting.figures import colour_properties


def template(name: str) -> str:
    """Return the text of a file in ``templates/``."""
    return (resources.files("harness.reporting") / "templates" / name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Return the environment of every page."""
    made = Environment(
        loader=FunctionLoader(template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["style"] = Markup(_style())
    made.filters["keep"] = keep_units
    return made


def _style() -> str:
    """Return the style sheet with the figures' colours in light and in the dark."""
    text = template("report.css")
    text = text.replace("/* light figures */", colour_properties(dark=False))
    return text.replace("/* dark figures */", colour_properties(dark=True))


def keep_units(text: str) -> str:
    """Return ``text`` with its per cent signs tied to their numbers."""
    return text.replace(" %", "\u00a0%")
