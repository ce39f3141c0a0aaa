"""Counts the tensors that autograd keeps per hidden layer, for each activation function.

For each additional hidden layer, autograd keeps one or more tensors of batch x width elements. The
number of kept tensors depends on the derivative of the activation function. If the derivative is
computed from the output (ReLU, sigmoid, tanh), autograd keeps only this output, which the next
linear layer also needs. If the derivative is computed from the input, autograd also keeps the
input.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions
from harness.analysis.claim_data import text
from harness.analysis.claim_judge import judged
from harness.analysis.claim_numbers import ColumnNumbers
from harness.analysis.frame import AT_PEAK, ok_cells
from harness.reporting.claim_figures import picture
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Figure, Section, Table, present
from harness.schema.workload import ACTIVATIONS, MODELS, Grid, Workload

from . import kept_tensors

METRICS = {"saved_bytes": "the saved bytes", "peak_live_bytes": "the peak"}


AXES: dict[Size, tuple[tuple[int, ...], tuple[tuple[int, int], ...]]] = {
    Size.QUICK: ((1, 2), ((32, 64),)),
    Size.DEFAULT: ((1, 2, 3), ((512, 256),)),
    Size.FULL: ((1, 2, 3, 4, 5, 8, 9, 16, 17), ((1, 64), (64, 64), (1000, 100), (1024, 256))),
}
"""Depths and (batch, width) pairs for each size of the experiment."""


def cells(size: Size) -> Iterable[Workload]:
    """Yield training steps for every model, activation and depth, and inference as the control."""
    depths, shapes = AXES[size]
    yield from (Workload(mode="inference", depth=depth, batch=32) for depth in (1, 2))
    for batch, width in shapes:
        base = Workload(batch=batch, width=width)
        yield from Grid(
            base=base, axes={"model": MODELS, "activation": ACTIVATIONS, "depth": depths}
        )


def analyse(evidence: Evidence) -> Section:
    """Count the tensors that each additional hidden layer keeps."""
    frame = predictions.with_predictions(evidence.frame, list(METRICS))
    frame = frame[frame["saved_bytes"].notna() & frame["width"].notna()].reset_index(drop=True)
    steps = kept_tensors.layer_steps(frame)
    if steps.empty:
        raise AnalysisError("no two cells differ by one layer alone")
    train = steps[steps["mode"] == "train"]
    return Section(
        claims=_claims(steps, predictions.equal_cells(frame, "saved_bytes")),
        text=(predictions.in_words(frame, METRICS), text(__file__, "why_one")),
        tables=(
            _kept_table(kept_tensors.per_layer(train), frame[frame["mode"] == "train"]),
            *predictions.miss_tables(frame, list(METRICS)),
        ),
        figures=present(_peak_figure(frame[frame["mode"] == "train"])),
    )


def _claims(steps: pd.DataFrame, derived: tuple[int, int]) -> tuple[Claim, ...]:
    train = steps[steps["mode"] == "train"]
    own = train[train["model"] == "mlp"]
    counted = {
        f"In {model} each layer keeps {kept_tensors.counts(part)}."
        for model in MODELS
        if len(part := train[train["model"] == model])
    }
    scratch = kept_tensors.from_scratch(steps)
    rest = scratch.loc[scratch["activation"] != "relu", "ratio"]
    return (
        judged(
            __file__,
            "held",
            steps,
            missing=kept_tensors.missing(train, MODELS, ACTIVATIONS),
            derived=derived,
            counts=" ".join(sorted(counted)),
        ),
        judged(
            __file__,
            "note",
            steps,
            missing=kept_tensors.missing(own, ("mlp",), kept_tensors.IN_OUTPUT),
            derived=derived,
            named_counts=kept_tensors.counts(own[own["named"]]),
            other_counts=kept_tensors.counts(own[~own["named"]]),
        ),
        judged(
            __file__, "scratch", scratch, derived=derived, others=f"{ColumnNumbers(rest).ends:g}"
        ),
    )


def _deepest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the largest depth, batch and width."""
    last = frame
    for name in ("depth", "batch", "width"):
        last = last[last[name] == last[name].max()]
    return last


def _kept_table(table: pd.DataFrame, frame: pd.DataFrame) -> Table:
    last = _deepest(frame)[["model", "activation", "saved_bytes", "peak_live_bytes"]]
    shape = _deepest(frame).iloc[0]
    both = table.merge(last, on=["model", "activation"], how="left")
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
    order = {name: at for at, name in enumerate((*MODELS, *ACTIVATIONS))}
    last = last.sort_values(["model", "function"], key=lambda column: column.map(order))
    data = last[["model", "function", *AT_PEAK]]
    shape = {name: last[name].iloc[0] for name in ("depth", "width", "batch")}
    return picture(__file__, "peak", data, **shape)


EXPERIMENT = Experiment(
    order=30,
    title="Activation functions",
    question="How many tensors does each activation function keep per hidden layer?",
    cells=cells,
    analyse=analyse,
    repeats=1,
)
