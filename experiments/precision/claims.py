"""Claims: half the bits take half the memory, and so does autocast."""

import pandas as pd

from harness.schema.findings import Claim, Verdict


def of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of one precision."""
    return table[table["precision"] == name].reset_index(drop=True)


def halves(table: pd.DataFrame) -> list[Claim]:
    """Judge bfloat16."""
    return _scaled(table, "bfloat16", 2, "Half the bits take half the memory (bfloat16).")


def doubles(table: pd.DataFrame) -> list[Claim]:
    """Judge float64."""
    return _scaled(table, "float64", 8, "Twice the bits take twice the memory (float64).")


def _scaled(table: pd.DataFrame, name: str, size_bytes: int, sentence: str) -> list[Claim]:
    """Judge a type of ``size_bytes``: everything but the int64 labels scales with it."""
    own = of(table, name)
    if own.empty:
        return []
    wanted = size_bytes / 4
    saved = int((own["saved_less_labels_ratio"] == wanted).sum())
    held = int((own["parameter_ratio"] == wanted).sum())
    low, high = float(own["peak_ratio"].min()), float(own["peak_ratio"].max())
    exact = saved == held == len(own)
    near = max(abs(low / wanted - 1), abs(high / wanted - 1)) <= 0.1
    return [
        Claim(
            sentence=sentence,
            verdict=_verdict(exact, near),
            measured=f"Parameters are exactly {wanted:g} times float32's in {held} of {len(own)} "
            "cells, and so is what is saved for backward, labels (int64) aside, in "
            f"{saved} of {len(own)}. The peak is {low:.4g} to {high:.4g} times: labels and the "
            "scratch of the matrix library do not follow the type.",
            number=f"{wanted:g} times saved and parameters; peak {low:.4g} to {high:.4g} times",
        )
    ]


def _verdict(exact: bool, near: bool) -> Verdict:
    if exact and near:
        return Verdict.SUPPORTED
    return Verdict.LIMITED if exact or near else Verdict.REFUTED


def autocast(table: pd.DataFrame) -> list[Claim]:
    """Judge whether autocast halves what a step needs."""
    own = of(table, "autocast bfloat16")
    if own.empty:
        return []
    ordered = own.sort_values("saved_ratio")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    peaks = own["peak_ratio"]
    more = int((own["saved_ratio"] >= 1).sum())
    halved = int((own["saved_ratio"] <= 0.5).sum())
    return [
        Claim(
            sentence="Autocast to bfloat16 halves the memory of a training step.",
            headline="Autocast to bfloat16 halves the memory of a step",
            verdict=Verdict.SUPPORTED if halved == len(own) else Verdict.REFUTED,
            measured="What is saved for backward is "
            f"{low['saved_ratio']:.3g} times float32's at best (depth {low['depth']}, batch "
            f"{low['batch']}) and {high['saved_ratio']:.3g} times at worst (depth {high['depth']}, "
            f"batch {high['batch']}); in {more} of {len(own)} cells autocast saves no bytes at "
            f"all or costs some. The peak is {peaks.min():.3g} to {peaks.max():.3g} times "
            "float32's: parameters and gradients stay float32, and the batch is there twice.",
            number=f"peak {peaks.min():.3g} to {peaks.max():.3g} times float32's",
        )
    ]
