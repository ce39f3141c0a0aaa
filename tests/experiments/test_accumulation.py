"""Micro-batches on predicted records."""

from pathlib import Path

from experiments import accumulation as experiment
from harness.prediction.predict_workload import predict
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from tests.experiments.predicted_records import named, record, section
from tests.known import known


def test_predicted_records_support_one_sentence_and_refute_the_other(tmp_path: Path) -> None:
    records = [record(cell) for cell in experiment.cells(Size.DEFAULT)]
    result = section(experiment, tmp_path, records)
    activations, peak = result.claims
    assert activations.verdict is Verdict.SUPPORTED
    assert activations.number == "12 of 12 cells equal to the byte"
    assert peak.verdict is Verdict.REFUTED
    assert any("the peak in 14 of 14 cells" in text for text in result.text)


def test_one_byte_more_is_seen(tmp_path: Path) -> None:
    cells = list(experiment.cells(Size.QUICK))
    saved = known(predict(cells[-1]).saved_activation_bytes)
    records = [record(cell) for cell in cells[:-1]]
    records.append(record(cells[-1], saved_activation_bytes=saved + 1))
    result = section(experiment, tmp_path, records)
    assert named(result, "divides the activations").fails_for == "parts 8"
