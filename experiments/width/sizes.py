"""Exact formulas of the bytes in the width."""

import pandas as pd

from harness.analysis import predictions
from harness.analysis.exact import ExactForm, exact_form
from harness.schema.findings import Claim, Table, Verdict

from .pairs import is_power

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
    parameters, activations = _parameter_form(sizes), _activation_form(sizes)
    sentence = "Parameters grow with the square of the width, activations with the width itself."
    if parameters is None or activations is None:
        return Claim(
            sentence=sentence,
            verdict=Verdict.OPEN,
            measured="No such formula gives every cell.",
            number="no exact formula",
        )
    square, linear = parameters.coefficients["width²"], parameters.coefficients["width"]
    even = linear / square
    far = int(sizes["width"].max()) > even
    return Claim(
        sentence=sentence,
        verdict=Verdict.SUPPORTED if far else Verdict.LIMITED,
        measured=f"At depth {DEPTH} parameters take {parameters} bytes and what is held for the "
        f"backward pass, the batch left out, {activations} bytes. The square outweighs the rest "
        f"of the parameters only from width {float(even):.0f} on: below it most of them are the "
        "first layer's, one row of which is as long as an example.",
        number=f"both exact in {parameters.rows} of {len(sizes)} cells",
    )


def bytes_verdict(sizes: pd.DataFrame) -> Claim:
    """Judge the note's "memory is allocated" by the bytes: one formula for every width?"""
    odd = sizes[[not is_power(int(width)) for width in sizes["width"]]]
    exact = _parameter_form(sizes) is not None and _activation_form(sizes) is not None
    equal, total = predictions.equal_cells(sizes, "peak_live_bytes")
    return Claim(
        sentence="Widths that are powers of two need less memory for their size than others.",
        headline="Widths that are powers of two need less memory",
        verdict=Verdict.REFUTED if exact else Verdict.OPEN,
        measured=f"The same formulas give powers of two and the {odd['width'].nunique()} other "
        "widths: no step, no rounding, not a byte of difference in what the allocator is "
        f"asked for; the peak is as predicted in {equal} of {total} cells. CUDA's allocator "
        "rounds each block up to 512 bytes, which costs other widths at most 511 bytes a tensor.",
        number="0 bytes of difference" if exact else "no exact formula",
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
