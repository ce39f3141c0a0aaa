"""The two kinds of pictures of a claim: lines along one variable, and bars of live bytes."""

from functools import partial
from typing import Any

import pandas as pd

from harness.reporting import claim_figures
from harness.schema.findings import Figure

bars = partial(claim_figures.bars, size=(8.6, 3.0))


def lines(
    name: str,
    caption: str,
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    line: str,
    story: bool = True,
    **options: Any,
) -> Figure:
    """Return the figure of ``y`` against ``x``, higher if it belongs to the story."""
    shown = [column for column in ("panel", line, x, y, "fit") if column in data]
    return claim_figures.lines(
        name,
        caption,
        data[shown],
        x=x,
        y=y,
        line=line,
        line_label="",
        size=(8.6, 4.2 if story else 3.6),
        story=story,
        **options,
    )
