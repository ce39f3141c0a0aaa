"""Planted networks: the verdict on layers x batch can hold, fail and stay open."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from benchmarks.witnesses.growth import claim_of, doubling, law_of, verdict_of
from harness.schema.findings import Verdict

KINDS = ["uniform", "gradual", "pyramid", "bottleneck"]


def networks(count: int, spread: float = 0.0) -> pd.DataFrame:
    """Sizes of networks as GPUMemNet drew them, and noise around 1."""
    random = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "inputs": random.integers(1_024, 4_096, count),
            "classes": random.integers(2, 500, count),
            "depth": random.integers(1, 11, count),
            "kind": random.choice(KINDS, count),
            "batch": random.integers(4, 1_024, count),
            "second": None,
            "noise": np.exp(random.normal(0, spread, count)),
        }
    )


def product(rows: pd.DataFrame) -> pd.Series:
    return rows["depth"] * rows["batch"] * rows["inputs"]


def not_of_pyramids(rows: pd.DataFrame) -> pd.Series:
    return product(rows).where(rows["kind"] != "pyramid", rows["inputs"])


@pytest.mark.parametrize(
    ("count", "spread", "size", "verdict", "fails_for"),
    [
        (800, 0.05, product, Verdict.SUPPORTED, None),
        (800, 0.05, not_of_pyramids, Verdict.LIMITED, "pyramid networks"),
        (800, 0.05, lambda rows: rows["depth"] * rows["inputs"] ** 2, Verdict.REFUTED, None),
        (60, 1.5, product, Verdict.OPEN, None),
    ],
)
def test_the_claim_holds_fails_or_stays_open_as_the_planted_bytes_grow(
    count: int, spread: float, size: Callable[[pd.DataFrame], pd.Series], verdict: Verdict,
    fails_for: str | None,
) -> None:  # fmt: skip
    rows = networks(count, spread)
    rows["measured"] = rows["predicted"] = size(rows) * rows["noise"]
    decision = verdict_of(rows, "measured")
    assert decision.verdict is verdict
    assert fails_for in (None, decision.fails_for)
    claim = claim_of(rows)
    assert claim.verdict is verdict
    holds = verdict in (Verdict.SUPPORTED, Verdict.LIMITED)
    assert ("(verdict: holds" in claim.second) == holds


def test_the_law_finds_planted_bytes_a_parameter_and_an_activation() -> None:
    rows = networks(4_000)
    rows["kind"] = "uniform"
    width = rows["inputs"]
    parameters = rows["depth"] * (width * width + width) + (width + 1) * rows["classes"]
    rows["measured"] = 1e7 + 20 * parameters + 6 * rows["depth"] * rows["batch"] * width
    law = law_of(rows, "measured")
    assert round(law.coefficient("parameters").estimate, 3) == 20
    assert round(law.coefficient("depth x batch x width").estimate, 3) == 6
    assert 1.8 < doubling(rows, "depth", "measured").estimate < 2
    assert doubling(rows, "batch", "measured").estimate < 1.3
