"""Compares times that were measured in turn, block by block, as ratios.

A block measures every variant once, one after the other. If the machine is slow for a while, a
whole block is slow, and the ratios within it stay the same. The blocks are the sample.
"""

import numpy as np
import pandas as pd


def odd_ratios(times: pd.DataFrame) -> pd.DataFrame:
    """Return the ratios of times at odd widths to times at neighbouring multiples of 8.

    ``times`` has a row per cell with ``block, width, seconds``. The result has a row for each block
    and each power of two p whose five widths were measured, with ``block, power``. ``ratio`` is the
    mean of the seconds at p - 1 and p + 1 over the mean at p - 8, p and p + 8; ``power_ratio`` is
    the mean at p - 8 and p + 8 over the seconds at p. If time depends only on the size of a width,
    the mean of widths on both sides of p takes as long as p, or slightly longer if time grows with
    the square.
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
    """Return whether ``width`` is a power of two."""
    return width > 0 and width & (width - 1) == 0


def pooled(ratios: pd.DataFrame, column: str = "ratio") -> pd.DataFrame:
    """Return the geometric mean over the powers, for each block with all powers.

    ``ratios`` is a result of ``odd_ratios``; the result has the columns ``block, ratio``.
    """
    powers = ratios["power"].nunique()
    logs = np.log(ratios[column]).groupby(ratios["block"]).agg(["mean", "size"])
    whole = logs[logs["size"] == powers]
    return pd.DataFrame({"block": whole.index, "ratio": np.exp(whole["mean"].to_numpy())})
