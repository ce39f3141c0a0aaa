"""Verdicts on the growth of a quantity, in sentences that carry their numbers."""

import numpy as np
import pandas as pd

from harness.analysis.decisions import Decision, interval, is_above, is_within
from harness.analysis.frame import ok_cells
from harness.analysis.proportionality import CLOSELY, ROUGHLY, Growth
from harness.analysis.scaling import Scaling, doubling_from
from harness.schema.findings import Claim, Verdict


def rule(result: Growth) -> Verdict:
    """Judge "proportional to depth and to batch".

    Supported where every doubling gives 2 within ROUGHLY; with a limit where, in both
    variables, every doubling from some size on does, on the grid or by an exact formula with
    a depth·batch term; refuted where one never gets there.
    """
    if result.sample.noisy:
        return _decide_noisy(result).verdict
    steps = (result.by_depth, result.by_batch)
    if all(bool(axis.within(ROUGHLY).all()) for axis in steps):
        return Verdict.SUPPORTED
    if all(axis.proportional_from(ROUGHLY) is not None for axis in steps):
        return Verdict.LIMITED
    if all(by_formula(result, name, ROUGHLY) is not None for name in ("depth", "batch")):
        return Verdict.LIMITED
    return Verdict.REFUTED


def _decide_noisy(result: Growth) -> Decision:
    """Decide by 99% intervals, so that noise leaves a claim open instead of flipping it.

    Supported where both exponents are 1 within ROUGHLY, with a limit where one is not and the
    fitted depth·batch term is positive, refuted where there is no such term.
    """
    cells = len(result.sample.values)
    product = result.product.coefficient("depth·batch")
    if product.error is None:
        return Decision(verdict=Verdict.OPEN)
    low, high = interval(product.estimate, product.error, result.product.left_over)
    positive = is_above(0.0, low=low, high=high, repeats=cells)
    if positive.verdict is not Verdict.SUPPORTED:
        return positive
    decisions = []
    for one in result.exponents.values():
        low, high = interval(one.estimate, one.error, one.cells - len(result.exponents) - 1)
        near = is_within(1 - ROUGHLY, 1 + ROUGHLY, low=low, high=high, repeats=cells)
        decisions.append(near)
    if any(one.verdict is Verdict.REFUTED for one in decisions):
        return Decision(verdict=Verdict.LIMITED)
    unsure = [one for one in decisions if one.verdict is Verdict.OPEN]
    return max(unsure, key=lambda one: one.repeats or 0) if unsure else decisions[0]


def by_formula(result: Growth, name: str, tolerance: float) -> int | None:
    """Return from where the exact formula doubles with depth or batch within ``tolerance``.

    The other variable is held at its largest. None without an exact formula, or where that
    has no depth·batch term.
    """
    if result.exact is None or result.exact.coefficients["depth·batch"] <= 0:
        return None
    parts = result.exact.coefficients
    cells = result.sample
    across, held = ("batch", cells.batch) if name == "depth" else ("depth", cells.depth)
    most = int(held.max())
    fixed = float(parts["constant"] + parts[across] * most)
    growing = float(parts[name] + parts["depth·batch"] * most)
    return doubling_from(fixed, growing, tolerance)


def proportionality(result: Growth, sentence: str) -> Claim:
    """Return the verdict on ``sentence``, that a quantity is proportional to depth and batch."""
    parts = [form_words(result), *(axis_words(result, name) for name in ("depth", "batch"))]
    decision = _decide_noisy(result) if result.sample.noisy else Decision(verdict=rule(result))
    return Claim(
        sentence=sentence,
        verdict=decision.verdict,
        measured=" ".join(parts) + decision.words("cells"),
        number=_number(result),
        open_reason=decision.reason("cells"),
    )


def _number(result: Growth) -> str:
    """Return the exact formula, the power law of a noisy quantity, or the effect of doublings."""
    if result.exact is not None:
        return f"{result.exact} bytes"
    if result.sample.noisy:
        powers = (
            f"{name}^{one.estimate:.2f}±{one.high - one.estimate:.2f}"
            for name, one in result.exponents.items()
        )
        return "grows as " + " · ".join(powers)
    starts = {}
    for axis in (result.by_depth, result.by_batch):
        starts[axis.variable] = axis.proportional_from(ROUGHLY)
        if starts[axis.variable] is None:
            span = f"{axis.smallest:.3g} to {axis.largest:.3g}"
            return f"doubling the {axis.variable} gives {span} times"
    return "proportional from depth {depth:,}, batch {batch:,}".format(**starts)


def form_words(result: Growth) -> str:
    """Say which formula the quantity follows, and how well."""
    cells = len(result.sample.values)
    pieces = result.pieces
    if result.exact is not None:
        return f"Equal to {result.exact} bytes in {cells} of {cells} cells."
    if pieces is not None and len(pieces.forms) > 1 and pieces.rows > 0.5 * cells:
        forms = ", and ".join(str(form) for form in pieces.forms)
        kind = "larger" if len(pieces.forms) == 2 else "largest"
        count = {2: "two", 3: "three", 4: "four"}[len(pieces.forms)]
        return f"In {pieces.rows} of {cells} cells it is the {kind} of {count} sums: {forms}."
    return fit_words(result)


def fit_words(result: Growth) -> str:
    """Say how well constant, depth, batch and depth·batch together describe the quantity."""
    r2, errors = result.product.r2, result.product.left_out_errors
    if r2 is None:
        return "It is the same in every cell."
    near = "> 0.99999" if r2 > 0.99999 else f"= {r2:.5f}"
    words = f"A constant, depth, batch and depth·batch fit it with R² {near}"
    if errors is not None and errors.size:
        middle, worst = (100 * float(part) for part in (np.median(abs(errors)), abs(errors).max()))
        words += f"; a cell left out is predicted to {middle:.2g}% (median), {worst:.2g}% (worst)"
    return words + "."


def axis_words(result: Growth, name: str) -> str:
    """Say what a doubling of depth or batch does, and from where it is proportional."""
    axis = result.by_depth if name == "depth" else result.by_batch
    low, high = axis.smallest, axis.largest
    span = f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} to {high:.4g}"
    head = f"Doubling the {name} multiplies it by {span}"
    return f"{head}: {_settles(axis)}{_beyond(result, axis)}."


def _settles(axis: Scaling) -> str:
    """Say from where the factor of a doubling stays near 2."""
    first = int(axis.steps["start"].min())
    roughly, closely = (axis.proportional_from(tolerance) for tolerance in (ROUGHLY, CLOSELY))
    if closely == first:
        return "always within 1% of 2"
    near = f"within 1% from {axis.variable} {closely} on" if closely else "not yet within 1%"
    if roughly == first:
        return f"always within 10% of 2, {near}"
    if roughly is not None:
        return f"within 10% of 2 from {axis.variable} {roughly} on, {near}"
    return "it does not settle within 10% of 2 on this grid"


def _beyond(result: Growth, axis: Scaling) -> str:
    """Say where the exact formula settles beyond the grid."""
    words = [
        f"within {tolerance:.0%} from {axis.variable} {start}"
        for tolerance in (ROUGHLY, CLOSELY)
        if axis.proportional_from(tolerance) is None
        and (start := by_formula(result, axis.variable, tolerance)) is not None
    ]
    return f" (by the formula {' and '.join(words)})" if words else ""


def growing_steps(frame: pd.DataFrame, quantity: str, variable: str, line: str) -> tuple[int, int]:
    """Return in how many of how many neighbouring pairs along ``variable`` the quantity grows."""
    ordered = ok_cells(frame, quantity).sort_values([line, variable])
    steps = ordered.groupby(line)[quantity].diff().dropna()
    return int((steps > 0).sum()), len(steps)
