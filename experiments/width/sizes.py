"""Exact formulas of the bytes in the width."""

import pandas as pd

from harness.analysis import predictions
from harness.analysis.decisions import ROUGHLY
from harness.analysis.exact import ExactForm, exact_form
from harness.analysis.judge import decided, judge_cells
from harness.analysis.stated_claims import stated
from harness.schema.findings import Claim, Table

from .pairs import WORTH, is_power

DEPTH = 2


PARAMETERS = "categories_at_peak.parameter"


ACTIVATIONS = "saved_activation_bytes"


def _parameter_form(sizes: pd.DataFrame) -> ExactForm | None:
    widths = [int(width) for width in sizes["width"]]
    columns = {
        "constant": [1 for _ in widths],
        "width": widths,
        "width²": [width**2 for width in widths],
    }
    return exact_form(columns, [int(size) for size in sizes[PARAMETERS]])


def _activation_form(sizes: pd.DataFrame) -> ExactForm | None:
    pairs = [(int(b), int(w)) for b, w in zip(sizes["batch"], sizes["width"], strict=True)]
    columns = {
        "constant": [1 for _ in pairs],
        "batch": [batch for batch, _ in pairs],
        "batch·width": [batch * width for batch, width in pairs],
    }
    return exact_form(columns, [int(size) for size in sizes[ACTIVATIONS]])


def growth_verdict(sizes: pd.DataFrame) -> Claim:
    """Judge whether parameters grow with the square of the width, activations with the width."""
    doubled = sizes.assign(width=sizes["width"] // 2)[sizes["width"] % 2 == 0]
    pairs = sizes.merge(doubled, on=["batch", "width"], suffixes=("", "_doubled"))
    steps = pd.concat(
        [
            pairs[["batch", "width"]].assign(
                what=what, factor=(pairs[f"{column}_doubled"] / pairs[column]).astype("float64")
            )
            for what, column in (("parameters", PARAMETERS), ("activations", ACTIVATIONS))
        ],
        ignore_index=True,
    )
    wanted = steps["what"].map({"parameters": 4.0, "activations": 2.0})
    near = (steps["factor"] / wanted - 1).abs() <= ROUGHLY
    ends = [
        f"{what} {part['factor'].min():.3g} to {part['factor'].max():.3g} times"
        for what, part in steps.groupby("what", sort=False)
    ]
    parameters, activations = _parameter_form(sizes), _activation_form(sizes)
    return decided(
        judge_cells(steps, near, ["what", "width", "batch"], steps=True),
        **stated(__file__, "growth", roughly=f"{ROUGHLY:.0%}"),
        measured=f"At depth {DEPTH} parameters take {parameters or 'no formula of'} bytes. The "
        "activations saved for the backward pass take "
        f"{activations or 'no formula of'} bytes. Most parameters of a narrow network belong to "
        "the first layer, because one row of its weight is as long as an example.",
        number=f"for twice the width {'; '.join(ends) or 'nothing'}",
    )


def bytes_verdict(sizes: pd.DataFrame) -> Claim:
    """Judge the note's "memory is allocated": the peak at a power next to its neighbours'."""
    known = sizes[["batch", "width", "peak_live_bytes"]].astype("int64")
    peaks = {(batch, width): peak for batch, width, peak in known.itertuples(index=False)}
    rows = [
        (batch, width, 2 * peak / (peaks[batch, width - 1] + peaks[batch, width + 1]))
        for (batch, width), peak in peaks.items()
        if is_power(width) and {(batch, width - 1), (batch, width + 1)} <= set(peaks)
    ]
    cells = pd.DataFrame(rows, columns=["batch", "width", "ratio"])
    derived = predictions.derived_again(*predictions.equal_cells(sizes, "peak_live_bytes"))
    ends = [f"{end:.5g}" for end in (cells["ratio"].min(), cells["ratio"].max())]
    return decided(
        judge_cells(cells, cells["ratio"] <= 1 - WORTH, ["width", "batch"]),
        **stated(__file__, "less", worth=f"{WORTH:.0%}", derived=derived),
        measured=f"The peak is {ends[0]} to {ends[1]} times the mean of the neighbours' peaks at "
        f"{len(cells)} pairs of a power of two and a batch. CUDA's allocator rounds each block up "
        "to 512 bytes, which costs other widths at most 511 bytes a tensor.",
        number=f"{' to '.join(dict.fromkeys(ends))} times the neighbours' peak",
    )


def size_table(sizes: pd.DataFrame) -> Table:
    """Return the bytes of each width."""
    columns = ["batch", "width", PARAMETERS, ACTIVATIONS, "peak_live_bytes"]
    table = sizes[columns].rename(columns={PARAMETERS: "parameter_bytes"})
    table["peak_bytes_per_unit"] = (table["peak_live_bytes"] / table["width"]).astype("float64")
    table = table.rename(columns={"peak_bytes_per_unit": "peak_per_unit_of_width_bytes"})
    return Table(
        name="sizes",
        caption=f"Bytes by width at depth {DEPTH}",
        frame=table.sort_values(["batch", "width"], ignore_index=True),
    )
