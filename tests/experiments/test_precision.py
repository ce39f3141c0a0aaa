"""Ratios of precisions on planted records; autocast's formula against a real step."""

from pathlib import Path

import pytest

from experiments import precision as experiment
from experiments.precision import ratios as precision_effect
from harness.measurement.passes import saved_pass
from harness.prediction.mlp import formula
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.metrics import CategoryBytes
from harness.schema.record import Record
from harness.schema.workload import Workload
from harness.training import data, training_step
from harness.training.module_step import no_phase
from tests.analysis import planted
from tests.experiments.predicted_records import named, section


def record(workload: Workload, scale: float = 1.0) -> Record:
    """Everything in proportion to the type, the labels aside; autocast by its formula."""
    saved = formula.saved_bytes(workload)
    if workload.autocast:
        saved = precision_effect.autocast_saved_bytes(workload)
    held = formula.parameter_bytes(workload)
    return planted.record(
        workload,
        saved_bytes=saved,
        peak_live_bytes=round(scale * (2 * held + saved)),
        categories_at_peak=CategoryBytes(parameter=held, activation=saved, gradient=held),
    )


def test_planted_types_scale_and_autocast_does_not(tmp_path: Path) -> None:
    records = [record(cell) for cell in experiment.cells(Size.DEFAULT)]
    half, double, autocast = section(experiment, tmp_path, records).claims
    assert half.verdict is Verdict.SUPPORTED
    assert double.verdict is Verdict.SUPPORTED
    assert "in 8 of 8" in half.measured
    assert autocast.verdict is Verdict.REFUTED


def test_a_type_that_does_not_halve_is_refuted(tmp_path: Path) -> None:
    cells = list(experiment.cells(Size.DEFAULT))
    records = [
        planted.record(
            cell,
            saved_bytes=formula.saved_bytes(cell.replace(dtype="float32")),
            categories_at_peak=CategoryBytes(parameter=1000),
        )
        for cell in cells
        if cell.autocast is None
    ]
    half = named(section(experiment, tmp_path, records), "Half the bits")
    assert half.verdict is Verdict.REFUTED


@pytest.mark.exact
@pytest.mark.parametrize(("depth", "batch"), [(1, 3), (2, 64), (3, 7)])
def test_the_formula_of_autocast_is_what_a_real_step_saves(depth: int, batch: int) -> None:
    workload = Workload(depth=depth, width=24, in_features=40, batch=batch, autocast="bfloat16")
    built = training_step.build(workload, data.source(workload))
    measured = saved_pass(built, no_phase)["saved_bytes"]
    assert measured == precision_effect.autocast_saved_bytes(workload)
