"""Planted networks: the verdict on layers x batch can hold, fail and stay open."""

import numpy as np
import pandas as pd

from benchmarks.witnesses.growth import claim_of, doubling, law_of, verdict_of
from harness.schema.findings import Verdict

GENERATOR = np.random.default_rng(7)
COUNT = 800


def networks(count: int = COUNT) -> pd.DataFrame:
    """Sizes of networks as GPUMemNet drew them."""
    return pd.DataFrame(
        {
            "inputs": GENERATOR.integers(1_024, 4_096, count),
            "classes": GENERATOR.integers(2, 500, count),
            "depth": GENERATOR.integers(1, 11, count),
            "kind": GENERATOR.choice(["uniform", "gradual", "pyramid", "bottleneck"], count),
            "batch": GENERATOR.integers(4, 1_024, count),
            "second": None,
        }
    )


def noise(count: int = COUNT) -> np.ndarray:
    return np.exp(GENERATOR.normal(0, 0.05, count))


def test_the_claim_holds_where_bytes_are_proportional_to_depth_and_batch() -> None:
    rows = networks()
    product = rows["depth"] * rows["batch"] * rows["inputs"]
    rows["measured"] = rows["predicted"] = 4.0 * product * noise()
    claim = claim_of(rows)
    assert claim.verdict is Verdict.SUPPORTED
    assert "predictions: holds" in claim.second


def test_the_claim_fails_where_parameters_take_the_memory() -> None:
    rows = networks()
    rows["measured"] = 20.0 * rows["depth"] * rows["inputs"] ** 2 * noise()
    assert verdict_of(rows, "measured").verdict is Verdict.REFUTED


def test_the_claim_holds_in_part_where_one_kind_of_network_does_not_grow() -> None:
    rows = networks()
    product = rows["depth"] * rows["batch"] * rows["inputs"]
    grows = rows["kind"] != "pyramid"
    rows["measured"] = np.where(grows, product, rows["inputs"]) * noise()
    decision = verdict_of(rows, "measured")
    assert decision.verdict is Verdict.LIMITED
    assert decision.fails_for == "pyramid networks"


def test_the_claim_stays_open_with_few_noisy_networks() -> None:
    rows = networks(60)
    product = rows["depth"] * rows["batch"] * rows["inputs"]
    rows["measured"] = product * np.exp(GENERATOR.normal(0, 1.5, 60))
    assert verdict_of(rows, "measured").verdict is Verdict.OPEN


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
