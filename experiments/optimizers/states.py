"""Computes the bytes of an optimizer's state by a closed form, and peaks per parameter byte."""

import pandas as pd

from harness.analysis.exact import ExactForm, exact_form
from harness.schema.findings import Table

MOMENTS = {"none": 0, "sgd": 0, "momentum": 1, "adam": 2, "adamw": 2}
"""Number of tensors of a parameter's size that the optimizer keeps for each parameter."""
STATE = "categories_at_peak.optimizer_state"


def with_states(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with the closed form of the state, and with columns that claims use.

    The column ``moments`` is the expected state and ``tensors`` is the measured state, as multiples
    of the parameters. ``expected`` is the closed form of the state's bytes in the device's memory.
    ``times`` is the peak without the batch, divided by the parameters' bytes.
    """
    parameters = table["categories_at_peak.parameter"]
    moments = table["optimizer"].map(MOMENTS).astype("Int64")
    adam = table["optimizer"].isin(["adam", "adamw"])
    counters = (adam & (table["device"] == "cpu")).astype("Int64") * 8 * (table["depth"] + 1)
    own = table["peak_live_bytes"] - table["categories_at_peak.input"]
    return table.assign(
        parameters=parameters,
        moments=moments,
        adam=adam.astype(bool),
        expected=moments * parameters + counters,
        tensors=(table[STATE] / parameters).astype("float64"),
        times=(own / parameters).astype("float64"),
    )


def state_form(part: pd.DataFrame) -> ExactForm | None:
    """Return a formula that equals the state's bytes in every row; None if there is none."""
    columns = {
        "layer": [int(depth) + 1 for depth in part["depth"]],
        "parameter bytes": [int(size) for size in part["parameters"]],
    }
    return exact_form(columns, [int(size) for size in part[STATE]])


def state_table(table: pd.DataFrame) -> Table:
    """Return a table with each optimizer's state formula and its peak per parameter byte."""
    rows = []
    for name, part in table.groupby("update", sort=False):
        times = part.loc[part["batch"] == part["batch"].min(), "times"]
        equal = int((part[STATE] == part["expected"]).sum())
        state = str(state_form(part) or "–")
        rows.append((name, state, f"{equal} of {len(part)}", times.min(), times.max()))
    head = ["update", "state", "equal_to_the_closed_form"]
    return Table(
        name="state",
        caption="Bytes of each optimizer's state; the peak without the batch, divided by the bytes "
        f"of the parameters (batch {table['batch'].min()})",
        frame=pd.DataFrame(
            rows, columns=[*head, "least_times_parameters", "most_times_parameters"]
        ),
    )
