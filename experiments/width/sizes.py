"""Exact formulas of the bytes in the width."""

import pandas as pd

from harness.analysis import predictions
from harness.analysis.decisions import ROUGHLY
from harness.analysis.exact import ExactForm, exact_form
from harness.analysis.judge import decided, judge_cells
from harness.schema.findings import Claim, Rule, Table

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


_GROWTH = Rule(
    holds=f"twice the width takes 4 times the parameters and twice the activations, within "
    f"{ROUGHLY:.0%}, for every width that was measured once and doubled",
    fails="it does not in half of the doublings or more; otherwise it holds for the larger part",
    open="no width was measured once and doubled",
)
_LESS = Rule(
    holds=f"the peak at a power of two is at least {WORTH:.0%} below the mean of the peaks one "
    "unit of width below and above it, at every power and batch",
    fails="it is not in half of them or more; otherwise it holds for the larger part",
    open="no power of two was measured with both neighbours",
)


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
        sentence="Parameters grow with the square of the width, activations with the width itself.",
        rule=_GROWTH,
        second="the closed forms, which the exact formulas are",
        measured=f"At depth {DEPTH} parameters take {parameters or 'no formula of'} bytes and "
        "what is held for the backward pass, the batch left out, "
        f"{activations or 'no formula of'} bytes. Most parameters of a narrow network are the "
        "first layer's, one row of which is as long as an example.",
        number=f"for twice the width {'; '.join(ends) or 'nothing'}",
        unit="widths",
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
    equal, total = predictions.equal_cells(sizes, "peak_live_bytes")
    ends = [f"{end:.5g}" for end in (cells["ratio"].min(), cells["ratio"].max())]
    return decided(
        judge_cells(cells, cells["ratio"] <= 1 - WORTH, ["width", "batch"]),
        sentence="Widths that are powers of two need less memory for their size than others.",
        headline="Widths that are powers of two need less memory",
        rule=_LESS,
        second=f"the allocator model's peak, equal in {equal} of {total} cells",
        measured=f"The peak is {ends[0]} to {ends[1]} times the mean of its neighbours' at "
        f"{len(cells)} pairs of a power and a batch. CUDA's allocator rounds each block up to 512 "
        "bytes, which costs other widths at most 511 bytes a tensor.",
        number=f"{' to '.join(dict.fromkeys(ends))} times the neighbours' peak",
        unit="widths",
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
