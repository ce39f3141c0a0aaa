"""Claims: training needs more memory than inference, for activations, and more with depth."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.schema.findings import Claim, Verdict

from .pairs import base, more

SIGNIFICANT = 2.0
"""The note's "significantly more": at least this many times as much."""


def _named(row: Mapping[Any, Any]) -> str:
    names = {"sgd": "SGD", "adam": "Adam"}
    kind = names.get(str(row["optimizer"]), str(row["optimizer"]))
    return f"{kind}, depth {row['depth']}, width {row['width']}, batch {row['batch']}"


def more_verdict(table: pd.DataFrame) -> Claim:
    """Judge whether training needs at least twice as much as inference."""
    rows = table.sort_values("ratio").to_dict("records")
    low, high = rows[0], rows[-1]
    twice = int((table["ratio"] >= SIGNIFICANT).sum())
    verdict = Verdict.SUPPORTED if twice == len(table) else Verdict.LIMITED
    if low["ratio"] <= 1:
        verdict = Verdict.REFUTED
    below = table[table["ratio"] < SIGNIFICANT]
    where = ""
    if len(below):
        where = (
            f" Less than twice: {int((below['optimizer'] == 'sgd').sum())} cells with SGD and "
            f"{int((below['optimizer'] != 'sgd').sum())} with Adam; the shallow networks, where "
            "there is little to hold on to, and small batches with SGD, where gradients only "
            "double the parameters."
        )
    return Claim(
        sentence="Training requires significantly more memory than plain prediction.",
        verdict=verdict,
        measured=f"The peak of a training step is {low['ratio']:.3g} times ({_named(low)}) to "
        f"{high['ratio']:.3g} times ({_named(high)}) that of inference, median "
        f"{table['ratio'].median():.3g}; at least twice in {twice} of {len(table)} cells." + where,
        number=f"{low['ratio']:.3g} to {high['ratio']:.3g} times as much",
    )


def reasons_verdict(table: pd.DataFrame) -> Claim:
    """Judge whether held activations are the largest part of the difference."""
    activations = table[table["leading"] == "activation"]
    count, total = len(activations), len(table)
    verdict = Verdict.SUPPORTED if count == total else Verdict.LIMITED
    if not count:
        verdict = Verdict.REFUTED
    shares = activations[more("activation")] / activations["difference_bytes"]
    led = table["leading"].value_counts()
    words = ", ".join(f"{str(name).replace('_', ' ')} in {number}" for name, number in led.items())
    text = f"What adds most to inference's peak: {words} of {total} cells."
    if count:
        text += (
            f" Held activations lead from a batch of {activations['batch'].min()} on, with "
            f"{100 * shares.min():.3g} to {100 * shares.max():.3g}% of the difference. With small "
            "batches it is gradients, as many bytes as the parameters, and Adam's state, twice as "
            "many: they belong to training, but not to holding on to intermediate values."
        )
    return Claim(
        sentence="Backpropagation is one of the reasons: it holds on to the intermediate values "
        "calculated during forward propagation.",
        verdict=verdict,
        measured=text,
        number=f"activations are the largest part in {count} of {total} cells",
    )


def depth_verdict(table: pd.DataFrame) -> list[Claim]:
    """Judge whether the ratio grows with depth, at the largest and at the smallest batch."""
    own = base(table[table["optimizer"] == "sgd"])
    if own["depth"].nunique() < 2:
        return []
    large = own[own["batch"] == own["batch"].max()].sort_values("depth")
    small = own[own["batch"] == own["batch"].min()].sort_values("depth")
    grows = bool((large["ratio"].diff().dropna() > 0).all())
    flat = small["ratio"].max() / small["ratio"].min() < 1.1
    first, last = large.iloc[0], large.iloc[-1]
    width, features = int(last["width"]), int(last["in_features"])
    verdict = Verdict.REFUTED if not grows else Verdict.LIMITED if flat else Verdict.SUPPORTED
    return [
        Claim(
            sentence="The deeper the network, the more times as much memory training needs.",
            verdict=verdict,
            measured=f"At batch {last['batch']} (SGD, width {width}) the ratio goes from "
            f"{first['ratio']:.3g} at depth {first['depth']} to {last['ratio']:.3g} at depth "
            f"{last['depth']}, on its way to {last['limit']:.3g} for ever larger batches: each "
            f"layer adds width / (features + 2·width) = {width / (features + 2 * width):.3g}, at "
            "most ½ however wide. At batch "
            f"{small['batch'].min()} it stays between {small['ratio'].min():.3g} and "
            f"{small['ratio'].max():.3g}: parameters and gradients grow alike.",
            number=f"{last['ratio']:.3g} times at depth {last['depth']}, batch {last['batch']}",
        )
    ]
