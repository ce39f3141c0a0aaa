"""Tensors per hidden layer that each activation function keeps for the backward pass.

A layer more adds whole tensors of batch x width elements to what autograd holds. Their
number follows from the derivatives: one that is written in the output (ReLU, sigmoid, tanh)
shares the tensor that the next linear layer keeps anyway; one in the input needs a second.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions
from harness.analysis.frame import AT_PEAK, ok_cells
from harness.reporting import claim_figures
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Section, Table, present
from harness.schema.workload import ACTIVATIONS, MODELS, Grid, Workload

from . import claims, kept_tensors

METRICS = {"saved_bytes": "the saved bytes", "peak_live_bytes": "the peak"}


REASONS = {
    "relu": "the sign of its output",
    "relu_inplace": "the sign of its output",
    "sigmoid": "y(1 - y), from its output",
    "tanh": "1 - y², from its output",
    "gelu": "its input",
    "silu": "its input",
    "leaky_relu": "the sign of its input",
    "identity": "nothing",
}
"""What each derivative needs."""


WHY_ONE = (
    "At least one tensor is kept per layer, because a linear layer needs its input for the "
    "gradient of its weight. If an activation's derivative can be computed from its output, the "
    "activation and the next linear layer keep the same storage. In-place ReLU therefore keeps no "
    "less than ReLU. It only avoids the linear layer's own output during the forward pass."
)


AXES: dict[Size, tuple[tuple[int, ...], tuple[tuple[int, int], ...]]] = {
    Size.QUICK: ((1, 2), ((32, 64),)),
    Size.DEFAULT: ((1, 2, 3), ((512, 256),)),
    Size.FULL: ((1, 2, 3, 4, 5, 8, 9, 16, 17), ((1, 64), (64, 64), (1000, 100), (1024, 256))),
}
"""Depths, and pairs of batch and width."""


def cells(size: Size) -> Iterable[Workload]:
    """Return every activation in both models, over depths that differ by one."""
    depths, shapes = AXES[size]
    for batch, width in shapes:
        base = Workload(batch=batch, width=width)
        yield from Grid(
            base=base, axes={"model": MODELS, "activation": ACTIVATIONS, "depth": depths}
        )


def analyse(evidence: Evidence) -> Section:
    """Count the tensors that one more layer keeps; see the module's docstring."""
    frame = predictions.with_predictions(evidence.frame, list(METRICS))
    frame = frame[frame["saved_bytes"].notna() & frame["width"].notna()].reset_index(drop=True)
    steps = kept_tensors.layer_steps(frame)
    if steps.empty:
        raise AnalysisError("no two cells differ by one layer alone")
    table = kept_tensors.per_layer(steps)
    return Section(
        claims=(
            claims.held_verdict(steps),
            claims.note_verdict(steps),
            claims.scratch_verdict(steps),
        ),
        text=(predictions.in_words(frame, METRICS), WHY_ONE),
        tables=(_kept_table(table, frame), *predictions.miss_tables(frame, list(METRICS))),
        figures=present(_peak_figure(frame)),
    )


def _deepest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the largest depth, batch and width."""
    last = frame
    for name in ("depth", "batch", "width"):
        last = last[last[name] == last[name].max()]
    return last


def _kept_table(table: pd.DataFrame, frame: pd.DataFrame) -> Table:
    last = _deepest(frame)[["model", "activation", "saved_bytes", "peak_live_bytes"]]
    shape = _deepest(frame).iloc[0]
    both = table.merge(last, on=["model", "activation"], how="left")
    both.insert(2, "derivative_needs", both["activation"].map(REASONS))
    by_hand = (both["model"] == "mlp-scratch") & (both["activation"] == "relu")
    both.loc[by_hand, "derivative_needs"] = "both operands of the maximum"
    return Table(
        name="kept",
        caption="Tensors of batch x width elements kept per hidden layer, and the bytes at "
        f"depth {shape['depth']}, width {shape['width']}, batch {shape['batch']}",
        frame=both,
    )


def _peak_figure(frame: pd.DataFrame) -> Figure | None:
    last = ok_cells(_deepest(frame), *AT_PEAK).rename(columns={"activation": "function"})
    if last.empty:
        return None
    shape = last.iloc[0]
    order = {name: at for at, name in enumerate((*MODELS, *ACTIVATIONS))}
    last = last.sort_values(["model", "function"], key=lambda column: column.map(order))
    return claim_figures.composition(
        f"Categories at the peak of a training step (depth {shape['depth']}, width "
        f"{shape['width']}, batch {shape['batch']}). Only the activations (green) differ "
        "much. The green part is longer for functions that keep more tensors.",
        last[["model", "function", *AT_PEAK]],
        name="peak",
        panel="model",
        bar="function",
        shared=True,
        size=(8.6, 3.6),
    )


EXPERIMENT = Experiment(
    order=30,
    title="Activation functions",
    question="How many tensors does each activation function keep per hidden layer?",
    cells=cells,
    analyse=analyse,
    repeats=1,
)
