"""Renders the report as self-contained pages and as Markdown.

The Markdown file links to the PNG files in ``figures/``.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import resources

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from harness.reporting.document import (
    Chapter,
    Document,
    Numbered,
    decisive,
    headline,
    second_words,
)
from harness.reporting.figures import DrawnFigure, colour_properties, inline_pair
from harness.reporting.rules import SharedRule, commits_of, rules_of
from harness.reporting.tables import cell, escape_markdown, shown, to_markdown
from harness.schema.findings import Claim, Table
from harness.version import __version__

SUMMARY, EVIDENCE, MARKDOWN = "report.html", "evidence.html", "report.md"
"""File names of the two HTML pages and of the Markdown page."""

MOST_LETTERS = 200  # of a sentence that stands next to a verdict; a longer one unfolds
_SETTINGS = {
    "summary_page": SUMMARY,
    "evidence_page": EVIDENCE,
    "long_text": 28,  # letters from which on the text of a table's cell may be broken into lines
}


def render(report: Document) -> dict[str, str]:
    """Return the content of each page by its file name; text from records is escaped."""
    made = _environment()
    templates = {SUMMARY: "summary.html.j2", EVIDENCE: "evidence.html.j2"}
    rules = rules_of(claim for _, claim in report.claims)
    given: dict[str, object] = {"report": report, "rules": rules, "commits": commits_of(rules)}
    given["rule_of"] = partial(_rule_of, rules)
    given["limits"] = [text for part in report.chapters for text in part.section.limits]
    if report.of_literature:
        templates = {SUMMARY: "literature.html.j2"}
        given["witnesses"] = shown(witness_table(report))
    return {
        name: made.get_template(template).render(given).rstrip() + "\n"
        for name, template in {**templates, MARKDOWN: "report.md.j2"}.items()
    }


def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_template),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _template("report.css")
    for scheme, dark in (("light", False), ("dark", True)):
        style = style.replace(f"/* {scheme} figures */", colour_properties(dark=dark))
    made.globals |= _SETTINGS | {
        "style": Markup(style),
        "svgs": _svgs,
        "headline": headline,
        "decisive": decisive,
        "second": second_words,
        "opening": _opening,
        "more": _more,
        "day": lambda change: f"{change.date:%-d %b %Y}",
        "amount": partial(cell, ""),
        "citation": citation,
        "witnesses_of": lambda part: shown(witnesses_of(part)),
    }
    filters: dict[str, Callable[..., object]] = {
        "keep": lambda text: text.replace(" %", "\u00a0%"),  # no line breaks before a per cent sign
        "shown": shown,
        "commit": lambda change: f"{change.date} ({change.commit})",
        "plain": escape_markdown,
        "pipes": to_markdown,
    }
    made.filters |= filters
    return made


def _rule_of(rules: Iterable[SharedRule], claim: Claim) -> SharedRule:
    return next(one for one in rules if any(each is claim for each in one.claims))


def _opening(claim: Claim) -> tuple[str, str]:
    """Return the first sentence of the measurement, or nothing if it is long, and the rest."""
    first, _, rest = claim.measured.partition(". ")
    return (f"{first.rstrip('.')}.", rest) if len(first) <= MOST_LETTERS else ("", claim.measured)


def _more(pictures: Sequence[DrawnFigure], part: Chapter) -> str:
    """Return the number of figures and tables and of paragraphs, in words."""
    counts = {"figure": pictures, "table": part.section.tables, "paragraph": part.section.text}
    return ", ".join(
        f"{len(many)} {name}{'s' * (len(many) > 1)}" for name, many in counts.items() if many
    )


def _template(name: str) -> str:
    """Return the text of a file in ``templates/``."""
    return (resources.files("harness.reporting") / "templates" / name).read_text(encoding="utf-8")


def _svgs(figure: Numbered) -> Markup:
    """Return HTML with the wide and the narrow SVG of a figure."""
    return Markup(inline_pair(figure.picture, figure.anchor, f"{figure.anchor}-alt"))


def citation(part: Chapter, claim: Claim) -> str:
    """Return a text that cites a verdict, with the version of the harness and the claim's name."""
    name = f"mlp-memory-harness {__version__}, literature/{part.name}"
    return f"{name}: {claim.words} ({decisive(claim)})"


def checks_table(report: Document) -> Table:
    """Return a table of the numbers that decide claims, each with a value from a second source."""
    rows = [
        (
            part.title,
            one.name,
            *map(float, (one.value, one.second, one.difference, one.allowed)),
            one.second_from,
            one.holds,
        )
        for part in report.chapters
        for one in (part.section.judgement.checks if part.section.judgement else ())
    ]
    columns = ["claim", "number", "value", "second", "difference", "allowed"]
    columns += ["second_from", "holds"]
    frame = pd.DataFrame(rows, columns=columns)
    return Table(name="checks", caption="Second source of each number that decides", frame=frame)


def witness_table(report: Document) -> Table:
    """Return a table that compares published measurements of real GPUs with our results."""
    caption = "Published runs of real GPUs next to ours"
    return Table(name="witnesses", caption=caption, frame=_witnesses(report.chapters))


def witnesses_of(part: Chapter) -> Table:
    """Return a table of the published measurements that belong to one claim."""
    frame = _witnesses([part])
    caption = f"Real GPUs next to ours: {'; '.join(frame['source'].unique())}"
    return Table(name="witnesses", caption=caption, frame=frame.drop(columns=["claim", "source"]))


def _witnesses(chapters: Iterable[Chapter]) -> pd.DataFrame:
    rows = [
        (
            part.title,
            one.name,
            one.published_bytes,
            one.ours_bytes,
            f"{one.difference_bytes:+,}" if one.difference_bytes else "0",
            one.why,
            one.source,
        )
        for part in chapters
        for one in (part.section.judgement.witnesses if part.section.judgement else ())
    ]
    columns = ["claim", "run", "published_bytes", "ours_bytes", "bytes_apart", "why", "source"]
    return pd.DataFrame(rows, columns=columns)
