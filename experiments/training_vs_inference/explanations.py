"""The closed form of the difference, and the rule of thumb at small batches."""

import pandas as pd

from .pairs import expected_difference


def formula_text(table: pd.DataFrame) -> list[str]:
    """State the closed form of the difference, and in how many cells it is exact."""
    own = table[table["optimizer"] == "sgd"]
    if own.empty:
        return []
    equal = int((expected_difference(own) == own["difference_bytes"]).sum())
    text = (
        "Inference's peak should be the parameters plus batch·(4·features + 8·width): the batch "
        "and two layers' tensors, whatever the depth. With SGD, training's peak less that should "
        "be the larger of two: when the backward pass begins, batch·(4·width·depth + 8) + "
        "4·classes·(width + 1) + 8 (an activation a layer, the labels, the last layer's "
        "gradients); when it ends, parameters + batch·(8 − 4·width) + 8 (all gradients, one "
        "layer's tensor instead of two). "
        f"{equal} of {len(own)} cells are equal to it to the byte. So with a large batch the "
        "ratio tends to 1 + (width·depth + 2) / (features + 2·width), which grows like the depth, "
        "with any optimizer, for its state does not grow with the batch."
    )
    return [text]


def small_batch_text(table: pd.DataFrame) -> list[str]:
    """Compare the smallest batch with the rule of thumb."""
    small = table[table["batch"] == table["batch"].min()]
    parts = []
    for name, words in (("sgd", "2 with SGD"), ("adam", "4 with Adam")):
        own = small[small["optimizer"] == name]
        if len(own):
            low, high = float(own["ratio"].min()), float(own["ratio"].max())
            parts.append(f"{low:.3g} to {high:.3g} times, where the rule of thumb says {words}")
    text = f"With the smallest batch ({small['batch'].min()}) training needs " + ", and ".join(
        parts
    )
    return [
        text + ". The rule counts parameters, gradients and moments; what Adam's update takes "
        "while it runs, up to two tensors of the largest parameter's size, comes on top and "
        "weighs most where one layer is most of the network."
    ]
