"""Counts the tensors that a hidden layer keeps, from steps that differ only by one layer."""

import pandas as pd

from harness.schema.workload import ACTIVATIONS, MODELS

ELEMENT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
IN_OUTPUT = ("relu", "sigmoid", "tanh", "identity")
"""The course note's three activation functions, and ``identity``, which returns its input."""


def layer_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return pairs of steps that differ only in one more hidden layer of the second network.

    The column ``depth`` is the depth of the shallower network. ``tensors`` is the number of tensors
    of batch x width elements that the added layer keeps. ``named`` is True if the course note names
    the activation function.
    """
    keys = ["model", "activation", "batch", "width", "dtype", "mode"]
    known = frame[frame["outcome"] == "ok"]
    lower = known[[*keys, "depth", "saved_bytes"]]
    upper = lower.assign(depth=lower["depth"] - 1)
    pairs = lower.merge(upper, on=[*keys, "depth"], suffixes=("", "_above"))
    added = pairs["saved_bytes_above"] - pairs["saved_bytes"]
    unit = pairs["batch"] * pairs["width"] * pairs["dtype"].map(ELEMENT_BYTES).astype("Int64")
    tensors, named = (added / unit).astype("float64"), pairs["activation"].isin(IN_OUTPUT)
    return pairs.assign(tensors=tensors, named=named)


def from_scratch(steps: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of tensors kept by the from-scratch model to tensors kept by ``mlp``."""
    keys = ["activation", "batch", "width", "depth", "mode"]
    own, scratch = (steps.loc[steps["model"] == name, [*keys, "tensors"]] for name in MODELS)
    both = own.merge(scratch, on=keys, suffixes=("", "_scratch"))
    both = both[both["mode"] == "train"]
    return both.assign(ratio=both["tensors_scratch"] / both["tensors"])


def missing(steps: pd.DataFrame, models: tuple[str, ...], functions: tuple[str, ...]) -> int:
    """Return the number of pairs (model, activation function) for which ``steps`` has no row."""
    known = set(steps[["model", "activation"]].itertuples(index=False, name=None))
    return len({(model, name) for model in models for name in functions} - known)


def counts(steps: pd.DataFrame) -> str:
    """List the functions by number of kept tensors, such as ``1 tensor with relu, tanh``."""
    grouped: dict[float, list[str]] = {}
    for name, part in steps.groupby("activation", sort=False):
        for count in sorted(part["tensors"].unique()):
            grouped.setdefault(float(count), []).append(str(name))
    every = (
        f"{count:g} {'tensor' if count == 1 else 'tensors'} with {', '.join(grouped[count])}"
        for count in sorted(grouped)
    )
    return "; ".join(every) or "nothing"


def per_layer(steps: pd.DataFrame) -> pd.DataFrame:
    """Return the kept tensors per layer; NA if different depths or sizes give different numbers."""
    rows = [
        (model, activation, part["tensors"].iloc[0], len(part))
        for model in MODELS
        for activation in ACTIVATIONS
        if len(part := steps[(steps["model"] == model) & (steps["activation"] == activation)])
    ]
    table = pd.DataFrame(rows, columns=["model", "activation", "tensors_kept_per_layer", "pairs"])
    varied = steps.groupby(["model", "activation"])["tensors"].nunique() > 1
    alike = pd.Series([not varied[model, name] for model, name, *_ in rows], dtype=bool)
    return table.assign(tensors_kept_per_layer=table["tensors_kept_per_layer"].where(alike))
