"""The report as Markdown, with links to the PNGs next to it."""

from harness.reporting.document import Chapter, Report, decisive, headline
from harness.reporting.literature_tables import checks_table, citation, witness_table
from harness.reporting.methods import LIMITS, METHODS
from harness.reporting.tables import Shown, escape_markdown, shown, to_markdown
from harness.schema.findings import Claim, Source

_LONG_TABLE = 12


def render(report: Report) -> str:
    """Return ``report`` as Markdown; text from records stays text."""
    parts = [f"# {escape_markdown(report.title)}"]
    parts += [escape_markdown(report.device_note)] * bool(report.device_note)
    parts += [
        f"**{escape_markdown(lead)}** {escape_markdown(rest)}" for lead, rest in report.answer
    ]
    parts += ["## Claims", *_claims(report)]
    for part in report.chapters:
        parts += _chapter(part)
    if report.of_literature:
        tables = (shown(table(report)) for table in (witness_table, checks_table))
        parts += [text for one in tables for text in (f"## {one.caption}", to_markdown(one))]
        return "\n\n".join(parts) + "\n"
    parts.append("## Methods")
    parts += [
        f"**{escape_markdown(name)}.** {escape_markdown(text)}" for name, text in METHODS.items()
    ]
    parts.append("## Environment")
    parts += [f"> {escape_markdown(note)}" for note in report.notes]
    parts.append(to_markdown(shown(report.environment)))
    parts += ["## Limits", "\n".join(f"- {escape_markdown(text)}" for text in LIMITS)]
    return "\n\n".join(parts) + "\n"


def _claims(report: Report) -> list[str]:
    if not report.claims:
        return ["No experiment in this folder has the records that a verdict needs."]
    rows = [
        (topic, headline(claim), str(claim.verdict), decisive(claim))
        for topic, claims in report.topics.items()
        for _, claim in claims
    ]
    headings = ("topic", "claim", "verdict", "the number that decides")
    numeric = (False,) * len(headings)
    table = Shown(name="verdicts", caption="", headings=headings, numeric=numeric, rows=tuple(rows))
    return [to_markdown(table)]


def _chapter(part: Chapter) -> list[str]:
    lines = [f"## {escape_markdown(part.title)}"]
    if part.question and not part.source:
        lines.append(f"*{escape_markdown(part.question)}*")
    if part.problem:
        lines.append(f"> {escape_markdown(part.problem)}")
    if part.source:
        lines += _source(part.source)
    lines += [_claim_line(claim) for claim in part.claims]
    if part.judgement:
        rule, end = part.judgement.closed_form, part.judgement.limits
        lines.append(f"**Rule.** {escape_markdown(rule)}")
        lines.append(f"**Where it ends.** {escape_markdown(end)}")
        lines += [f"To cite: {escape_markdown(citation(part, claim))}" for claim in part.claims]
    lines += [escape_markdown(paragraph) for paragraph in part.text]
    for drawn in part.pictures:
        caption = escape_markdown(drawn.caption)
        stem = f"figures/{part.name}-{drawn.name}"
        lines += [f"![]({stem}.png)", f"{caption} ([data]({stem}.csv))"]
    for table in part.shown_tables:
        link = f"[data](tables/{part.name}-{table.name}.csv)"
        lines.append(f"**{escape_markdown(table.caption)}** ({link})")
        if len(table.rows) <= _LONG_TABLE:
            lines.append(to_markdown(table))
    return lines


def _source(source: Source) -> list[str]:
    read_in = f" (read in: {source.secondary})" if source.secondary else ""
    return [f"> {escape_markdown(source.quote)}", escape_markdown(source.citation + read_in)]


def _claim_line(claim: Claim) -> str:
    head = f"**{escape_markdown(claim.sentence)}** — {claim.verdict}."
    return f"{head} {escape_markdown(claim.measured)}"
