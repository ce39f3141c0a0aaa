"""The growth of the peak, who owns it, and what it is made of."""

from collections.abc import Mapping

import pandas as pd

from harness.analysis.frame import AT_PEAK, ok_cells
from harness.analysis.proportionality import Growth
from harness.plots.stacked import owners
from harness.reporting import claim_figures
from harness.schema.findings import Figure


def growth(growths: Mapping[str, Growth]) -> list[Figure]:
    """Return the growth of the peak: what is saved follows one short formula, said in words."""
    return (
        [claim_figures.growth_figure(growths["peak live"], "peak live")]
        if "peak live" in growths
        else []
    )


def owners_map(training: pd.DataFrame) -> list[Figure]:
    """Return the map of the category that leads at the peak of each cell."""
    known = ok_cells(training, *AT_PEAK, "peak_live_bytes")
    if known["depth"].nunique() < 2 or known["batch"].nunique() < 2:
        return []
    sizes = known[AT_PEAK].astype("int64")
    data = known[["depth", "batch", "peak_live_bytes"]].assign(
        owner=[str(name).rpartition(".")[2] for name in sizes.idxmax(axis=1)],
        share=sizes.max(axis=1) / known["peak_live_bytes"].astype("int64"),
    )
    counts = data["owner"].value_counts()
    led = ", ".join(f"{str(name).replace('_', ' ')} in {count}" for name, count in counts.items())
    return [
        Figure(
            name="owners",
            caption="Who owns the peak: the largest category at the peak of a training step, with "
            "its share, over depth and batch. Where parameters lead, the gradients next to them "
            "are as large: the batch changes neither.",
            alt=f"A grid of depths and batches. The largest category at the peak is {led} of "
            f"{len(data)} cells; activations lead only at large batches.",
            story=True,
            heading="Who owns the peak",
            data=data.sort_values(["depth", "batch"], ignore_index=True),
            draw=owners,
            size=(8.6, 4.2),
        )
    ]


def composition(training: pd.DataFrame) -> list[Figure]:
    """Return what the peak is made of, at the smallest, the middle and the largest batch."""
    known = ok_cells(training, *AT_PEAK)
    batches = sorted(known["batch"].unique())
    chosen = {batches[at] for at in (0, len(batches) // 2, -1)} if batches else set()
    data = known.loc[known["batch"].isin(chosen), ["depth", "batch", *AT_PEAK]]
    data = data.sort_values(["batch", "depth"])
    data.insert(0, "panel", "Batch " + data["batch"].astype("string"))
    return claim_figures.composition(
        data,
        panel="panel",
        bar="depth",
        bar_label="depth (hidden layers)",
        caption="Shares of the peak of a training step. With small batches it is parameters "
        "and gradients, which the batch does not change; only with large ones do activations "
        "take over.",
        shares=True,
        size=(8.6, 3.4),
    )
