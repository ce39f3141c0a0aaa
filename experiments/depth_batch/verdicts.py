"""Verdicts on the growth of a quantity, and answers to a question, with the numbers that decide.

The words before the first colon of an answer are the answer itself; the rest is its evidence.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.analysis.decisions import Decision, interval, is_above, is_within
from harness.analysis.frame import AT_PEAK, ok_cells
from harness.prediction.gpu.workspaces import workspace_bytes
from harness.schema.findings import Claim, Verdict
from harness.schema.units import format_bytes

from .proportionality import CLOSELY, ROUGHLY, Growth, Scaling

_GPU = ["environment.gpu_capability", "environment.cublas_workspace_config"]


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

    The other variable is held at its largest: bytes are ``fixed + growing * n``, and one doubling
    of n falls short of 2 by ``fixed / (fixed + growing * n)``. None without an exact formula,
    where it never gets there, or where a negative fixed part makes more than 2 of a doubling.
    """
    if result.exact is None or result.exact.coefficients["depth·batch"] <= 0:
        return None
    parts = result.exact.coefficients
    cells = result.sample
    across, held = ("batch", cells.batch) if name == "depth" else ("depth", cells.depth)
    most = int(held.max())
    fixed = float(parts["constant"] + parts[across] * most)
    growing = float(parts[name] + parts["depth·batch"] * most)
    if fixed < 0 or growing <= 0:
        return None
    exact = fixed * (1 / (2 * tolerance) - 1) / growing
    return max(1, -int(-exact // 1))


def proportionality(result: Growth, sentence: str) -> Claim:
    """Return the verdict on ``sentence``, that a quantity is proportional to depth and batch."""
    parts = [form_words(result), *(axis_words(result, name) for name in ("depth", "batch"))]
    decision = _decide_noisy(result) if result.sample.noisy else Decision(verdict=rule(result))
    return Claim(
        sentence=sentence,
        verdict=decision.verdict,
        measured=" ".join(parts) + decision.remark("cells"),
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


def growth_answer(growths: Mapping[str, Growth], training: pd.DataFrame) -> tuple[str, ...]:
    """Answer whether memory grows like depth times batch: what is kept, and what is alive."""
    answers = []
    kept = growths.get("saved for backward")
    if kept is not None and kept.exact is not None:
        cells = len(kept.sample.values)
        answers.append(
            f"Yes for what is kept for the backward pass: {kept.exact} bytes, exact in {cells} of "
            f"{cells} cells, so proportional to the batch and affine in the depth."
        )
    known = ok_cells(training, *AT_PEAK)
    if len(known):
        answers.append(_alive(known))
    return tuple(answers)


def _alive(known: pd.DataFrame) -> str:
    largest = known[AT_PEAK].astype("int64").idxmax(axis=1)
    led = known[largest == "categories_at_peak.activation"]
    if led.empty:
        none = f"activations are its largest part in none of {len(known)} cells"
        return f"No for the peak of a step: {none}."
    others = largest[largest != "categories_at_peak.activation"].value_counts()
    parts = "parameters, gradients and the batch itself"
    if len(others) and others.index[0] == "categories_at_peak.temporary":
        parts = f"temporaries{_workspaces(known[largest == others.index[0]])}"
    return (
        f"No for the peak of a step below a batch of about {int(led['batch'].min())}: there "
        f"{parts} outweigh activations, which lead in {len(led)} of {len(known)} cells."
    )


def _workspaces(cells: pd.DataFrame) -> str:
    """Return that a workspace of cuBLAS is most of the temporaries of all ``cells``, if it is."""
    gpus = {(str(row[0]), str(row[1])) for row in cells.reindex(columns=_GPU).dropna().to_numpy()}
    if len(gpus) != 1:
        return ""
    ((capability, config),) = gpus
    major, _, minor = capability.partition(".")
    size = workspace_bytes((int(major), int(minor)), config)
    is_most = cells["categories_at_peak.temporary"].between(size, 2 * size - 1).all()
    return f", above all a cuBLAS workspace of {format_bytes(size)}," if is_most else ""
