"""Rulings and their words: what a trial says, in sentences that carry their numbers."""

import numpy as np
import pandas as pd

from harness.analysis.exact import ExactMaximum
from harness.analysis.scaling import Scaling, doubling_from
from harness.analysis.trial import CLOSELY, ROUGHLY, Trial
from harness.reporting.section import Ruling, Verdict


def rule(result: Trial) -> Ruling:
    """Rule on "proportional to depth and to batch".

    Supported where every doubling gives 2 within ROUGHLY; with a limit where, in both
    variables, every doubling from some size on does; refuted where one never gets there.
    """
    axes = (result.by_depth, result.by_batch)
    if all(bool(axis.within(ROUGHLY).all()) for axis in axes):
        return Ruling.SUPPORTED
    if all(axis.proportional_from(ROUGHLY) is not None for axis in axes):
        return Ruling.LIMITED
    return Ruling.REFUTED


def proportionality(result: Trial, sentence: str, pieces: ExactMaximum | None = None) -> Verdict:
    """Return the verdict on ``sentence``, that a quantity is proportional to depth and batch."""
    parts = [form_words(result, pieces), *(axis_words(result, name) for name in ("depth", "batch"))]
    depth, batch = (result.exponents[name] for name in ("depth", "batch"))
    return Verdict(
        sentence=sentence,
        ruling=rule(result),
        measured=" ".join(parts),
        number=f"exponent in depth {depth}, in batch {batch}",
    )


def form_words(result: Trial, pieces: ExactMaximum | None = None) -> str:
    """Say which formula the quantity follows, and how well."""
    cells = len(result.sample.values)
    if result.exact is not None:
        return f"Equal to {result.exact} bytes in {cells} of {cells} cells."
    if pieces is not None and pieces.rows > 0.5 * pieces.total:
        forms = "; ".join(str(form) for form in pieces.forms)
        kind = "one formula" if len(pieces.forms) == 1 else f"the largest of {len(pieces.forms)}"
        return f"To the byte {kind} in {pieces.rows} of {pieces.total} cells: {forms}."
    return fit_words(result)


def fit_words(result: Trial) -> str:
    """Say how well constant, depth, batch and depth·batch together describe the quantity."""
    r2 = result.product.r2
    errors = result.product.left_out_errors
    words = "" if r2 is None else f"The product model fits with R² = {r2:.5f}"
    if errors is not None and errors.size:
        middle, worst = (100 * float(part) for part in (np.median(abs(errors)), abs(errors).max()))
        words += f"; a cell left out is predicted to {middle:.2g} % (median), {worst:.2g} % (worst)"
    return words + "."


def axis_words(result: Trial, name: str) -> str:
    """Say what a doubling of depth or batch does, and from where it is proportional."""
    axis = result.by_depth if name == "depth" else result.by_batch
    low, high = axis.smallest, axis.largest
    span = f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.3g} to {high:.3g}"
    head = f"Doubling the {name} multiplies it by {span}"
    roughly, closely = (_from_words(axis, tolerance) for tolerance in (ROUGHLY, CLOSELY))
    return f"{head}; {roughly}, {closely}{_beyond(result, name)}."


def _from_words(axis: Scaling, tolerance: float) -> str:
    start = axis.proportional_from(tolerance)
    label = f"within {tolerance:.0%} of 2".replace("%", " %")
    if start is None:
        return f"nowhere on the grid {label} to the end"
    if start == int(axis.steps["start"].min()):
        return f"{label} everywhere"
    return f"{label} from {axis.variable} {start} on"


def _beyond(result: Trial, name: str) -> str:
    """Say where the exact formula gets proportional beyond the grid, at the other's largest."""
    axis, other = (
        (result.by_depth, result.sample.batch)
        if name == "depth"
        else (result.by_batch, result.sample.depth)
    )
    if result.exact is None or axis.proportional_from(CLOSELY) is not None:
        return ""
    held = int(other.max())
    own, across = ("depth", "batch") if name == "depth" else ("batch", "depth")
    parts = result.exact.coefficients
    fixed = float(parts["constant"] + parts[across] * held)
    growing = float(parts[own] + parts["depth·batch"] * held)
    start = doubling_from(fixed, growing, CLOSELY)
    return "" if start is None else f" (by the formula, from {name} {start} on)"


def monotone(frame: pd.DataFrame, quantity: str, variable: str, line: str) -> tuple[int, int]:
    """Return in how many of how many neighbouring pairs along ``variable`` the quantity grows."""
    known = frame[(frame["outcome"] == "ok") & frame[quantity].notna()]
    steps = known.sort_values([line, variable]).groupby(line)[quantity].diff().dropna()
    return int((steps > 0).sum()), len(steps)
