"""The tables over all claims of the literature: numbers derived twice, next to real GPUs."""

import pandas as pd

from harness.reporting.document import Chapter, Report, decisive
from harness.schema.findings import Claim, Table
from harness.version import __version__


def citation(part: Chapter, claim: Claim) -> str:
    """Return the line by which a verdict is cited, with the claim's stable name."""
    name = f"mlp-memory-harness {__version__}, literature/{part.name}"
    return f"{name}: {claim.verdict} ({decisive(claim)})"


def checks_table(report: Report) -> Table:
    """Return each number that decides next to its second derivation."""
    rows = [
        (
            part.title,
            one.name,
            *map(float, (one.value, one.second, one.difference, one.allowed)),
            one.second_from,
        )
        for part in report.chapters
        for one in (part.section.judgement.checks if part.section.judgement else ())
    ]
    columns = ["claim", "number", "value", "second", "difference", "allowed", "second_from"]
    frame = pd.DataFrame(rows, columns=columns)
    return Table(name="checks", caption="Each number that decides, derived twice", frame=frame)


def witness_table(report: Report) -> Table:
    """Return every published measurement of a real GPU next to the harness's number."""
    frame = pd.DataFrame([row for part in report.chapters for row in _rows(part)], columns=_COLUMNS)
    return Table(name="witnesses", caption="Published runs of real GPUs next to ours", frame=frame)


def witnesses_of(part: Chapter) -> Table:
    """Return the published measurements next to those of one claim."""
    frame = pd.DataFrame(_rows(part), columns=_COLUMNS)
    where = "; ".join(frame["source"].unique())
    return Table(
        name="witnesses",
        caption=f"Real GPUs next to ours: {where}",
        frame=frame.drop(columns=["claim", "source"]),
    )


_COLUMNS = ["claim", "run", "published_bytes", "ours_bytes", "bytes_apart", "why", "source"]


def _rows(part: Chapter) -> list[tuple[str | int, ...]]:
    return [
        (
            part.title,
            one.name,
            one.published_bytes,
            one.ours_bytes,
            f"{one.difference_bytes:+,}" if one.difference_bytes else "0",
            one.why,
            one.source,
        )
        for one in (part.section.judgement.witnesses if part.section.judgement else ())
    ]
