"""Compares the peaks of traced runs by kind of step and by order of ``zero_grad``."""

from collections.abc import Iterable

import pandas as pd

from .runs import EVALUATE, TRAIN, Run

ORDERS = {
    "after_forward": "after the forward pass (the note)",
    "before_forward": "before the forward pass",
}
"""Words for the time at which gradients are freed."""


def orders_table(result: Iterable[Run]) -> pd.DataFrame:
    """Return the peaks of full steps by order of ``zero_grad``, for models run in both orders.

    Columns: ``model, gradients_freed, peak_bytes, peak_phase``. The first row of each model is for
    the course note's order of ``zero_grad``.
    """
    rows = [
        {
            "model": run.model,
            "gradients_freed": ORDERS[run.zero_grad],
            "peak_bytes": int(run.later_full_steps["peak_bytes"].max()),
            "peak_phase": _phase(run.later_full_steps),
        }
        for run in result
        if run.instrument == "trace" and len(run.later_full_steps)
    ]
    table = pd.DataFrame(rows, columns=["model", "gradients_freed", "peak_bytes", "peak_phase"])
    both = table.groupby("model")["gradients_freed"].transform("nunique") == len(ORDERS)
    return table[both].sort_values(["model", "gradients_freed"], ignore_index=True)


def _phase(steps: pd.DataFrame) -> str | None:
    """Return the phase of the highest peak; None if an older version did not record phases."""
    if "peak_phase" not in steps:
        return None
    return str(steps["peak_phase"].iloc[int(steps["peak_bytes"].to_numpy().argmax())])


def peaks_table(result: Iterable[Run]) -> pd.DataFrame:
    """Return the range of peaks for each traced run and each kind of step."""
    rows = []
    for run in result:
        first = run.steps[run.steps["step"] == 1]
        kinds = {
            "first step": first,
            "every later full step": run.later_full_steps,
            "last, partial batch of an epoch": run.batches(TRAIN, full=False),
            "evaluation of a full batch": run.batches(EVALUATE),
            "evaluation of the partial batch": run.batches(EVALUATE, full=False),
        }
        for name, part in kinds.items():
            if len(part):
                rows.append(
                    {
                        "model": run.model,
                        "step": name,
                        "examples": int(part["rows"].iloc[0]),
                        "steps": len(part),
                        "alive_before_bytes": int(part["start_bytes"].iloc[-1]),
                        "lowest_peak_bytes": int(part["peak_bytes"].min()),
                        "highest_peak_bytes": int(part["peak_bytes"].max()),
                        "alive_after_bytes": int(part["end_bytes"].iloc[-1]),
                    }
                )
    return pd.DataFrame(rows)
