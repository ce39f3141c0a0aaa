"""Tensors that one more hidden layer keeps: pairs of cells that differ by one layer alone."""

import pandas as pd

from harness.schema.workload import ACTIVATIONS, MODELS

ELEMENT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


KEPT = "tensors_kept_per_layer"


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
