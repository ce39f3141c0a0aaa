"""Draws a claim's figure as lines or bars, with the options of ``claims.toml``."""

import pandas as pd

from harness.reporting.claim_figures import drawn
from harness.schema.findings import Figure

from .claim_texts import claim_texts


def picture(claim: str, data: pd.DataFrame, **values: object) -> Figure:
    """Return the claim's figure of ``data``; ``values`` replace names in braces in the caption."""
    text = claim_texts()[claim]
    options = {"title": text.headline, **text.figure}
    name = options.pop("name")
    if "bar" in options:
        return drawn(name, {"size": (8.6, 3.2), **options}, data, **values)
    wanted = ("panel", options["line"], options["x"], options["y"], "fit")
    options = {"line_label": "", "size": (8.6, 4.4), **options}
    return drawn(name, options, data[[key for key in wanted if key in data]], **values)
