"""Compares times that were measured in turn, block by block, as ratios.

A block measures every variant once, one after the other; what slows the machine for a while
slows a whole block and leaves the ratios within it. The blocks are the sample.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.schema.record import Record


def best_seconds(records: Iterable[Record]) -> pd.DataFrame:
    """Return the fastest repeat of each good record: ``workload_id, seconds``.

    Other work on the machine only ever adds time, so the fastest of several repeats in one
    process is the least disturbed.
    """
    rows = {
        record.workload_id: min(seconds)
        for record in records
        if (seconds := [one.wall_seconds for one in record.repeats if one.wall_seconds is not None])
    }
    return pd.DataFrame(list(rows.items()), columns=["workload_id", "seconds"])


def neighbour_ratios(times: pd.DataFrame) -> pd.DataFrame:
    """Return how much longer the two neighbours of a power of two take than it does itself.

    ``times`` has a row a cell: ``block, width, seconds``. For each block, each power of two
    and each offset d whose both widths were measured: ``block, power, offset, ratio``, the
    geometric mean of the seconds at power - d and power + d over those at power. The
    arithmetic of the two neighbours is on average that of the power, so that ratio is 1 where
    only the size of a width counts.
    """
    rows = []
    for block, part in times.groupby("block"):
        seconds = {int(w): float(t) for w, t in zip(part["width"], part["seconds"], strict=True)}
        for power in sorted(width for width in seconds if is_power(width)):
            for offset in range(1, power // 4 + 1):
                ends = [seconds.get(power + part_of) for part_of in (-offset, offset)]
                if None not in ends and not is_power(power - offset):
                    mean = float(np.sqrt(np.prod(np.asarray(ends, dtype=np.float64))))
                    rows.append((block, power, offset, mean / seconds[power]))
    return pd.DataFrame(rows, columns=["block", "power", "offset", "ratio"])


def is_power(width: int) -> bool:
    """Return whether ``width`` is a power of two."""
    return width > 0 and width & (width - 1) == 0


def pooled(ratios: pd.DataFrame) -> pd.DataFrame:
    """Return the geometric mean over the powers for each block that has them all.

    ``ratios`` as ``neighbour_ratios`` returns them, of one offset; columns ``block, ratio``.
    """
    powers = ratios["power"].nunique()
    logs = ratios.assign(log=np.log(ratios["ratio"])).groupby("block")["log"].agg(["mean", "size"])
    whole = logs[logs["size"] == powers]
    return pd.DataFrame({"block": whole.index, "ratio": np.exp(whole["mean"].to_numpy())})
