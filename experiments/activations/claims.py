"""Claims about the note's three functions and a from-scratch ReLU, from pairs of cells."""

from collections.abc import Iterable

import pandas as pd

from harness.analysis.judge import decided, judge_cells
from harness.analysis.stated_claims import stated
from harness.schema.findings import Claim
from harness.schema.workload import ACTIVATIONS, MODELS

IN_OUTPUT = ("relu", "sigmoid", "tanh")
"""The note's three functions."""
_AXES = ["model", "activation", "depth", "batch", "width"]


def _of(steps: pd.DataFrame, model: str, names: Iterable[str]) -> pd.DataFrame:
    return steps[(steps["model"] == model) & steps["activation"].isin(list(names))]


def _counts(steps: pd.DataFrame) -> str:
    """Say which functions keep how many tensors, such as ``1 (relu, tanh)``."""
    grouped: dict[float, list[str]] = {}
    for name, part in steps.groupby("activation", sort=False):
        for count in sorted(part["tensors"].unique()):
            grouped.setdefault(float(count), []).append(str(name))
    return ", ".join(f"{count:g} ({', '.join(grouped[count])})" for count in sorted(grouped))


def _missing(steps: pd.DataFrame, models: Iterable[str], functions: Iterable[str]) -> int:
    """Return how many of the functions have no pair."""
    known = set(steps[["model", "activation"]].itertuples(index=False, name=None))
    return len({(model, name) for model in models for name in functions} - known)


def held_verdict(steps: pd.DataFrame) -> Claim:
    """Judge whether each layer adds a whole number of tensors, at least one."""
    held = (steps["tensors"] % 1 == 0) & (steps["tensors"] >= 1)
    parts = [
        f"{model} adds {_counts(steps[steps['model'] == model])}."
        for model in MODELS
        if (steps["model"] == model).any()
    ]
    least, most = float(steps["tensors"].min()), float(steps["tensors"].max())
    return decided(
        judge_cells(steps, held, _AXES, missing=_missing(steps, MODELS, ACTIVATIONS)),
        **stated(__file__, "held"),
        measured="Each hidden layer adds tensors of batch x width elements. "
        f"{' '.join(parts)} Even without an activation function the next linear layer keeps "
        "its input.",
        number=f"a whole number from 1 on in {int(held.sum())} of {len(steps)} pairs, "
        f"{least:g} to {most:g} per layer",
    )


def note_verdict(steps: pd.DataFrame) -> Claim:
    """Judge whether the note's three functions keep one tensor per layer, as without any."""
    functions = (*IN_OUTPUT, "identity")
    own = _of(steps, "mlp", functions).reset_index(drop=True)
    one = own["tensors"] == 1
    others = _of(steps, "mlp", set(ACTIVATIONS) - set(functions))
    others_too = f" The other functions add {_counts(others)}." if len(others) else ""
    return decided(
        judge_cells(own, one, _AXES[1:], missing=_missing(own, ["mlp"], functions)),
        **stated(__file__, "note"),
        measured="Identity is no activation function. In nn.Linear networks each hidden layer "
        f"adds {_counts(own) or 'nothing'}.{others_too}",
        number=f"exactly one tensor per layer in {int(one.sum())} of {len(own)} pairs",
    )


def scratch_verdict(steps: pd.DataFrame) -> Claim:
    """Judge whether a ReLU written as a maximum keeps as much as nn.ReLU."""
    keys = ["activation", "batch", "width", "depth"]
    both = _of(steps, "mlp", ACTIVATIONS).merge(
        _of(steps, "mlp-scratch", ACTIVATIONS), on=keys, suffixes=("", "_scratch")
    )
    ratio = both["tensors_scratch"] / both["tensors"]
    relu = both["activation"] == "relu"
    own, rest = both[relu].reset_index(drop=True), ratio[~relu]
    no_more = own["tensors_scratch"] <= own["tensors"]
    return decided(
        judge_cells(own, no_more, ["depth", "batch", "width"]),
        **stated(__file__, "scratch"),
        measured="The maximum's derivative asks which operand was larger, so the input and "
        "the zeros are kept in addition to the output. With any other function the "
        "from-scratch network keeps as many tensors as the nn.Linear network in "
        f"{int((rest == 1).sum())} of {len(rest)} pairs.",
        number=" to ".join(
            dict.fromkeys(f"{end:g}" for end in (ratio[relu].min(), ratio[relu].max()))
        )
        + " times as much per layer",
    )
