"""Ratios of precisions on planted records; autocast's formula against a real step."""

from pathlib import Path

import pandas as pd
import pytest

from experiments import precision as experiment
from experiments.precision import ratios as precision_effect
from harness.analysis.frame import load
from harness.measurement.passes import saved_pass
from harness.prediction.mlp import formula
from harness.schema.experiment import Evidence, Size
from harness.schema.findings import Section, Verdict
from harness.schema.metrics import CategoryBytes
from harness.schema.record import Record
from harness.schema.workload import Workload
from harness.training import data, training_step
from tests.analysis import planted
from tests.experiments.verdicts import named


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


def section(folder: Path) -> Section:
    return experiment.analyse(Evidence(frame=load(folder), folder=folder))


def test_planted_types_scale_and_autocast_does_not(tmp_path: Path) -> None:
    planted.write(tmp_path, [record(cell) for cell in experiment.cells(Size.DEFAULT)])
    half, double, autocast = section(tmp_path).claims
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
    planted.write(tmp_path, records)
    assert named(section(tmp_path), "Half the bits").verdict is Verdict.REFUTED


@pytest.mark.exact
@pytest.mark.parametrize(("depth", "batch"), [(1, 3), (2, 64), (3, 7)])
def test_the_formula_of_autocast_is_what_a_real_step_saves(depth: int, batch: int) -> None:
    workload = Workload(depth=depth, width=24, in_features=40, batch=batch, autocast="bfloat16")
    built = training_step.build(workload, data.source(workload))
    measured = saved_pass(built, training_step.no_phase)["saved_bytes"]
    assert measured == precision_effect.autocast_saved_bytes(workload)


@pytest.mark.parametrize("depth", [1, 2, 8, 32])
def test_from_the_break_even_batch_on_autocast_saves_less(depth: int) -> None:
    batch = precision_effect.break_even_batch(Workload(depth=depth))
    for size, less in ((batch, True), (batch - 1, False)):
        workload = Workload(depth=depth, batch=size)
        assert (
            precision_effect.autocast_saved_bytes(workload) < formula.saved_bytes(workload)
        ) is less


def test_the_copies_are_those_alive_when_they_are_most() -> None:
    cast = "aten::linear/aten::to/aten::_to_copy/aten::empty_strided"
    rows = [
        (1, "forward", cast, "activation", 7, 1),
        (1, "forward", cast, "activation", -7, 1),
        (2, "forward", cast, "activation", 10, 1),
        (2, "forward", "aten::addmm", "activation", 99, 2),
        (2, "forward", cast, "temporary", 20, 3),
        (2, "forward", cast, "temporary", -20, 3),
        (2, "forward", cast, "temporary", 30, 3),
        (2, "forward", cast, "temporary", -30, 3),
        (2, "backward", cast, "gradient", 50, 4),
    ]
    columns = ["step", "phase", "operator", "category", "size_bytes", "address"]
    events = pd.DataFrame(rows, columns=columns).assign(module="m")
    result = precision_effect.copies_in_forward(events)
    assert list(result["size_bytes"]) == [30, 10]
    assert list(result["category"]) == ["temporary", "activation"]
