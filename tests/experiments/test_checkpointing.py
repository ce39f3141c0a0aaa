"""The square-root law on planted curves."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from experiments import checkpointing
from experiments.checkpointing import law as checkpoints
from harness.analysis.frame import load
from harness.schema.findings import Verdict
from harness.schema.record import Record
from harness.schema.workload import Workload
from tests.analysis import planted
from tests.experiments.predicted_records import section


def record(workload: Workload, rise_bytes: int, seconds: float = 1.0) -> Record:
    return planted.record(
        workload, peak_live_bytes=1000 + rise_bytes, live_at_start_bytes=1000, wall_seconds=seconds
    )


def planted_law(depth: int, a: int, b: int) -> list[Record]:
    base = checkpointing.NARROW.replace(depth=depth)
    whole = record(base, depth * b * 2)
    split = [
        record(base.replace(checkpoint=k), a * k + b * -(-depth // k) + 77, 4 / 3)
        for k in range(1, depth + 1)
    ]
    return [whole, *split]


def test_planted_coefficients_come_back_and_give_the_optimum(tmp_path: Path) -> None:
    planted.write(tmp_path, planted_law(36, 9000, 4000))
    (curve,) = checkpoints.curves(load(tmp_path))
    assert curve.a == pytest.approx(9000)
    assert curve.b == pytest.approx(4000)
    assert curve.c == pytest.approx(77, abs=0.01)
    assert curve.optimum == pytest.approx(4.0)
    assert curve.best == (4,)
    assert curve.root == 6
    assert curve.excess_at_root == pytest.approx(
        (9000 * 6 + 4000 * 6 + 77) / (9000 * 4 + 4000 * 9 + 77) - 1
    )


def test_a_pretended_gpu_has_curves_of_memory_and_says_nothing_of_time(tmp_path: Path) -> None:
    timed = planted_law(36, 4000, 4000)
    lines = [replace(one, wall_seconds=None) for one in timed]
    said = section("checkpointing", tmp_path, lines)
    verdicts = {claim.headline: claim.verdict for claim in said.claims}
    assert verdicts["√depth segments are best where activations outweigh"] is Verdict.SUPPORTED
    assert not any("third longer" in headline for headline in verdicts)
    assert [figure.name for figure in said.figures] == ["segments"]
    assert "No step was timed, so the cost in time is not known here." in said.text
