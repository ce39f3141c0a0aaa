"""Makes the tables and the figure of the training runs."""

from collections.abc import Sequence

import pandas as pd

from harness.reporting.claim_figures import picture
from harness.schema.findings import Figure, Table

from .runs import Run
from .step_peaks import peaks_table


def tables(result: Sequence[Run], traced: Sequence[Run], orders: pd.DataFrame) -> tuple[Table, ...]:
    """Return tables of epochs, of peaks by kind of step, and of peaks by order of ``zero_grad``."""
    epochs = pd.concat(
        [one.epochs.assign(model=one.model, instrument=one.instrument) for one in result],
        ignore_index=True,
    )
    every = {
        "epochs": (
            "Validation accuracy and time of each epoch",
            epochs[["model", "instrument", "epoch", "accuracy", "seconds"]],
        ),
        "steps": (
            "Peak live bytes by kind of step, over the traced epochs",
            peaks_table(traced),
        ),
        "orders": (
            "Peak of a full step for each time at which the old gradients are freed",
            orders,
        ),
    }
    return tuple(
        Table(name=name, caption=caption, frame=frame)
        for name, (caption, frame) in every.items()
        if len(frame)
    )


def peaks_figure(traced: Sequence[Run]) -> Figure | None:
    """Draw live bytes by category at the peaks of four kinds of step."""
    rows = [
        {"panel": one.model, "label": name, **sizes}
        for one in traced
        for name, sizes in one.categories.items()
    ]
    return picture(__file__, "peaks", pd.DataFrame(rows))
