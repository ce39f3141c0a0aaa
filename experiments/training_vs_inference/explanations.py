"""The closed form of the difference."""

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
