"""Planted resident rises under two policies: distances and spreads are found again."""

from pathlib import Path

import pytest

from experiments import malloc_policy as experiment
from experiments.malloc_policy import rises as malloc_effect
from harness.analysis.decisions import in_most
from harness.analysis.frame import load
from harness.analysis.rss_agreement import BIG_RISE_BYTES
from harness.prediction.predict_workload import predict
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.record import Record, Repeat
from harness.schema.workload import Workload
from tests.analysis import planted
from tests.experiments.predicted_records import named, section

BIG = 20_000_000


def record(workload: Workload, *rises: int, need: int = BIG, server: str | None = None) -> Record:
    name = server or f"{workload.malloc}-{workload.seed}"
    return planted.record(
        workload,
        environment={"fork_server": name},
        peak_live_bytes=5 + need,
        live_at_start_bytes=5,
        rss_rise_bytes=sorted(rises)[len(rises) // 2],
        repeats=tuple(
            Repeat(number=at, wall_seconds=0.1, rss_rise_bytes=rise)
            for at, rise in enumerate(rises, 1)
        ),
    )


def test_distances_and_spreads_are_those_planted(tmp_path: Path) -> None:
    pinned = [
        record(Workload(seed=seed), middle, middle, middle + 10_000)
        for seed, middle in enumerate((BIG - 40_000, BIG, BIG + 20_000))
    ]
    system = [
        record(Workload(malloc="system", seed=seed), BIG // 2, BIG // 2, BIG) for seed in range(3)
    ]
    result = section(experiment, tmp_path, [*pinned, *system])
    table = malloc_effect.next_to_trace(load(tmp_path)).set_index("malloc")
    assert table.loc["pinned", "difference_percent"] == 0
    assert table.loc["pinned", "over_repeats_percent"] == pytest.approx(0.05)
    assert table.loc["pinned", "over_servers_percent"] == pytest.approx(0.3)
    assert table.loc["system", "difference_percent"] == pytest.approx(-50)
    assert table.loc["system", "over_repeats_percent"] == pytest.approx(50)
    assert table.loc["system", "over_servers_percent"] == 0
    assert all(claim.verdict is Verdict.OPEN for claim in result.claims)  # one cell of each
    right = named(result, "With the system's malloc, a step's RSS rise is what")
    assert "worst -50%" in right.number
    assert "about 8 cells would decide" in right.measured


def test_enough_cells_decide(tmp_path: Path) -> None:
    records = [
        record(Workload(malloc=malloc, batch=batch, seed=seed), int(BIG * part))
        for malloc, part in (("pinned", 1.01), ("system", 0.5))
        for batch in range(1, 10)
        for seed in (0, 1)
    ]
    result = section(experiment, tmp_path, records)
    assert named(result, "With pinned malloc, a step's").verdict is Verdict.SUPPORTED
    assert named(result, "With pinned malloc, a process of another").verdict is Verdict.SUPPORTED
    assert named(result, "With the system's malloc, a step's").verdict is Verdict.REFUTED


def test_processes_of_one_fork_server_are_one_replicate(tmp_path: Path) -> None:
    records = [
        record(Workload(batch=batch, seed=seed), BIG, server=f"of batch {batch}")
        for batch in range(1, 12)
        for seed in range(3)
    ]
    result = section(experiment, tmp_path, records)
    assert named(result, "With pinned malloc, a step's").verdict is Verdict.SUPPORTED
    assert named(result, "With pinned malloc, a process of another").verdict is Verdict.OPEN


def test_the_default_grid_has_enough_cells_to_decide() -> None:
    cells = [cell for cell in experiment.cells(Size.DEFAULT) if cell.malloc == "pinned"]
    big = [cell for cell in cells if cell.seed == 0 and step_rise(cell) > BIG_RISE_BYTES]
    assert in_most(len(big), len(big)).verdict is Verdict.SUPPORTED
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)  # servers go by it


def step_rise(workload: Workload) -> int:
    metrics = predict(workload)
    return (metrics.peak_live_bytes or 0) - (metrics.live_before_forward_bytes or 0)
