"""Claims about an optimizer's state: its closed form, and the rule of four times the parameters."""

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.exact import ExactForm, exact_form
from harness.analysis.judge import decided, judge_cells
from harness.analysis.stated_claims import stated
from harness.schema.findings import Claim, Table

MOMENTS = {"none": 0, "sgd": 0, "momentum": 1, "adam": 2, "adamw": 2}
"""Tensors of a parameter's size that the optimizer keeps for each parameter."""


STATE = "categories_at_peak.optimizer_state"
_AXES = ["update", "depth", "batch"]


def _expected_state(table: pd.DataFrame) -> "pd.Series[int]":
    """Return the closed form: moments times the parameters, and Adam's float32 counters.

    With a GPU the counters stay in the host's memory.
    """
    counted = table["optimizer"].isin(["adam", "adamw"]) & (table["device"] == "cpu")
    counters = counted.astype("Int64") * 8 * (table["depth"] + 1)
    return table["optimizer"].map(MOMENTS).astype("Int64") * table["parameters"] + counters


def _state_form(part: pd.DataFrame) -> ExactForm | None:
    columns = {
        "layer": [int(depth) + 1 for depth in part["depth"]],
        "parameter bytes": [int(size) for size in part["parameters"]],
    }
    return exact_form(columns, [int(size) for size in part[STATE]])


def state_verdict(table: pd.DataFrame) -> Claim:
    """Judge whether the state follows its closed form to the byte."""
    equal = table[STATE] == _expected_state(table)
    forms = {
        str(name): str(_state_form(part) or "no exact formula")
        for name, part in table.groupby("optimizer", sort=False)
    }
    words = "; ".join(f"{name}: {form}" for name, form in forms.items())
    missing = len({"sgd", "momentum", "adam", "adamw"} - set(forms))
    return decided(
        judge_cells(table, equal, _AXES, missing=missing * len(table)),
        **stated(__file__, "state"),
        measured=f"The state has these bytes ({words}). The layers include the last linear "
        "layer. Each layer has a weight and a bias, and Adam keeps a step counter of 4 bytes "
        "for each of the two in the host's memory.",
        number=f"equal to the byte in {int(equal.sum())} of {len(table)} cells",
    )


def floor_verdict(table: pd.DataFrame) -> Claim:
    """Judge the rule of thumb of four times the parameters where the batch is smallest."""
    adam = table[table["optimizer"].isin(["adam", "adamw"])]
    adam = adam[adam["batch"] == adam["batch"].min()].reset_index(drop=True)
    times = _times_parameters(adam)
    near = (times / 4 - 1).abs() <= ROUGHLY
    return decided(
        judge_cells(adam, near, _AXES[:2]),
        **stated(__file__, "floor", roughly=f"{ROUGHLY:.0%}"),
        measured=f"At batch {adam['batch'].min()} the peak is within {ROUGHLY:.0%} of four "
        f"times in {int(near.sum())} of {len(adam)} cells. The update also needs tensors of a "
        "parameter's size. The single-tensor form needs two at a time, and the multi-tensor "
        "form needs one for every parameter at once.",
        number=f"{times.min():.3g} to {times.max():.3g} times the parameters",
    )


def _times_parameters(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the peak without the batch, over the parameters."""
    own = table["peak_live_bytes"] - table["categories_at_peak.input"]
    return (own / table["parameters"]).astype("float64")


def state_table(table: pd.DataFrame) -> Table:
    """Return the formula of the state of each optimizer, and its peak over the parameters."""
    rows = []
    for name, part in table.groupby("update", sort=False):
        equal = int((part[STATE] == _expected_state(part)).sum())
        small = part[part["batch"] == part["batch"].min()]
        times = _times_parameters(small)
        rows.append(
            {
                "update": str(name),
                "state": str(_state_form(part) or "–"),
                "equal_to_the_closed_form": f"{equal} of {len(part)}",
                "least_times_parameters": float(times.min()),
                "most_times_parameters": float(times.max()),
            }
        )
    return Table(
        name="state",
        caption="Bytes of state by optimizer, and the peak (without the batch) over the parameters "
        f"at batch {table['batch'].min()}",
        frame=pd.DataFrame(rows),
    )
