"""A comparison of two runs as text for a terminal or a CI log."""

from harness.analysis.compare import Comparison
from harness.reporting.tables import Shown, shown
from harness.schema.findings import Table

MOST = 20
"""Rows of a list that are printed; the rest are counted."""

# Differences of a few bytes vanish in a unit, so these are printed digit by digit.
_EXACT_NAMES = {
    name: f"{name.removesuffix('_bytes')} (bytes)"
    for name in ("a_bytes", "b_bytes", "difference_bytes")
}


def render(comparison: Comparison) -> str:
    """Return the answer, then the differences and the noisy metrics."""
    parts = [str(comparison)]
    lists = (
        ("Ended differently", comparison.outcomes),
        ("Exact metrics that differ", comparison.different),
        ("Noisy metrics, second run divided by first", comparison.noisy),
    )
    for title, frame in lists:
        if len(frame):
            head = frame.head(MOST).rename(columns=_EXACT_NAMES)
            table = Table(name="comparison", caption=title, frame=head)
            parts += ["", _aligned(shown(table))]
            if len(frame) > MOST:
                parts.append(f"... and {len(frame) - MOST} more")
    return "\n".join(parts)


def _aligned(table: Shown) -> str:
    """Return a table in columns, numbers to the right."""
    rows = [table.headings, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(row, widths, table.numeric, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([f"{table.caption}:", *lines])
