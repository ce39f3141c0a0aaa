"""The picture of a claim, as ``claims.toml`` describes it: lines along a variable, or bars."""

import pandas as pd

from harness.reporting import claim_figures
from harness.schema.findings import Figure

from .claim_texts import claim_texts


def picture(claim: str, data: pd.DataFrame, **values: object) -> Figure:
    """Return the figure of ``data``; ``values`` are those that its caption names."""
    options = dict(claim_texts()[claim].figure)
    name, caption = options.pop("name"), options.pop("caption").format(**values)
    if "bar" in options:
        return claim_figures.bars(name, caption, data, size=(8.6, 3.0), **options)
    story = options.pop("story", True)
    wanted = ("panel", options["line"], options["x"], options["y"], "fit")
    return claim_figures.lines(
        name,
        caption,
        data[[column for column in wanted if column in data]],
        line_label="",
        size=(8.6, 4.2 if story else 3.6),
        story=story,
        **options,
    )
