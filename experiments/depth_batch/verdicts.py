"""Judges the claims about growth, and writes the experiment's answer.

In an answer, the words before the first colon are the conclusion, and the rest is the evidence.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError, rss_agreement
from harness.analysis.claim_data import text
from harness.analysis.claim_judge import judged, told
from harness.analysis.claim_numbers import columns
from harness.analysis.decisions import Decided
from harness.analysis.frame import AT_PEAK, ok_cells
from harness.schema.findings import Claim, Verdict

from .proportionality import BATCHES, DEPTHS, Growth, growth_of, spans, squares

QUANTITIES = {
    "saved activations": "saved_activation_bytes",
    "saved for backward": "saved_bytes",
    "peak live": "peak_live_bytes",
    "RSS rise": "rss_rise_bytes",
    "CUDA allocated peak": "cuda.allocated_peak_bytes",
    "CUDA reserved peak": "cuda.reserved_peak_bytes",
}
"""Columns that the claims are about, by their labels in the report."""
ALL_SQUARES = (len(DEPTHS) - 1) * (len(BATCHES) - 1)
PARTS = {
    "parameter": "parameters",
    "gradient": "gradients",
    "optimizer_state": "optimizer state",
    "input": "the batch",
    "activation": "activations",
    "temporary": "temporaries",
}
"""Names of the categories of live bytes, as the texts write them."""


def growths(training: pd.DataFrame) -> dict[str, Growth | str]:
    """For each measured quantity, return the growth, or the reason why no growth can be tested."""
    result: dict[str, Growth | str] = {}
    for label, column in QUANTITIES.items():
        kept = rss_agreement.resolved(training) if column == "rss_rise_bytes" else training
        if column not in training or training[column].isna().all():
            continue  # this machine does not measure it
        try:
            result[label] = growth_of(kept, column)
        except AnalysisError as error:
            result[label] = str(error)
    return result


def proportionality(label: str, found: Growth | str, controls: Mapping[str, pd.DataFrame]) -> Claim:
    """Judge the claim that a quantity is proportional to depth x batch."""
    column = QUANTITIES[label]
    name = column.replace(".", "_")
    if isinstance(found, str):
        none = pd.DataFrame({"by_depth": [], "by_batch": []}, dtype="float64")
        facts: dict[str, Any] = {"held": 0, "total": ALL_SQUARES, "seen": 0.0}
        facts |= {"powers": "no power law", "forms": f"{found}.", "predicted": ""}
        facts |= {"drift": text(__file__, "no_square"), **columns(none)}
        return told(__file__, name, Decided(verdict=Verdict.OPEN), **facts)
    own = squares(found.spans).assign(panel="claim")
    tables = [own]
    for panel, frame in controls.items():
        known = ok_cells(frame, column)
        tables.append(squares(spans(known, column)).assign(panel=panel))
    rates = own.loc[own["doubles"] == 1, "rate"]
    drift = text(__file__, "no_square")
    if not rates.empty:
        drift = text(__file__, "drift", share=rates.max())
    predicted = (
        f" {len(found.values)} of {len(found.spans)} cells were measured. The allocator model "
        "predicts the other cells, and it is exact in every measured cell."
    )
    reach = [high / low - 1 for low, high in found.spans.values() if low > 0]
    return judged(
        __file__,
        name,
        pd.concat(tables, ignore_index=True),
        missing=ALL_SQUARES - len(own),
        derived=None if found.noisy else found.derived,
        forms=form_words(found),
        predicted=predicted if len(found.spans) > len(found.values) else "",
        drift=drift,
        powers=found.powers if found.noisy else "",
        seen=float(np.median(reach)) / 2 if reach else 0.0,
    )


def resident(frame: pd.DataFrame) -> Claim | None:
    """Judge the claim that RSS rises by the bytes of the tensors."""
    table = rss_agreement.next_to_trace(frame[frame["malloc"] == "pinned"])
    if table.empty:
        return None
    spread = (table["spread_over_repeats_bytes"] / table["trace_rise_bytes"]).astype("float64")
    off = table["difference_percent"].abs() / 100
    cells = table.assign(
        off=off,
        off_by_peak=(table["peak_bytes"] / table["rss_rise_bytes"] - 1).abs().astype("float64"),
        spread=spread,
        mode="train",
    )
    return judged(__file__, "resident", cells, missing=int((frame["outcome"] != "ok").sum()))


def form_words(result: Growth) -> str:
    """Return a sentence with a quantity's exact formula and the number of steps that it fits."""
    cells = len(result.values)
    pieces = result.pieces
    if result.exact is not None:
        return f"The form {result.exact} gives the exact bytes in {cells} of {cells} cells."
    if pieces is not None and len(pieces.forms) > 1 and pieces.rows > 0.5 * cells:
        forms = ", and ".join(str(form) for form in pieces.forms)
        kind = "larger" if len(pieces.forms) == 2 else "largest"
        count = {2: "two", 3: "three", 4: "four"}[len(pieces.forms)]
        return (
            f"In {pieces.rows} of {cells} cells the bytes are the {kind} of {count} sums: {forms}."
        )
    return "No single formula of depth, batch and depth·batch gives the bytes of every cell."


_ANSWERS = {
    Verdict.SUPPORTED: "Yes",
    Verdict.LIMITED: "In part",
    Verdict.REFUTED: "No",
    Verdict.OPEN: "Open",
}


_NAMED = {
    "saved activations": "the intermediate values that are kept",
    "peak live": "the peak of a step",
}


def summary(claims: Mapping[str, Claim], training: pd.DataFrame) -> tuple[str, ...]:
    """Return the experiment's answer, from the verdicts on kept bytes and on the peak."""
    answers = []
    for label, what in _NAMED.items():
        if label in claims:
            claim = claims[label]
            number = text(__file__, "doubles", number=claim.number)
            said = "; ".join(filter(None, (number, claim.open_reason)))
            answers.append(f"{_ANSWERS[claim.verdict]} for {what}: {said}.")
    known = ok_cells(training, *AT_PEAK)
    if len(known) and "peak live" in claims:
        answers[-1] += _alive(known)
    return tuple(answers)


def lesson(claims: Mapping[str, Claim]) -> str:
    """Return the sentence that says up to which sizes the rule of thumb is right."""
    if not claims.keys() >= _NAMED.keys():
        return ""
    kept, peak = (_sizes(claims[label]) for label in _NAMED)
    return text(__file__, "lesson", kept=kept, peak=peak)


def _sizes(claim: Claim) -> str:
    if claim.holds_for:
        only = "only " * (claim.verdict is Verdict.REFUTED)
        return f"{only}{'in' if claim.holds_for[0].isdigit() else 'for'} {claim.holds_for}"
    names = {Verdict.SUPPORTED: "everywhere", Verdict.REFUTED: "nowhere"}
    return text(__file__, names.get(claim.verdict, "undecided"))


def coverage(found: Growth | str | None) -> str:
    """Return the sentence on the cells of the grid that were measured, and on the others."""
    if not isinstance(found, Growth):
        return ""
    total, measured = max(len(found.spans), len(found.values)), len(found.values)
    name = "coverage" if total > measured else "whole"
    return text(__file__, name, measured=measured, total=total, computed=total - measured)


def _alive(known: pd.DataFrame) -> str:
    """Return text with the number of steps in which activations are the peak's largest part."""
    largest = (
        known[AT_PEAK].astype("int64").idxmax(axis=1).map(lambda name: str(name).split(".")[1])
    )
    led = int((largest == "activation").sum())
    others = largest[largest != "activation"].value_counts()
    text = f" Activations are the peak's largest part in {led} of {len(known)} cells"
    if others.empty:
        return f"{text}."
    name = str(others.index[0])
    on_gpu = name == "temporary" and bool((known["device"] == "cuda").all())
    what = " (above all cuBLAS's workspaces)" if on_gpu else ""
    return f"{text}, and {PARTS[name]}{what} in {others.iloc[0]}."
