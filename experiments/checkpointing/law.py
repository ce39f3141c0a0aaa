"""Fits memory as a function of the number of checkpointed segments.

k segments of depth/k layers keep O(k) + O(depth/k) tensors (Chen, Xu, Zhang, Guestrin 2016,
"Training deep nets with sublinear memory cost", arXiv:1604.06174, section 4).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.fits import fit

from .curve import Curve, counts_in_words

KEYS = ["in_features", "width", "batch", "depth"]
"""Columns that identify a network."""


def curves(frame: pd.DataFrame) -> list[Curve]:
    """Return a curve for each network and depth with enough measured numbers of segments.

    Curves are sorted by the ratio of a layer's gradients to its activations.

    Raises:
        AnalysisError: no network has enough measured numbers of segments.

    """
    metrics = ["peak_live_bytes", "live_at_start_bytes"]
    known = (frame["outcome"] == "ok") & frame[metrics].notna().all(axis=1)
    result = [
        _curve(own.sort_values(["checkpoint", "seed"]), set(part["checkpoint"]))
        for _, part in frame.groupby(KEYS, sort=True)
        if _enough(own := part[known.loc[part.index]])
    ]
    if not result:
        raise AnalysisError(
            "a curve needs the step without checkpoints, the square root of its depth in "
            "segments, and three other numbers of segments"
        )
    return sorted(result, key=lambda curve: curve.gradient_bytes / curve.activation_bytes)


def _enough(part: pd.DataFrame) -> bool:
    counts = set(part["checkpoint"])
    if not counts:
        return False
    root = round(math.sqrt(int(part["depth"].iloc[0])))
    return {0, 1, root} <= counts and len(counts) >= 6


def _curve(part: pd.DataFrame, asked: set[int]) -> Curve:
    first = part.iloc[0]
    depth, width, batch = (int(first[key]) for key in ("depth", "width", "batch"))
    base = part[part["checkpoint"] == 0]
    rows = pd.concat([base.iloc[:1], part[part["checkpoint"] > 0]])
    rise = (rows["peak_live_bytes"] - rows["live_at_start_bytes"]).astype("int64")
    segments = rows["checkpoint"].astype("int64")
    seconds = rows["wall_seconds"].to_numpy(dtype=np.float64, na_value=math.nan)
    network = f"width {width}, batch {batch}"
    table = pd.DataFrame(
        {
            "network": network,
            "depth": depth,
            "segments": segments,
            "longest_segment": [-(-depth // max(k, 1)) for k in segments],
            "peak_live_bytes": rows["peak_live_bytes"],
            "rise_bytes": rise,
            "wall_seconds": seconds,
        }
    ).reset_index(drop=True)
    split = table[table["segments"] > 0]
    law = fit(
        {
            "segments": split["segments"].to_numpy(dtype=np.int64),
            "layers": split["longest_segment"].to_numpy(dtype=np.int64),
            "constant": np.ones(len(split)),
        },
        split["rise_bytes"].to_numpy(dtype=np.int64),
    )
    terms = ("segments", "layers", "constant")
    a, b, c = (round(law.coefficient(term).estimate, 3) for term in terms)  # bytes
    fastest = part["fastest_seconds"]
    return Curve(
        network=network,
        depth=depth,
        activation_bytes=4 * width * batch,
        gradient_bytes=4 * width * (width + 1),
        table=table,
        a=a,
        b=b,
        c=c,
        r2=1.0 if law.r2 is None else law.r2,
        is_whole=asked <= set(part["checkpoint"]),
        seconds=tuple(fastest[part["checkpoint"] > 0].dropna()),
        base_seconds=tuple(fastest[part["checkpoint"] == 0].dropna()),
    )


def blocks(counts: Sequence[int], copies: int) -> list[list[int]]:
    """Divide the tested numbers of segments among ``copies`` measurement blocks.

    >>> blocks([1, 2, 3, 4, 5, 6, 7], 3)
    [[1, 2], [3, 4], [5, 6, 7]]
    """
    ends = [at * len(counts) // copies for at in range(copies + 1)] if copies else [0]
    return [list(counts[low:high]) for low, high in pairwise(ends)]


def laws(result: Sequence[Curve]) -> pd.DataFrame:
    """Return a row per network, with fitted coefficients, R², and the best numbers of segments."""
    return pd.DataFrame(
        [
            {
                "network": curve.network,
                "depth": curve.depth,
                "activation_bytes": curve.activation_bytes,
                "gradient_of_a_layer_bytes": curve.gradient_bytes,
                "a_bytes": curve.a,
                "b_bytes": curve.b,
                "c_bytes": curve.c,
                "r2": curve.r2,
                "square_root": math.sqrt(curve.depth),
                "fitted_best": curve.optimum,
                "measured_best": counts_in_words(curve.best),
                "rise_at_best_bytes": curve.lowest,
                "rise_at_square_root_bytes": curve.at(curve.root),
                "rise_without_bytes": curve.without,
            }
            for curve in result
        ]
    )
