"""Every record of the reference run predicted again: the bytes are those that were measured."""

from pathlib import Path

from harness.analysis.frame import load
from harness.analysis.predictions import equal_cells, with_predictions
from harness.schema.metrics import CategoryBytes

REFERENCE = Path(__file__).parents[2] / "results" / "reference-cpu"

METRICS = [
    *("saved_bytes", "saved_input_bytes", "saved_activation_bytes", "peak_live_bytes"),
    *("first_step_peak_live_bytes", "live_at_start_bytes"),
    *(f"categories_at_peak.{name}" for name in CategoryBytes.__struct_fields__),
]


def test_every_metric_of_the_reference_run_is_predicted_to_the_byte() -> None:
    frame = with_predictions(load(REFERENCE), METRICS)
    assert len(frame) == 2059
    for name in METRICS:
        equal, total = equal_cells(frame, name)
        assert equal == total > 1900, name


def test_a_record_is_predicted_for_the_version_of_pytorch_that_it_was_measured_with() -> None:
    """Whichever is installed here: torch 2.15, with which these were made, has rules of its own."""
    frame = load(REFERENCE.parent / "reference-cuda-dry-run")
    cells = frame[frame["experiment"] == "width"].iloc[:20]
    metric = "cuda.allocated_peak_bytes"
    equal, total = equal_cells(with_predictions(cells, [metric]), metric)
    assert equal == total == 20
    older = cells.assign(**{"environment.torch": "2.13.0"})
    assert equal_cells(with_predictions(older, [metric]), metric) == (0, total)
