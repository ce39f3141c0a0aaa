"""The RSS rise next to what the trace says a step adds."""

import pandas as pd

from harness.analysis import rss_agreement
from harness.analysis.frame import ok_cells
from harness.schema.findings import Table
from harness.schema.units import format_bytes


def resident_text(training: pd.DataFrame) -> list[str]:
    """Say which cells the RSS rise is tested on, and how well it agrees with the trace."""
    table = rss_agreement.next_to_trace(training)
    measured = ok_cells(training, "rss_rise_bytes")
    text = []
    if len(measured):
        text.append(
            "The RSS rise is tested on the "
            f"{len(rss_agreement.resolved(training))} of {len(measured)} cells whose step adds at "
            f"least {format_bytes(rss_agreement.RESOLVED_BYTES)} by the trace. Kernel and "
            "allocator add memory in portions that hide smaller rises. The rise is measured from "
            "the moment when the gradients of the previous step are freed."
        )
    return text if table.empty else [*text, rss_agreement.in_words(table)]


def resident_tables(training: pd.DataFrame) -> list[Table]:
    """Return each cell's rise next to the trace's, those that miss first, if any."""
    result = rss_agreement.next_to_trace(training)
    misses = Table(
        name="resident-misses",
        caption="Cells whose RSS rise differs from the trace by more than 2%",
        frame=rss_agreement.misses(result),
    )
    every = Table(
        name="resident",
        caption="RSS rise and rise of the trace in steps that add more than 16 MB",
        frame=result,
    )
    return [table for table in (misses, every) if not table.frame.empty]
