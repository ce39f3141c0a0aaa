from pathlib import Path

import pytest

from experiments.training_vs_inference import pairs
from harness.analysis.frame import load
from harness.schema.workload import Workload
from tests.analysis import planted
from tests.experiments import predicted_records
from tests.experiments.test_planted_verdicts import base

NAME = "training_vs_inference"


def test_parts_of_the_difference_are_those_of_the_two_peaks(tmp_path: Path) -> None:
    section = predicted_records.section("training_vs_inference", tmp_path, base(NAME))
    (table,) = [one.frame for one in section.tables if one.name == "pairs"]
    parts = [column for column in table if str(column).startswith("more_")]
    assert (table[parts].sum(axis=1) == table["difference_bytes"]).all()
    more, _, _ = section.claims
    assert f"of {len(table)} cells" in more.number
    assert "at least 1.1 in " in more.measured


def test_one_cell_by_hand(tmp_path: Path) -> None:
    """784 -> 64 -> 10, batch 256, SGD, counted moment by moment on paper."""
    pair = [Workload(width=64, batch=256, mode=mode) for mode in ("train", "inference")]
    planted.write(tmp_path, map(predicted_records.record, pair))
    row = pairs.pairs(load(tmp_path)).iloc[0]
    parameters = 4 * (785 * 64 + 65 * 10)
    hidden = 256 * 64 * 4
    assert row["inference_bytes"] == parameters + 256 * 784 * 4 + 2 * hidden
    # all gradients, the labels, the hidden layer's gradient, loss and its gradient
    assert row["training_bytes"] == 2 * parameters + 256 * (784 * 4 + 8) + hidden + 8
    assert row["limit"] == pytest.approx(1 + (64 + 2) / (784 + 128))
