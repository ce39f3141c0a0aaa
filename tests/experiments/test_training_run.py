"""A planted leak is found, a real one too; the quick form for real."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
import torch

from experiments import training_run as experiment
from experiments.training_run.growth import growth_interval, resident_slope
from experiments.training_run.runs import runs
from harness.analysis.evidence import section_of
from harness.analysis.frame import lines_if_there
from harness.measurement import whole_run as worker
from harness.reporting.progress import Lines
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.record import Outcome
from harness.schema.training_run import (
    TRAINING_RUNS,
    Epoch,
    Instrument,
    StepColumns,
    TrainingJob,
    TrainingPlan,
    TrainingResult,
    TrainingRun,
    ZeroGrad,
    from_json,
)
from harness.schema.workload import Workload
from harness.sweeps.experiment_files import find
from harness.sweeps.sweep import run
from tests.experiments.predicted_records import named, section
from tests.known import known

EXPERIMENT = find("training_run")
FULL, PARTIAL = 256, 96


def plan_of(instrument: Instrument, zero_grad: ZeroGrad) -> TrainingPlan:
    """Return the plan of the full run."""
    jobs = EXPERIMENT.training_runs(Size.FULL)
    plans = (job.plan for job in jobs)
    return next(one for one in plans if (one.instrument, one.zero_grad) == (instrument, zero_grad))


def planted(
    instrument: Instrument,
    *,
    epochs: int = 20,
    leak: int = 0,
    model: Literal["mlp", "mlp-scratch"] = "mlp",
    accuracy: float = 0.85,
    data: str = "fashion-mnist",
    images_missing: str | None = None,
    zero_grad: ZeroGrad = "after_forward",
    saved: int = 0,
) -> TrainingRun:
    """Epochs of nine full steps, each of which leaves ``leak`` bytes and saves that much."""
    epoch = [*[("train", FULL)] * 9, ("train", PARTIAL), *[("evaluate", FULL)] * 2]
    rows = [(*row, at) for at in range(1, epochs + 1) for row in (*epoch, ("evaluate", 16))]
    held = [leak * sum(kind == "train" for kind, *_ in rows[: at + 1]) for at in range(len(rows))]
    steps: dict[str, Any] = {
        name: [row[at] for row in rows] for at, name in enumerate(("kind", "rows", "epoch"))
    }
    if instrument == "trace":
        steps["start_bytes"] = steps["end_bytes"] = [1000 + more for more in held]
        peaks = [5000 + row[1] + more - saved for row, more in zip(rows, held, strict=True)]
        steps["peak_bytes"] = peaks
    else:
        noise = [10**8 + (7919 * at) % 4096 for at in range(len(rows))]
        steps["resident_bytes"] = [a + b for a, b in zip(noise, held, strict=True)]
        steps["rise_bytes"] = [5_000_000] + [0] * (len(rows) - 1)
        steps["seconds"] = [0.01] * len(rows)
    ended = [Epoch(epoch=at + 1, accuracy=accuracy, seconds=1.0) for at in range(epochs)]
    return TrainingRun(
        workload=Workload(data=data, model=model), outcome=Outcome.OK,
        images_missing=images_missing, plan=plan_of(instrument, zero_grad),
        result=TrainingResult(epochs=tuple(ended), steps=msgspec.convert(steps, StepColumns)),
    )  # fmt: skip


def test_the_planted_slope_lies_in_its_interval() -> None:
    (run,) = runs([planted("resident", leak=4096)])
    slope = known(resident_slope(run))
    assert slope.low < 4096 < slope.high
    assert (slope.epochs, slope.steps_per_epoch) == (19, 10)


@pytest.mark.parametrize(("memory", "widest"), [(1.0, 0.995), (0.9, 1.0), (0.0, 1.0)])
def test_the_interval_of_growth_covers_it_however_the_levels_depend(
    memory: float, widest: float
) -> None:
    """Levels that keep all of what was before, nine tenths of it, or nothing (white noise)."""
    random = np.random.default_rng(11)
    hits, simulations, truth = 0, 2000, 3.0
    for _ in range(simulations):
        noise = np.zeros(19)
        for at, shock in enumerate(random.standard_normal(19)):
            noise[at] = memory * noise[at - 1] + shock if at else shock
        _, low, high = growth_interval(truth * np.arange(19) + noise)
        hits += low <= truth <= high
    assert 0.985 <= hits / simulations <= widest


def test_images_that_are_missing_are_named(tmp_path: Path) -> None:
    missing = planted("trace", data="synthetic", images_missing="not on this machine")
    random = section("training_run", tmp_path, [missing])
    assert "The real images were not found (not on this machine)." in random.text[0]


def test_what_a_network_learns_is_a_check_and_no_claim(tmp_path: Path) -> None:
    said = section("training_run", tmp_path, [planted("trace", accuracy=0.8342)])
    assert "After 10 epochs with one seed it is 0.8342" in said.text[0]
    assert "0.8342 (mlp) on 10,000 validation images. Guessing gives 10%" in said.text[0]
    assert not any("learn" in claim.sentence for claim in said.claims)


TINY = Workload(width=8, in_features=12, batch=4)


def sets() -> tuple[worker.Images, worker.Images]:
    x = torch.arange(11 * 12, dtype=torch.uint8).reshape(11, 12)
    y = torch.arange(11) % 10
    return worker.Images(x, y), worker.Images(x[:6], y[:6])


def test_the_trace_of_a_real_run_is_flat_and_sums_up() -> None:
    result = worker.traced(worker.Training(TINY, *sets(), 3))
    steps = result["steps"]
    assert steps["rows"] == [4, 4, 3, 4, 2] * 3
    assert steps["kind"] == (["train"] * 3 + ["evaluate"] * 2) * 3
    parameters = 4 * (12 * 8 + 8 + 8 * 10 + 10)
    assert steps["start_bytes"] == [parameters] + [2 * parameters] * 14
    assert steps["end_bytes"] == [2 * parameters] * 15
    kinds = set(zip(steps["kind"], steps["rows"], steps["peak_bytes"], strict=True))
    peaks = {(kind, rows): peak for kind, rows, peak in kinds}
    assert len(peaks) == len(kinds) == 4, "one peak for each kind of step"
    for name, kind in (("a later step", "train"), ("evaluation", "evaluate")):
        assert sum(result["categories"][name].values()) == peaks[kind, 4]


def test_a_real_leak_shows_in_the_trace_to_the_byte() -> None:
    kept = []
    result = worker.traced(
        worker.Training(TINY, *sets(), 2), after=lambda: kept.append(torch.zeros(25))
    )
    starts = result["steps"]["start_bytes"]
    assert {b - a for a, b in itertools.pairwise(starts[1:])} == {100}


@pytest.mark.slow
def test_the_quick_form_runs_and_is_analysed(tmp_path: Path) -> None:
    run(EXPERIMENT, Size.QUICK, tmp_path, Lines())
    folder = tmp_path / EXPERIMENT.name
    result = lines_if_there(folder / TRAINING_RUNS, from_json)
    assert [(one.workload.model, one.plan.instrument, one.plan.zero_grad) for one in result] == [
        (model, *kind) for model in experiment.MODELS for kind in experiment.KINDS
    ]
    answer, evidence = section_of(EXPERIMENT, folder)
    assert (evidence.size, evidence.doubts) == (Size.QUICK, ())
    assert named(answer, "every full step").verdict is Verdict.SUPPORTED
    order = named(answer, "Freeing the gradients only after the forward pass")
    assert order.verdict is Verdict.SUPPORTED
    assert "For mlp, the peak of 2,957,392 bytes is in the forward pass" in order.measured
    assert "freed first, the peak of 2,695,256 bytes is in the backward pass" in order.measured


@pytest.mark.slow
def test_without_real_images_the_run_says_how_to_get_them_and_uses_synthetic_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "empty"))
    plan = TrainingPlan(epochs=1, examples=300, validation=300)
    wanted = TrainingJob(workload=Workload(data="fashion-mnist"), plan=plan)
    own = dataclasses.replace(EXPERIMENT, cells=lambda _: (), training_runs=lambda _: [wanted])
    run(own, Size.QUICK, tmp_path, Lines())
    assert "install Debian's package dataset-fashion-mnist" in capsys.readouterr().err
    (one,) = lines_if_there(tmp_path / own.name / TRAINING_RUNS, from_json)
    assert one.workload.data == "synthetic"
    assert one.images_missing is not None
    run(own, Size.QUICK, tmp_path, Lines())
    assert len(lines_if_there(tmp_path / own.name / TRAINING_RUNS, from_json)) == 1
