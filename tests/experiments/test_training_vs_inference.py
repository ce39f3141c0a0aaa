from pathlib import Path

import pytest

from experiments.training_vs_inference import pairs
from harness.analysis.frame import load
from harness.schema.metrics import CategoryBytes
from harness.schema.record import Record
from harness.schema.workload import Workload
from tests.analysis import planted
from tests.experiments import predicted_records


def _planted(mode: str, batch: int, **bytes_of: int) -> Record:
    return predicted_records.record(
        Workload(mode=mode, batch=batch),
        peak_live_bytes=sum(bytes_of.values()),
        categories_at_peak=CategoryBytes(**bytes_of),
    )


PLANTED = (
    _planted("inference", 1, parameter=1000, input=10, temporary=40),
    _planted("train", 1, parameter=1000, input=20, gradient=1000, temporary=30),
    _planted("inference", 64, parameter=1000, input=640, temporary=400),
    _planted("train", 64, parameter=1000, input=1280, activation=3000, temporary=900),
)


def test_planted_parts_of_the_difference_come_back(tmp_path: Path) -> None:
    section = predicted_records.section("training_vs_inference", tmp_path / "all", PLANTED)
    (table,) = [one.frame for one in section.tables if one.name == "pairs"]
    assert list(table["difference_bytes"]) == [1000, 4140]
    assert list(table["more_gradient_bytes"]) == [1000, 0]
    assert list(table["more_temporary_bytes"]) == [-10, 500]
    assert list(table["leading"]) == ["gradient", "activation"]
    more, reasons, _ = section.claims
    assert more.words == "fails; holds only for batch 64"
    assert more.number == "1.95 to 3.03 times as much; at least twice in 1 of 2 cells"
    assert reasons.words == "fails; holds only for batch 64"
    assert "0 to 72.5% of the difference" in reasons.measured
    assert "less than twice" in more.measured
    large, *_ = predicted_records.section(
        "training_vs_inference", tmp_path / "large", PLANTED[2:]
    ).claims
    assert large.words == "holds"
    assert "less than twice" not in large.measured


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
