"""A planted leak is found, a real one too; the run resumes; the quick form for real."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import training_run as experiment
from harness.analysis import AnalysisError, epochs
from harness.analysis.frame import load_files
from harness.measurement import whole_run as worker
from harness.reporting.progress import Lines
from harness.schema.experiment import Evidence, Size
from harness.schema.findings import Ruling, Section
from harness.schema.workload import Workload
from harness.sweep import observations

FULL, PARTIAL = 256, 96


def passages(epochs: int, steps: int) -> list[tuple[str, int, int]]:
    return [
        passage
        for epoch in range(1, epochs + 1)
        for passage in [
            *[("train", epoch, FULL)] * steps,
            ("train", epoch, PARTIAL),
            *[("evaluate", epoch, FULL)] * 2,
            ("evaluate", epoch, 16),
        ]
    ]


def observation(
    instrument: str, *, leak: int = 0, accuracy: float = 0.85, data: str = "fashion-mnist"
) -> dict[str, Any]:
    """Twelve epochs of nine full steps; ``leak`` bytes a training step stay."""
    rows = passages(12, 9)
    trained = 0
    held = []
    for kind, _, _ in rows:
        trained += kind == "train"
        held.append(leak * trained)
    steps: dict[str, list[Any]] = {
        "kind": [row[0] for row in rows],
        "epoch": [row[1] for row in rows],
        "rows": [row[2] for row in rows],
    }
    if instrument == "trace":
        steps |= {
            "start_bytes": [1000 + more for more in held],
            "peak_bytes": [1000 + row[2] + more for row, more in zip(rows, held, strict=True)],
            "end_bytes": [1000 + more for more in held],
        }
    else:
        noise = [(7919 * at) % 4096 for at in range(len(rows))]
        steps |= {
            "resident_bytes": [10**8 + a + b for a, b in zip(noise, held, strict=True)],
            "rise_bytes": [5_000_000] + [0] * (len(rows) - 1),
            "seconds": [0.01] * len(rows),
        }
    return {
        "workload": {"model": "mlp", "data": data},
        "instrument": instrument,
        "plan": {},
        "outcome": "ok",
        "result": {
            "epochs": [{"epoch": at, "accuracy": accuracy, "seconds": 1.0} for at in range(1, 13)],
            "steps": steps,
            "categories": {},
        },
    }


def section(folder: Path, *found: dict[str, Any]) -> Section:
    for one in found:
        observations.append(folder, one)
    return experiment.analyse(Evidence(frame=load_files([]), folder=folder))


def test_a_flat_run_is_supported_and_a_leak_refuted(tmp_path: Path) -> None:
    for name in ("flat", "leak"):
        (tmp_path / name).mkdir()
    accurate, same, steady = section(
        tmp_path / "flat", observation("trace"), observation("resident")
    ).verdicts
    assert (accurate.ruling, same.ruling, steady.ruling) == (Ruling.SUPPORTED,) * 3
    assert same.number == "slope exactly 0; growth 0 bytes"
    leaking = [observation(name, leak=4096) for name in ("trace", "resident")]
    _, same, steady = section(tmp_path / "leak", *leaking).verdicts
    assert same.ruling is Ruling.REFUTED
    assert same.number == f"slope not 0; growth {4096 * (12 * 10 - 1):,} bytes"
    assert steady.ruling is Ruling.REFUTED


def test_the_planted_slope_lies_in_its_interval(tmp_path: Path) -> None:
    observations.append(tmp_path, observation("resident", leak=4096))
    (run,) = epochs.runs(observations.read(tmp_path))
    slope = epochs.resident_slope(run)
    assert slope is not None
    assert slope.low < 4096 < slope.high
    assert slope.high - slope.low < 100
    assert (slope.epochs, slope.steps_per_epoch) == (11, 10)


def test_what_is_reserved_of_a_gpu_may_not_move_at_all(tmp_path: Path) -> None:
    still = observation("resident")
    still["workload"]["device"] = "cuda"
    sizes = still["result"]["steps"]["resident_bytes"]
    still["result"]["steps"]["resident_bytes"] = [25 << 20] * len(sizes)
    found = section(tmp_path, still)
    steady = found.verdicts[-1]
    assert steady.sentence == "What a run reserves of the GPU does not grow while it trains."
    assert steady.ruling is Ruling.SUPPORTED
    assert steady.number == "+0 bytes a step"
    assert any("raises what is reserved of the GPU by 4.768 MiB" in text for text in found.text)


def test_accuracy_is_judged_on_real_images_alone(tmp_path: Path) -> None:
    for name in ("low", "random"):
        (tmp_path / name).mkdir()
    low = section(tmp_path / "low", observation("trace", accuracy=0.8))
    assert low.verdicts[0].ruling is Ruling.REFUTED
    missing = {"outcome": "no images", "message": "not on this machine"}
    random = section(tmp_path / "random", missing, observation("trace", data="synthetic"))
    assert random.verdicts[0].ruling is Ruling.OPEN
    assert "The real images were not there (not on this machine)." in random.text[0]


def test_no_run_that_ended_well_is_said(tmp_path: Path) -> None:
    killed = observation("trace") | {"outcome": "killed", "result": None}
    with pytest.raises(AnalysisError, match="no training run ended well"):
        section(tmp_path, killed)


def test_a_torn_line_is_skipped_then_cut_off(tmp_path: Path) -> None:
    observations.append(tmp_path, {"outcome": "ok", "at": 1})
    path = tmp_path / observations.OBSERVATIONS
    with path.open("ab") as torn:
        torn.write(b'{"schema":1,"outc')
    assert [one["at"] for one in observations.read(tmp_path)] == [1]
    observations.append(tmp_path, {"outcome": "ok", "at": 2})
    assert [one["at"] for one in observations.read(tmp_path)] == [1, 2]
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(observations.ObservationError, match="line 1"):
        list(observations.read(tmp_path))


TINY = Workload(width=8, in_features=12, batch=4)


def sets() -> tuple[worker.Images, worker.Images]:
    x = torch.arange(11 * 12, dtype=torch.uint8).reshape(11, 12)
    y = torch.arange(11) % 10
    return worker.Images(x, y), worker.Images(x[:6], y[:6])


def test_the_trace_of_a_real_run_is_flat_and_sums_up() -> None:
    result = worker.traced(TINY, *sets(), 3)
    steps = result["steps"]
    assert steps["rows"] == [4, 4, 3, 4, 2] * 3
    assert steps["kind"] == (["train"] * 3 + ["evaluate"] * 2) * 3
    parameters = 4 * (12 * 8 + 8 + 8 * 10 + 10)
    assert steps["start_bytes"] == [parameters] + [2 * parameters] * 14
    assert steps["end_bytes"] == [2 * parameters] * 15
    peaks = {
        at: {
            peak
            for peak, rows, kind in zip(
                steps["peak_bytes"], steps["rows"], steps["kind"], strict=True
            )
            if (rows, kind) == at
        }
        for at in ((4, "train"), (3, "train"), (4, "evaluate"), (2, "evaluate"))
    }
    assert all(len(values) == 1 for values in peaks.values())
    for name, at in (("a later step", (4, "train")), ("evaluation", (4, "evaluate"))):
        assert sum(result["categories"][name].values()) == peaks[at].pop()


def test_a_real_leak_shows_in_the_trace_to_the_byte() -> None:
    kept = []
    result = worker.traced(TINY, *sets(), 2, after=lambda _: kept.append(torch.zeros(25)))
    starts = result["steps"]["start_bytes"]
    assert {b - a for a, b in itertools.pairwise(starts[1:])} == {100}


def test_both_instruments_train_the_same_network() -> None:
    accuracies = [
        [epoch["accuracy"] for epoch in follow(TINY, *sets(), 4)["epochs"]]
        for follow in (worker.resident, worker.traced)
    ]
    assert accuracies[0] == accuracies[1]


def test_the_quick_form_runs_resumes_and_is_analysed(tmp_path: Path) -> None:
    folder = tmp_path / experiment.NAME
    experiment.run(Size.QUICK, "cpu", folder, Lines(), 60)
    path = folder / observations.OBSERVATIONS
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    path.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    experiment.run(Size.QUICK, "cpu", folder, Lines(), 60)
    again = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert path.read_bytes().startswith(b"".join(lines[:2]))
    assert [(one["workload"]["model"], one["instrument"]) for one in again] == [
        (model, instrument) for model in experiment.MODELS for instrument in experiment.INSTRUMENTS
    ]
    assert again[3]["result"]["steps"] == json.loads(lines[3])["result"]["steps"]
    frame = load_files([folder / "records.jsonl"])
    found = experiment.analyse(Evidence(frame=frame, folder=folder))
    assert found.verdicts[0].ruling is Ruling.OPEN
    assert found.verdicts[1].ruling is Ruling.SUPPORTED
