"""The square-root law on planted curves."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from experiments.checkpointing import law
from harness.analysis.evidence import gather
from harness.schema.findings import Verdict
from harness.sweeps.experiment_files import find
from tests.analysis import planted
from tests.experiments.predicted_records import section
from tests.experiments.test_planted_verdicts import checkpoints, root, third


def test_planted_coefficients_come_back_and_give_the_optimum(tmp_path: Path) -> None:
    def rise(segments: int, depth: int) -> float:
        return 0.0009 * segments + 0.000225 * -(-depth // segments) + 0.000_077

    planted.write(tmp_path, checkpoints(rise, third)())
    frame = gather(find("checkpointing"), tmp_path).frame
    curve = next(one for one in law.curves(frame) if (one.depth, one.regime) == (16, "activations"))
    assert curve.a == pytest.approx(900)
    assert curve.b == pytest.approx(225)
    assert curve.c == pytest.approx(77, abs=0.01)
    assert curve.optimum == pytest.approx(2.0)
    assert curve.best == (2,)
    assert curve.root == 4
    assert curve.excess_at_root == pytest.approx(rise(4, 16) / rise(2, 16) - 1)


def test_a_pretended_gpu_has_curves_of_memory_and_says_nothing_of_time(tmp_path: Path) -> None:
    timed = checkpoints(root, third)()
    untimed = [replace(one, wall_seconds=None, repeats=()) for one in timed]
    said = section("checkpointing", tmp_path, untimed)
    verdicts = {claim.headline: claim.verdict for claim in said.claims}
    assert verdicts["√depth segments are best where activations outweigh"] is Verdict.SUPPORTED
    assert not any("third longer" in headline for headline in verdicts)
    assert [figure.name for figure in said.figures] == ["segments"]
    assert "No step was timed, so the cost in time is unknown." in said.text
