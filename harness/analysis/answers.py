"""The answer to an experiment's question in a sentence or two, with the numbers that decide.

What stands before the first colon is the answer itself; the rest is its evidence.
"""

from collections.abc import Mapping

import pandas as pd

from harness.analysis.frame import AT_PEAK, ok_cells
from harness.analysis.proportionality import Growth
from harness.prediction.gpu.workspaces import workspace_bytes
from harness.schema.units import format_bytes

_SHARP_PERCENT = 0.1
"""Difference within which a threshold counts as predicted."""

_GPU = ["environment.gpu_capability", "environment.cublas_workspace_config"]


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


def frontier_answer(errors_percent: "pd.Series[float]", worst: float | None) -> tuple[str, ...]:
    """Answer where networks stop fitting.

    ``worst`` is the share by which the hyperbola misses a threshold at most, where one was fitted.
    """
    errors = errors_percent.abs().dropna()
    if errors.empty:
        return ()
    curve = ""
    if worst is not None:
        curve = f"along (depth + a)(batch + b) = c to {100 * worst:.2g}%, and "
    within = int((errors <= _SHARP_PERCENT).sum())
    text = (
        f"Memory runs out where predicted: {curve}{within} of {len(errors)} thresholds lie within "
        f"{_SHARP_PERCENT:g}% of a prediction made without running anything."
    )
    return (text,)
