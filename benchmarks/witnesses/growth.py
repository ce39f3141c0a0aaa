"""Tests on real GPUs whether measured memory grows with layers x batch, and by which law.

GPUMemNet drew inputs, depth, batch and kind of each network at random, so all networks differ. A
power law is fitted to each kind of network. The law of sizes is fitted to networks of equal layers,
because their names determine their parameters. Pairs of rows that differ in a single value replace
a grid.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.witnesses.runner import Record
from harness.analysis import AnalysisError
from harness.analysis.claim_judge import told
from harness.analysis.decisions import Decided, Ratio, geometric_ratio, interval, is_roughly
from harness.analysis.fits import Exponent, FittedModel, exponents, fit
from harness.analysis.judge import Part, judge
from harness.schema.findings import Claim, Verdict

NAME = (
    r"input:(?P<inputs>\d+)_output:(?P<classes>\d+)_depth:(?P<depth>\d+)_arch:(?P<kind>[a-z]+)"
    r"_batch:(?P<batch>\d+)(?P<second>_act)?"
)
FEWEST_INPUTS = 1_024
"""Smallest number of inputs; smaller networks take little beyond the allocator's first segments."""
AXES = ("depth", "batch", "inputs")


def frame_of(
    measured: Mapping[str, int], said: Mapping[str, Record], *, constant_bytes: int
) -> pd.DataFrame:
    """Return a row for each network, with its sizes and the bytes beyond the constant.

    Args:
        measured: bytes that nvidia-smi showed, by the row's name.
        said: bytes from the dry run.
        constant_bytes: bytes that nvidia-smi shows beyond the allocator.
    """
    names = pd.Series([name for name in measured if name in said])
    frame = names.str.extract(NAME)
    for column in (*AXES, "classes"):
        frame[column] = frame[column].astype(int)
    frame["measured"] = [measured[name] - constant_bytes for name in names]
    frame["predicted"] = [said[name]["predicted_bytes"] or 0 for name in names]
    return frame


def claim_of(frame: pd.DataFrame) -> Claim:
    """Return the verdict on "proportional to layers and batch" from the measured bytes."""
    second = verdict_of(frame, "predicted").words
    decision = verdict_of(frame, "measured")
    laws = [(kind, exponents_of(rows, "measured")) for kind, rows in _kinds(frame)]
    number = "; ".join(
        f"depth^{law['depth'].estimate:.2f} · batch^{law['batch'].estimate:.2f} ({kind})"
        for kind, law in laws
    )
    count = len(_large(frame))
    return told(__file__, "grown_bytes", decision, second=second, number=number, networks=count)


def verdict_of(frame: pd.DataFrame, column: str) -> Decided:
    """Judge the claim on one column, with each kind of network as a part."""
    parts = []
    for kind, rows in _kinds(frame):
        try:
            law = exponents_of(rows, column)
        except AnalysisError:
            decision = Decided(verdict=Verdict.OPEN)
        else:
            decision = judge(
                Part(name=f"the {axis}", decision=_is_one(law[axis])) for axis in AXES[:2]
            )
            if decision.verdict is Verdict.LIMITED:  # one of the two is not the product
                decision = Decided(verdict=Verdict.REFUTED)
        parts.append(Part(name=f"{kind} networks", decision=decision, cells=len(rows)))
    return judge(parts)


def _is_one(one: Exponent) -> Decided:
    low, high = interval(one.estimate, one.error, one.cells - len(AXES) - 1)
    return is_roughly(low=2.0 ** (low - 1), high=2.0 ** (high - 1), repeats=one.cells)


def exponents_of(rows: pd.DataFrame, column: str) -> dict[str, Exponent]:
    """Return the exponents of depth, batch and inputs."""
    return exponents({axis: rows[axis].to_numpy() for axis in AXES}, rows[column].to_numpy())


def _large(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["inputs"] >= FEWEST_INPUTS]


def _kinds(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(kind), rows) for kind, rows in _large(frame).groupby("kind")]


def law_of(frame: pd.DataFrame, column: str) -> FittedModel:
    """Fit the bytes of networks of equal layers on parameters, and on depth x batch x width."""
    rows = _equal_layers(frame)
    return fit(
        {
            "constant": np.ones(len(rows)),
            "parameters": parameters_of(rows).to_numpy(dtype=np.float64),
            "depth x batch x width": _product(rows).to_numpy(dtype=np.float64),
        },
        rows[column].to_numpy(dtype=np.float64),
    )


def share_of_product(frame: pd.DataFrame) -> float:
    """Return the median share of the term depth x batch x width in the measured bytes."""
    each = law_of(frame, "measured").coefficient("depth x batch x width").estimate
    rows = _equal_layers(frame)
    return float((each * _product(rows) / rows["measured"]).median())


def _equal_layers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the networks of equal ReLU layers, without normalization and dropout."""
    return frame[(frame["kind"] == "uniform") & frame["second"].isna()]


def parameters_of(rows: pd.DataFrame) -> pd.Series:
    """Return the number of parameters of networks of equal layers."""
    width = rows["inputs"]
    return rows["depth"] * (width * width + width) + (width + 1) * rows["classes"]


def _product(rows: pd.DataFrame) -> pd.Series:
    return rows["depth"] * rows["batch"] * rows["inputs"]


def pairs_of(frame: pd.DataFrame, doubled: str) -> list[tuple[int, int]]:
    """Return disjoint pairs of networks of equal layers, in which one value is doubled.

    Widths differ by at most 3%, and other values by at most 10%.
    """
    rows = _equal_layers(_large(frame)).sort_values("inputs")
    held = "batch" if doubled == "depth" else "depth"
    listed = list(rows[["inputs", doubled, held]].itertuples())
    used: set[int] = set()
    pairs = []
    for at, one in enumerate(listed):
        for other in listed[at + 1 :]:
            if other[1] > 1.03 * one[1]:
                break
            small, large = sorted((one, other), key=lambda each: each[2])
            alike = abs(large[3] / small[3] - 1) <= 0.1 and 1.9 <= large[2] / small[2] <= 2.1
            if alike and not used & {one[0], other[0]}:
                pairs.append((small[0], large[0]))
                used |= {one[0], other[0]}
    return pairs


def doubling(frame: pd.DataFrame, doubled: str, column: str) -> Ratio:
    """Return the factors of the bytes in such pairs."""
    size = frame[column].astype(float).to_dict()
    return geometric_ratio([size[large] / size[small] for small, large in pairs_of(frame, doubled)])
