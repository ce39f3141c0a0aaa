"""The square-root law on planted curves."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from experiments.checkpointing import law
from harness.analysis.frame import load
from harness.schema.findings import Verdict
from tests.analysis import planted
from tests.experiments.predicted_records import section
from tests.experiments.test_planted_verdicts import checkpoints


def test_planted_coefficients_come_back_and_give_the_optimum(tmp_path: Path) -> None:
    def rise(segments: int) -> float:
        return 0.0009 * segments + 0.000225 * -(-16 // segments) + 0.000_077

    planted.write(tmp_path, checkpoints(rise, 4 / 3, ["activations"])())
    (curve,) = law.curves(load(tmp_path))
    assert curve.a == pytest.approx(900)
    assert curve.b == pytest.approx(225)
    assert curve.c == pytest.approx(77, abs=0.01)
    assert curve.optimum == pytest.approx(2.0)
    assert curve.best == (2,)
    assert curve.root == 4
    assert curve.excess_at_root == pytest.approx(rise(4) / rise(2) - 1)


def test_a_pretended_gpu_has_curves_of_memory_and_says_nothing_of_time(tmp_path: Path) -> None:
    timed = checkpoints(lambda segments: segments + 16 / segments, 4 / 3)()
    said = section("checkpointing", tmp_path, [replace(one, wall_seconds=None) for one in timed])
    verdicts = {claim.headline: claim.verdict for claim in said.claims}
    assert verdicts["√depth segments are best where activations outweigh"] is Verdict.SUPPORTED
    assert not any("third longer" in headline for headline in verdicts)
    assert [figure.name for figure in said.figures] == ["segments"]
    assert "No step was timed, so the cost in time is not known here." in said.text
