"""Every record of the reference run predicted again: the bytes are those that were measured."""

from pathlib import Path

from harness.analysis.frame import load
from harness.analysis.predictions import equal_cells, with_predictions

REFERENCE = Path(__file__).parents[2] / "results" / "reference-cpu"

METRICS = (
    "saved_bytes",
    "saved_input_bytes",
    "saved_activation_bytes",
    "peak_live_bytes",
    "first_step_peak_live_bytes",
    "live_at_start_bytes",
    *(
        f"categories_at_peak.{name}"
        for name in ("parameter", "gradient", "optimizer_state", "input", "activation", "temporary")
    ),
)


def test_every_metric_of_the_reference_run_is_predicted_to_the_byte() -> None:
    frame = with_predictions(load(REFERENCE), METRICS)
    assert len(frame) == 2023
    counts = {name: equal_cells(frame, name) for name in METRICS}
    assert {name: equal for name, (equal, _) in counts.items()} == {
        name: total for name, (_, total) in counts.items()
    }
    assert min(total for _, total in counts.values()) > 1900
