"""Computes ratios of times that were measured in the same block.

A block measures every variant once, one after the other. If the machine is slow for a while, a
whole block is slow, and the ratios within the block stay the same. Statistics treat each block as
one observation.
"""

import numpy as np
import pandas as pd


def odd_ratios(times: pd.DataFrame) -> pd.DataFrame:
    """Return the ratios of times at odd widths to times at neighbouring multiples of 8.

    ``times`` has one row per step, with the columns ``block, width, seconds``. The result has one
    row per block and power of two p, if all five widths near p were measured. ``ratio`` is the mean
    time at p - 1 and p + 1, divided by the mean time at p - 8, p and p + 8. ``power_ratio`` is the
    mean time at p - 8 and p + 8, divided by the time at p. If time grows linearly with the width,
    the mean time at p - 8 and p + 8 equals the time at p. If time grows with the square of the
    width, the mean time at p - 8 and p + 8 is slightly larger than the time at p.
    """
    rows = []
    for block, part in times.groupby("block"):
        widths = part["width"].astype("int64")
        seconds = dict(zip(widths, part["seconds"].astype("float64"), strict=True))
        for power in sorted(width for width in seconds if is_power(width)):
            if not {power + at for at in (-8, -1, 1, 8)} <= set(seconds):
                continue
            odd = (seconds[power - 1] + seconds[power + 1]) / 2
            sides = seconds[power - 8] + seconds[power + 8]
            ratio = 3 * odd / (sides + seconds[power])
            rows.append((block, power, ratio, sides / 2 / seconds[power]))
    return pd.DataFrame(rows, columns=["block", "power", "ratio", "power_ratio"])


def is_power(width: int) -> bool:
    """Return True if ``width`` is a power of two."""
    return width > 0 and width & (width - 1) == 0


def pooled(ratios: pd.DataFrame, column: str = "ratio") -> pd.DataFrame:
    """Return the geometric mean of each block's ratios, for blocks with all powers of two.

    ``ratios`` comes from ``odd_ratios``. The result has the columns ``block`` and ``ratio``.
    """
    powers = ratios["power"].nunique()
    logs = np.log(ratios[column]).groupby(ratios["block"]).agg(["mean", "size"])
    whole = logs[logs["size"] == powers]
    return pd.DataFrame({"block": whole.index, "ratio": np.exp(whole["mean"].to_numpy())})
