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
    assert len(frame) == 1880
    for name in METRICS:
        equal, total = equal_cells(frame, name)
        assert equal == total >= 1850, name


def test_what_autograd_saves_on_cuda_is_the_closed_form_and_no_peak_is_predicted_there() -> None:
    frame = load(REFERENCE.parent / "reference-cuda-dry-run")
    cells = with_predictions(frame, [*METRICS[:4]])
    for name in METRICS[:3]:
        equal, total = equal_cells(cells, name)
        assert equal == total > 100, name
    assert equal_cells(cells, "peak_live_bytes") == (0, 0)
