"""Writes the report's texts about formulas, deviations from the claim, and RSS."""

from collections.abc import Iterator

import pandas as pd

from harness.analysis import predictions, rss_agreement
from harness.analysis.claim_data import text
from harness.analysis.exact import exact_form
from harness.analysis.frame import AT_PEAK, PROCESS_PARTS, ok_cells
from harness.schema.findings import Table
from harness.schema.units import format_bytes

from .proportionality import PRODUCT, Growth, term_columns
from .verdicts import PARTS

_PEAK = "rss_peak_bytes"


def formula_text(training: pd.DataFrame) -> Iterator[str]:
    """Yield text that states for how many steps the saved bytes equal the closed form."""
    known = ok_cells(training, "saved_bytes")
    if len(known):
        row_bytes = 4 * known["in_features"] + 8 + 4 * known["depth"] * known["width"]
        expected = known["batch"] * (row_bytes + 4 * known["classes"]) + 4
        equal = int((expected == known["saved_bytes"]).sum())
        yield text(__file__, "formula", equal=equal, total=len(known))


def others_text(others: pd.DataFrame) -> Iterator[str]:
    """Yield the text about predictions at other widths and numbers of threads."""
    metrics = {"saved_bytes": "the saved bytes", "peak_live_bytes": "the peak"}
    if len(others):
        known = predictions.with_predictions(others, list(metrics))
        given = {
            name: ", ".join(f"{value:,}" for value in sorted(known[column].unique()))
            for name, column in (("widths", "width"), ("threads", "threads"))
        }
        yield text(__file__, "others", **given, words=predictions.in_words(known, metrics))


def why_text(training: pd.DataFrame, peak: Growth | None) -> Iterator[str]:
    """Yield texts about the parts of memory that are not proportional to depth x batch."""
    known = ok_cells(training, *AT_PEAK).sort_values(["depth", "batch"])
    if known.empty or peak is None:
        return
    depth, batch = (known[name].to_numpy(dtype="int64") for name in ("depth", "batch"))
    columns = {term: term_columns(depth, batch)[term] for term in PRODUCT[:2]}
    parameters = exact_form(columns, known["categories_at_peak.parameter"].to_numpy())
    largest = known[AT_PEAK].astype("int64").idxmax(axis=1)
    led = known[largest == "categories_at_peak.activation"]
    first = f", all with a batch of at least {led['batch'].min()}" if len(led) else ""
    facts = {"parameters": parameters or "no formula of", "led": len(led), "first": first}
    yield text(__file__, "why", total=len(known), **facts)
    if peak.whole and peak.pieces and len(peak.pieces.forms) > 1 and len(known) == len(peak.values):
        parts = [
            _moment(known[peak.moments() == n], form) for n, form in enumerate(peak.pieces.forms)
        ]
        yield text(__file__, "moments", count=len(parts), parts="".join(parts))


def _moment(cells: pd.DataFrame, form: object) -> str:
    """Return a sentence about steps whose peak equals ``form``, with each category's share."""
    own = cells[AT_PEAK].astype("int64").sum()
    shares = (own / own.sum()).sort_values(ascending=False)
    made = ", ".join(
        f"{PARTS[str(name).rpartition('.')[2]]} {share:.0%}"
        for name, share in shares.items()
        if share > 0.01
    )
    return f" In {len(cells)} cells the peak is {form} bytes ({made})."


def process_text(training: pd.DataFrame) -> Iterator[str]:
    """Yield the texts about steps whose RSS rise is tested, and about the process's peak RSS."""
    measured, kept = ok_cells(training, "rss_rise_bytes"), rss_agreement.resolved(training)
    if len(measured):
        least = format_bytes(rss_agreement.RESOLVED_BYTES)
        yield text(__file__, "resolved", kept=len(kept), total=len(measured), least=least)
    known = ok_cells(training, _PEAK, *PROCESS_PARTS)
    if len(known):
        largest = known.iloc[int(known[_PEAK].to_numpy().argmax())]
        rest = known[_PEAK] - known["process.tensors_bytes"]
        heap = known["process.heap_bytes"]
        sizes = {
            "low": known[_PEAK].min(),
            "high": largest[_PEAK],
            "tensors": largest["process.tensors_bytes"],
        }
        words = {name: format_bytes(int(size)) for name, size in sizes.items()}
        yield text(__file__, "process", **words, rest=_ends(rest), heap=_ends(heap))


def _ends(sizes: "pd.Series[int]") -> str:
    return f"{format_bytes(int(sizes.min()))} to {format_bytes(int(sizes.max()))}"


def process_table(training: pd.DataFrame) -> Table | None:
    """Return the table of the parts of each process's peak RSS; None if no RSS was measured."""
    known = ok_cells(training, _PEAK, *PROCESS_PARTS).sort_values(["depth", "batch"])
    if known.empty:
        return None
    return Table(
        name="process-peak",
        caption="Parts of the process's resident bytes at its peak; the heap is the remainder",
        frame=known[["depth", "batch", _PEAK, *PROCESS_PARTS]],
    )


def failures_text(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the text about measurements that failed or are missing."""
    failed = frame.loc[frame["outcome"] != "ok", "outcome"]
    if len(failed):
        counts = failed.value_counts().sort_index()
        words = ", ".join(f"{count} {name}" for name, count in counts.items())
        yield text(__file__, "failed", count=len(failed), total=len(frame), words=words)
