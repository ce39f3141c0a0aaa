"""The copies that autocast holds in the traced forward pass."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.claim_data import text
from harness.analysis.frame import read_events
from harness.schema.experiment import Evidence
from harness.schema.units import format_bytes

from . import ratios as precision_effect


def held_copies(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """Return the copies of each traced cell, by its name."""
    result = {}
    for name, path in event_files(evidence).items():
        try:
            result[name] = precision_effect.copies_in_forward(read_events(path))
        except AnalysisError:
            continue  # the timeline says what is wrong with the file
    return result


def event_files(evidence: Evidence) -> dict[str, Path]:
    """Return the events file of each traced autocast cell, by its name."""
    frame = evidence.frame
    known = frame[(frame["outcome"] == "ok") & frame["autocast"].notna()]
    return {
        f"depth {depth}, batch {batch}": path
        for name, depth, batch in zip(
            known["workload_id"], known["depth"], known["batch"], strict=True
        )
        if (path := evidence.folder / "events" / f"{name}.csv").is_file()
    }


def copies_text(copies: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Say how many copies are held, and what for."""
    for name, frame in copies.items():
        totals = frame.groupby("category")["size_bytes"].sum()
        words = " and ".join(f"{format_bytes(int(size))} as {key}" for key, size in totals.items())
        size = format_bytes(int(totals.sum()))
        yield text(__file__, "copies", name=name, count=len(frame), size=size, words=words)
