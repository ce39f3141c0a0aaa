"""What each activation function keeps for the backward pass, in tensors per hidden layer.

A layer more adds whole tensors of batch x width elements to what autograd holds. Their
number follows from the derivatives: one that is written in the output (ReLU, sigmoid, tanh)
shares the tensor that the next linear layer keeps anyway; one in the input needs a second.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions
from harness.schema.events import CATEGORIES
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Ruling, Section, Table, Verdict
from harness.schema.plots.stacked import stacked
from harness.schema.workload import ACTIVATIONS, MODELS, Grid, Workload

ELEMENT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
METRICS = {"saved_bytes": "what is saved", "peak_live_bytes": "the peak"}
KEPT = "tensors_kept_per_layer"

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
    "Why one is the least: a linear layer's weight gradient is its input transposed times its "
    "output's gradient, so each layer keeps its input, whatever stands before it. An activation "
    "whose derivative can be had from its own output adds nothing to that: the two share one "
    "storage. In-place ReLU therefore keeps no less than ReLU; it only spares the linear layer's "
    "own output, one tensor at a time, while the forward pass runs."
)

IN_OUTPUT = ("relu", "sigmoid", "tanh")
"""The note's three functions."""

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
    steps = layer_steps(frame)
    if steps.empty:
        raise AnalysisError("no two cells differ by one layer alone")
    table = per_layer(steps)
    return Section(
        verdicts=(*_held_verdict(steps), *_note_verdict(steps), *_scratch_verdict(steps)),
        text=(
            predictions.in_words(frame, METRICS),
            WHY_ONE,
        ),
        tables=(_kept_table(table, frame), *predictions.miss_tables(frame, list(METRICS))),
        figures=tuple(_peak_figure(frame)),
    )


def layer_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each pair of cells that differ by one hidden layer alone.

    Columns: ``model, activation, batch, width, depth`` (of the shallower), ``added_bytes`` and
    ``tensors`` (added over a tensor of batch x width elements).
    """
    keys = ["model", "activation", "batch", "width", "dtype"]
    known = frame[frame["outcome"] == "ok"]
    lower = known[[*keys, "depth", "saved_bytes"]]
    upper = lower.assign(depth=lower["depth"] - 1)
    pairs = lower.merge(upper, on=[*keys, "depth"], suffixes=("", "_above"))
    added = pairs["saved_bytes_above"] - pairs["saved_bytes"]
    unit = pairs["batch"] * pairs["width"] * pairs["dtype"].map(ELEMENT_BYTES).astype("Int64")
    return pairs.assign(added_bytes=added, tensors=(added / unit).astype("float64"))


def per_layer(steps: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model and activation: tensors kept per layer, missing if they vary."""
    rows = []
    for model in MODELS:
        for activation in ACTIVATIONS:
            part = steps[(steps["model"] == model) & (steps["activation"] == activation)]
            if part.empty:
                continue
            same = part["tensors"].nunique() == 1
            kept = float(part["tensors"].iloc[0]) if same else None
            rows.append((model, activation, kept, len(part)))
    return pd.DataFrame(rows, columns=["model", "activation", KEPT, "pairs"])


def _whole(steps: pd.DataFrame) -> int:
    return int((steps["tensors"] % 1 == 0).sum())


def _of(steps: pd.DataFrame, model: str, names: Iterable[str]) -> pd.DataFrame:
    return steps[(steps["model"] == model) & steps["activation"].isin(list(names))]


def _counts(steps: pd.DataFrame) -> str:
    """Say which functions keep how many tensors, such as ``1 (relu, tanh)``."""
    grouped: dict[float, list[str]] = {}
    for name, part in steps.groupby("activation", sort=False):
        for count in sorted(part["tensors"].unique()):
            grouped.setdefault(float(count), []).append(str(name))
    return "; ".join(f"{count:g} ({', '.join(grouped[count])})" for count in sorted(grouped))


def _held_verdict(steps: pd.DataFrame) -> list[Verdict]:
    whole, total = _whole(steps), len(steps)
    least, most = float(steps["tensors"].min()), float(steps["tensors"].max())
    parts = [
        f"{model}: {_counts(steps[steps['model'] == model])}"
        for model in MODELS
        if (steps["model"] == model).any()
    ]
    held = whole == total and least >= 1
    return [
        Verdict(
            sentence="Backpropagation holds on to the intermediate values calculated during "
            "forward propagation.",
            ruling=Ruling.SUPPORTED if held else Ruling.REFUTED,
            measured="Tensors of batch x width elements that each hidden layer adds to what is "
            f"kept, by model: {'; by '.join(parts)}. Never none: even without any activation "
            "function the next linear layer keeps its input.",
            number=f"a whole number, {least:g} to {most:g} per layer, in {whole} of {total} pairs",
        )
    ]


def _note_verdict(steps: pd.DataFrame) -> list[Verdict]:
    three = _of(steps, "mlp", IN_OUTPUT)
    if three.empty:
        return []
    one = int((three["tensors"] == 1).sum())
    others = _of(steps, "mlp", set(ACTIVATIONS) - set(IN_OUTPUT))
    others_too = f" The others: {_counts(others)}." if len(others) else ""
    return [
        Verdict(
            sentence="ReLU, sigmoid and tanh cost the same memory: one tensor per hidden layer, "
            "as much as no activation function at all.",
            ruling=Ruling.SUPPORTED if one == len(three) else Ruling.REFUTED,
            measured=f"{_counts(three)} per hidden layer in nn.Linear networks.{others_too}",
            number=f"exactly one tensor per layer in {one} of {len(three)} pairs",
        )
    ]


def _scratch_verdict(steps: pd.DataFrame) -> list[Verdict]:
    own = _of(steps, "mlp-scratch", ["relu"])
    library = _of(steps, "mlp", ["relu"])
    if own.empty or library.empty:
        return []
    by_hand, ready = float(own["tensors"].median()), float(library["tensors"].median())
    rest = [name for name in ACTIVATIONS if name != "relu"]
    keys = ["activation", "batch", "width", "depth"]
    pairs = _of(steps, "mlp", rest).merge(_of(steps, "mlp-scratch", rest), on=keys)
    same = int((pairs["tensors_x"] == pairs["tensors_y"]).sum())
    return [
        Verdict(
            sentence="A from-scratch ReLU, written as a maximum with zeros, needs no more memory "
            "than the ready-made one.",
            headline="A from-scratch ReLU needs no more memory than nn.ReLU",
            ruling=Ruling.REFUTED if by_hand > ready else Ruling.SUPPORTED,
            measured=f"From scratch each layer keeps {by_hand:g} tensors, ready-made {ready:g}: "
            "the maximum's derivative asks which operand was larger, so the input and the zeros "
            "are kept in addition to the output. With any other function it keeps what the "
            f"nn.Linear one keeps, in {same} of {len(pairs)} pairs.",
            number=f"{by_hand / ready:g} times as much per layer",
        )
    ]


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
        caption="Tensors of batch x width elements kept per hidden layer; saved bytes and peak at "
        f"depth {shape['depth']}, width {shape['width']}, batch {shape['batch']}",
        frame=both,
    )


def _peak_figure(frame: pd.DataFrame) -> list[Figure]:
    names = [f"categories_at_peak.{name}" for name in CATEGORIES]
    last = _deepest(frame)
    last = last[last[names].notna().all(axis=1)]
    if last.empty:
        return []
    shape = last.iloc[0]
    order = {name: at for at, name in enumerate((*MODELS, *ACTIVATIONS))}
    last = last.rename(columns={"activation": "function"})
    data = last[["model", "function", *names]].sort_values(
        ["model", "function"], key=lambda column: column.map(order), ignore_index=True
    )
    return [
        Figure(
            name="peak",
            caption=f"What is alive at the peak of a training step (depth {shape['depth']}, width "
            f"{shape['width']}, batch {shape['batch']}). Only the activations (green) differ "
            "much; the number of tensors kept per layer shows as the length of the green part.",
            data=data.rename(columns=lambda name: name.removeprefix("categories_at_peak.")),
            draw=functools.partial(stacked, panel="model", bar="function", shared=True),
            size=(8.6, 3.6),
        )
    ]


EXPERIMENT = Experiment(
    order=30,
    title="Activation functions",
    question="How many tensors does each activation function keep per hidden layer?",
    cells=cells,
    analyse=analyse,
    repeats=1,
)
