"""Verdicts on the growth of a quantity, and answers to a question, with the numbers that decide.

The words before the first colon of an answer are the answer itself; the rest is its evidence.
"""

from collections.abc import Mapping

import pandas as pd

from harness.analysis.decisions import Decision, interval, is_roughly
from harness.analysis.fits import Exponent
from harness.analysis.frame import AT_PEAK, ok_cells
from harness.analysis.judge import Part, decided, judge, judge_cells
from harness.analysis.predictions import derived_again
from harness.analysis.stated_claims import stated
from harness.prediction.gpu.workspaces import workspace_bytes
from harness.schema.findings import Claim, Verdict
from harness.schema.units import format_bytes

from .proportionality import BATCHES, DEPTHS, Growth, squares

PARTS = {
    "parameter": "parameters",
    "gradient": "gradients",
    "optimizer_state": "optimizer state",
    "input": "the batch",
    "activation": "activations",
    "temporary": "temporaries",
}
"""Categories of live bytes in words."""
_GPU = ["environment.gpu_capability", "environment.cublas_workspace_config"]


def rule(result: Growth) -> Decision:
    """Judge "roughly proportional to depth and to batch", as the claim's rule says."""
    if result.sample.noisy:
        return judge(
            Part(name=f"the {one.variable}", decision=_is_one(one))
            for one in result.exponents.values()
        )
    cells = squares(result.known)
    missing = (len(DEPTHS) - 1) * (len(BATCHES) - 1) - len(cells)
    return judge_cells(cells, _doubled(cells), ["depth", "batch"], missing=missing, steps=True)


def _doubled(cells: pd.DataFrame) -> list[bool]:
    """Return for each square if all its doublings are roughly 2."""
    return [
        all(is_roughly(low=factor / 2).verdict is Verdict.SUPPORTED for factor in factors)
        for factors in cells["factors"]
    ]


def _is_one(one: Exponent) -> Decision:
    low, high = interval(one.estimate, one.error, one.cells - 3)
    return is_roughly(low=2.0 ** (low - 1), high=2.0 ** (high - 1), repeats=one.cells)


def proportionality(result: Growth) -> Claim:
    """Return the verdict on the claim that a quantity is proportional to depth and batch."""
    words = [form_words(result), *(axis_words(result, name) for name in ("depth", "batch"))]
    if len(result.known) > len(result.sample.values):
        words.append(
            f"{len(result.sample.values)} of {len(result.known)} cells were measured. The others "
            "are predicted by the allocator model, which equals every measured cell."
        )
    name = result.sample.quantity.replace(".", "_")
    return decided(
        rule(result),
        **stated(__file__, name, derived=derived_again(result.equal, result.predicted)),
        measured=" ".join(words),
        number=_number(result),
    )


def _number(result: Growth) -> str:
    """Return the power law of a noisy quantity, or the squares that double, with the formula."""
    if result.sample.noisy:
        powers = (
            f"{name}^{one.estimate:.2f}±{one.high - one.estimate:.2f}"
            for name, one in result.exponents.items()
        )
        return "grows as " + " · ".join(powers)
    doubled = _doubled(squares(result.known))
    count = f"doubles with both in {sum(doubled)} of {len(doubled)} squares"
    return count if result.exact is None else f"{result.exact} bytes; {count}"


def form_words(result: Growth) -> str:
    """Say which formula the quantity follows, and how well."""
    cells = len(result.sample.values)
    pieces = result.pieces
    if result.exact is not None:
        return f"It equals {result.exact} bytes in {cells} of {cells} cells."
    if pieces is not None and len(pieces.forms) > 1 and pieces.rows > 0.5 * cells:
        forms = ", and ".join(str(form) for form in pieces.forms)
        kind = "larger" if len(pieces.forms) == 2 else "largest"
        count = {2: "two", 3: "three", 4: "four"}[len(pieces.forms)]
        return f"In {pieces.rows} of {cells} cells it is the {kind} of {count} sums: {forms}."
    return "No one formula of depth, batch and depth·batch gives every cell."


def axis_words(result: Growth, name: str) -> str:
    """Say what a doubling of depth or batch does."""
    axis = result.by_depth if name == "depth" else result.by_batch
    ends = dict.fromkeys(f"{end:.4g}" for end in (axis.smallest, axis.largest))
    return f"Doubling the {name} multiplies it by {' to '.join(ends)}."


_ANSWERS = {
    Verdict.SUPPORTED: "Yes",
    Verdict.LIMITED: "In part",
    Verdict.REFUTED: "No",
    Verdict.OPEN: "Open",
}


def growth_answer(claims: Mapping[str, Claim], training: pd.DataFrame) -> tuple[str, ...]:
    """Answer whether memory grows like depth times batch, from the verdicts and their numbers."""
    named = {
        "saved activations": "the intermediate values that are kept",
        "peak live": "the peak of a step",
    }
    answers = []
    for label, what in named.items():
        if label in claims:
            claim = claims[label]
            parts = f"it {claim.words.removeprefix('fails; ')}" if claim.holds_for else ""
            parts = parts or claim.open_reason
            said = "; ".join(filter(None, (claim.number, parts)))
            answers.append(f"{_ANSWERS[claim.verdict]} for {what}: {said}.")
    known = ok_cells(training, *AT_PEAK)
    if len(known) and "peak live" in claims:
        answers[-1] += _alive(known)
    return tuple(answers)


def _alive(known: pd.DataFrame) -> str:
    """Say in how many cells activations are the largest part of the peak, and what is else."""
    largest = known[AT_PEAK].astype("int64").idxmax(axis=1)
    led = int((largest == "categories_at_peak.activation").sum())
    others = largest[largest != "categories_at_peak.activation"].value_counts()
    text = f" Activations are the largest part of it in {led} of {len(known)} cells"
    if others.empty:
        return f"{text}."
    name = str(others.index[0]).rpartition(".")[2]
    gpu = _workspaces(known[largest == others.index[0]]) if name == "temporary" else ""
    return f"{text}, {PARTS[name]}{gpu} in {others.iloc[0]}."


def _workspaces(cells: pd.DataFrame) -> str:
    """Return that a workspace of cuBLAS is most of the temporaries of all ``cells``, if it is."""
    gpus = {(str(row[0]), str(row[1])) for row in cells.reindex(columns=_GPU).dropna().to_numpy()}
    if len(gpus) != 1:
        return ""
    ((capability, config),) = gpus
    major, _, minor = capability.partition(".")
    size = workspace_bytes((int(major), int(minor)), config)
    is_most = cells["categories_at_peak.temporary"].between(size, 2 * size - 1).all()
    return f" (above all a cuBLAS workspace of {format_bytes(size)})" if is_most else ""
