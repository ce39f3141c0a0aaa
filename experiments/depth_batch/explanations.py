"""Which formula the bytes follow, where the claim breaks, and on what."""

from collections.abc import Mapping

import pandas as pd

from harness.analysis import predictions
from harness.analysis.frame import AT_PEAK, ok_cells

from .proportionality import PRODUCT, Growth, exact_in, sample
from .verdicts import PARTS


def formula_text(training: pd.DataFrame) -> list[str]:
    """Check the closed formula of saved bytes cell by cell, and count."""
    known = ok_cells(training, "saved_bytes")
    known = known[(known["activation"] == "relu") & (known["dtype"] == "float32")]
    known = known[(known["model"] == "mlp") & known["width"].notna()]
    if known.empty:
        return []
    row_bytes = 4 * known["in_features"] + 8 + 4 * known["depth"] * known["width"]
    expected = known["batch"] * (row_bytes + 4 * known["classes"]) + 4
    equal = int((expected == known["saved_bytes"]).sum())
    return [
        (
            "With ReLU and float32, autograd should save "
            "B·(4·features + 8 + 4·Σ hidden + 4·classes) + 4 bytes. These are the batch and its "
            "labels, one activation of each hidden layer, the log-probabilities, and one total "
            f"weight. The formula is exact in {equal} of {len(known)} cells."
        )
    ]


def others_text(others: pd.DataFrame) -> list[str]:
    """Say whether the laws of the bytes hold at other widths and numbers of threads."""
    metrics = {"saved_bytes": "the saved bytes", "peak_live_bytes": "the peak"}
    if others.empty:
        return []
    known = predictions.with_predictions(others, list(metrics))
    widths, threads = (
        ", ".join(f"{value:,}" for value in sorted(known[name].unique()))
        for name in ("width", "threads")
    )
    text = f"The same formulas were tested at widths {widths}, and with {threads} threads. "
    return [text + predictions.in_words(known, metrics)]


def why_text(training: pd.DataFrame, growths: Mapping[str, Growth]) -> list[str]:
    """Say where the claim breaks, and on what."""
    text = (
        "Three parts break the claim. The examples and the logits grow only with the batch. The "
        "parameters and their gradients grow only with the depth. The first and the last layer are "
        "constant."
    )
    names = AT_PEAK
    known = ok_cells(training, *AT_PEAK)
    if known.empty:
        return [text]
    parameters = exact_in(sample(known, "categories_at_peak.parameter"), PRODUCT[:2])
    if parameters is not None:
        text += f" Parameters take {parameters} bytes at every batch, and so do gradients."
    largest = known[names].astype("int64").idxmax(axis=1)
    led = known[largest == "categories_at_peak.activation"]
    text += f" Activations are the largest part of the peak in {len(led)} of {len(known)} cells"
    if len(led):
        text += f", from batch {led['batch'].min()} on"
    return [text + ".", *_moments_text(known, names, growths.get("peak live"))]


def _moments_text(known: pd.DataFrame, names: list[str], peak: Growth | None) -> list[str]:
    """Say what is alive at each of the moments that a peak can be."""
    if peak is None or peak.pieces is None or len(peak.pieces.forms) < 2 or not peak.whole:
        return []
    ordered = known.sort_values(["depth", "batch"])
    if len(ordered) != len(peak.sample.values):
        return []
    parts = []
    for number, form in enumerate(peak.pieces.forms):
        own = ordered.loc[peak.moments() == number, names].astype("int64").sum()
        shares = (own / own.sum()).sort_values(ascending=False)
        made = ", ".join(
            f"{share:.0%} {PARTS[str(name).rpartition('.')[2]]}"
            for name, share in shares.items()
            if share > 0.01
        )
        count = int((peak.moments() == number).sum())
        parts.append(f" In {count} cells it is {form} ({made}).")
    return [f"The peak is the highest of {len(parts)} moments of the step." + "".join(parts)]


def failures_text(frame: pd.DataFrame) -> list[str]:
    """Say which cells failed, and how."""
    failed = frame[frame["outcome"] != "ok"]
    if failed.empty:
        return []
    counts = failed["outcome"].value_counts().sort_index()
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    return [f"{len(failed)} of {len(frame)} cells failed ({words}) and are left out."]
