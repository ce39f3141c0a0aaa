"""Planted resident rises under two policies: distances and spreads are found again."""

from pathlib import Path

import pytest

from experiments import malloc_policy as experiment
from experiments.malloc_policy import rises as malloc_effect
from harness.analysis.frame import load
from harness.schema.experiment import Size
from harness.schema.record import Record, Repeat
from harness.schema.workload import Workload
from tests.analysis import planted
from tests.experiments.predicted_records import named, section

BIG = 20_000_000


def record(workload: Workload, *rises: int) -> Record:
    repeats = (
        Repeat(number=at, wall_seconds=0.1, rss_rise_bytes=rise) for at, rise in enumerate(rises, 1)
    )
    return planted.record(
        workload, environment={"fork_server": f"of seed {workload.seed}"}, repeats=tuple(repeats),
        peak_live_bytes=5 + BIG, live_at_start_bytes=5, rss_rise_bytes=sorted(rises)[1],
    )  # fmt: skip


def test_distances_and_spreads_are_those_planted(tmp_path: Path) -> None:
    pinned = [
        record(Workload(seed=seed), middle, middle, middle + 10_000)
        for seed, middle in enumerate((BIG - 40_000, BIG, BIG + 20_000))
    ]
    system = [
        record(Workload(malloc="system", seed=seed), BIG // 2, BIG // 2, BIG) for seed in range(3)
    ]
    result = section("malloc_policy", tmp_path, [*pinned, *system])
    table = malloc_effect.next_to_trace(load(tmp_path)).set_index("malloc")
    assert table.loc["pinned", "difference_percent"] == 0
    assert table.loc["pinned", "over_repeats_percent"] == pytest.approx(0.05)
    assert table.loc["pinned", "over_servers_percent"] == pytest.approx(0.3)
    assert table.loc["system", "difference_percent"] == pytest.approx(-50)
    assert table.loc["system", "over_repeats_percent"] == pytest.approx(50)
    assert table.loc["system", "over_servers_percent"] == 0
    right = named(result, "With the system's malloc, a step's RSS rise is roughly what")
    assert right.number == "0 of 1 cells within 10%; worst -50%"


def test_each_seed_has_fork_servers_of_its_own() -> None:
    cells = list(experiment.cells(Size.DEFAULT))
    assert experiment.EXPERIMENT.servers_by_seed
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
