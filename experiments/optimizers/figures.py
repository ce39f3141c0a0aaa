"""The peak by optimizer: what it is made of, and how it grows with the batch."""

import pandas as pd

from harness.analysis.frame import AT_PEAK, ends
from harness.reporting import claim_figures
from harness.schema.findings import Figure


def composition(table: pd.DataFrame) -> Figure | None:
    """Return what is alive at the peak, at the smallest and the largest batch."""
    deepest = table[table["depth"] == table["depth"].max()]
    extremes = ends(deepest, "batch").sort_values("batch", kind="stable")
    extremes = extremes.assign(panel="Batch " + extremes["batch"].astype("string"))
    return claim_figures.composition(
        "Categories at the peak of a step, by optimizer, at depth "
        f"{deepest['depth'].max()}. With a small batch the state (purple) and the update's "
        "tensors (red) are several times the parameters. With a large batch activations decide, "
        "and optimizers differ only by their state.",
        extremes[["panel", "update", *AT_PEAK]],
        bar="update",
        size=(8.6, 3.6),
    )


def growth(table: pd.DataFrame) -> Figure | None:
    """Return the peak against the batch, a line per optimizer."""
    single = table[(table["foreach"] != "on") & (table["depth"] == table["depth"].max())]
    if single["batch"].nunique() < 3:
        return None
    return claim_figures.lines(
        "peak",
        f"Peak live bytes against batch at depth {single['depth'].max()}, for the "
        "single-tensor forms. If the peak lies in the backward pass, optimizers differ "
        "by the same bytes at every batch, so their ratio approaches 1. AdamW equals Adam, and "
        "SGD equals a step without an optimizer.",
        equal_lines_together(single[["update", "batch", "peak_live_bytes"]]),
        x="batch",
        y="peak_live_bytes",
        line="update",
        label="peak live bytes",
        size=(7.2, 4.2),
    )


def equal_lines_together(data: pd.DataFrame) -> pd.DataFrame:
    """Return ``data`` with one line for the optimizers of equal peaks, named after all of them."""
    lines: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for name, part in data.groupby("update", sort=False):
        points = zip(part["batch"], part["peak_live_bytes"], strict=True)
        lines.setdefault(tuple(sorted(points)), []).append(str(name))
    rows = [
        (" = ".join(names), batch, size)
        for points, names in lines.items()
        for batch, size in points
    ]
    return pd.DataFrame(rows, columns=list(data.columns)).astype(data.dtypes.to_dict())
