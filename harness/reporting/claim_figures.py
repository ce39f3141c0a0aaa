"""The figure that several experiments show: what is alive at the peak."""

import functools

import pandas as pd

from harness.analysis.frame import categories
from harness.plots.stacked import stacked
from harness.schema.findings import Figure


def composition(
    cells: pd.DataFrame,
    *,
    panel: str,
    bar: str,
    caption: str,
    size: tuple[float, float],
    name: str = "composition",
    bar_label: str = "",
    shared: bool = False,
    shares: bool = False,
) -> list[Figure]:
    """Return what is alive at the peak of each of ``cells``, a bar a cell."""
    if cells.empty:
        return []
    label = "share of the peak, its bytes next to it" if shares else "live bytes at the peak"
    draw = functools.partial(
        stacked,
        panel=panel,
        bar=bar,
        bar_label=bar_label,
        label=label,
        shared=shared,
        shares=shares,
    )
    data = categories(cells).reset_index(drop=True)
    return [Figure(name=name, caption=caption, data=data, draw=draw, size=size)]
