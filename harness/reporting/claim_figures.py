"""Draws the figures that ``claims.toml`` describes, as lines or bars."""

import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.analysis.claim_data import figure_data
from harness.analysis.frame import categories
from harness.plots.series import series
from harness.plots.stacked import stacked
from harness.schema.findings import Figure


def picture(file: str, name: str, data: pd.DataFrame, /, **values: object) -> Figure | None:
    """Return figure ``name`` of the ``claims.toml`` next to ``file``; None if ``data`` is empty.

    ``values`` replace the names in braces in the title and in the caption.
    """
    if data.empty:
        return None
    return drawn(name, figure_data(file, name), data, **values)


def drawn(name: str, given: Mapping[str, Any], data: pd.DataFrame, /, **values: object) -> Figure:
    """Return a figure of lines or, if ``given`` contains ``bar``, a figure of stacked bars.

    Args:
        name: name of the figure's files.
        given: title, caption and size of the figure, and options of ``series`` or ``stacked``.
        data: one row per point or bar; each value in the column ``panel`` gets its own panel.
        values: texts that replace the names in braces in title and caption.

    """
    options = dict(given)
    if "marked" in options:
        options["marked"] = tuple(options["marked"])
    title, caption = (str(options.pop(key)).format(**values) for key in ("title", "caption"))
    size = tuple(options.pop("size", (8.6, 4.2)))
    if "bar" in options:
        data = categories(data).reset_index(drop=True)
        draw = functools.partial(stacked, **{"panel": "panel", **options})
    else:
        panel = "panel" if "panel" in data else None
        draw = functools.partial(series, **{"panel": panel, **options})
    return Figure(
        name=name,
        caption=caption,
        data=data,
        draw=draw,
        size=size,
        heading=title,
    )
