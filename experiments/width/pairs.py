"""Compares times that were measured in turn, block by block, as ratios.

A block measures every variant once, one after the other; what slows the machine for a while
slows a whole block and leaves the ratios within it. The blocks are the sample.
"""

import numpy as np
import pandas as pd


def odd_ratios(times: pd.DataFrame) -> pd.DataFrame:
    """Return how much longer odd widths take than the multiples of 8 next to them.

    ``times`` has a row a cell: ``block, width, seconds``. For each block and each power of two p
    whose five widths were measured: ``block, power, ratio``, the mean of the seconds at p - 1 and
    p + 1 over that at p - 8, p and p + 8; and ``power_ratio``, the mean at p - 8 and p + 8 over
    the seconds at p. If only the size of a width counts, a mean of widths on both sides of p
    takes as long as p (a little longer, as far as the time grows with the square).
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
    """Return the geometric mean over the powers for each block that has them all.

    ``ratios`` as ``odd_ratios`` returns them; columns ``block, ratio``.
    """
    powers = ratios["power"].nunique()
    logs = np.log(ratios[column]).groupby(ratios["block"]).agg(["mean", "size"])
    whole = logs[logs["size"] == powers]
    return pd.DataFrame({"block": whole.index, "ratio": np.exp(whole["mean"].to_numpy())})
