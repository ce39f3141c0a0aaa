"""Thresholds: the curve through them, and what its verdicts rest on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.oom_thresholds import questions
from experiments.oom_thresholds.claims import predictable, summary
from experiments.oom_thresholds.hyperbola import as_frame, fit_frontier
from harness.analysis import AnalysisError
from harness.prediction.mlp.cpu_trace import solve
from harness.prediction.mlp.data_segment import solve_data_segment
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.threshold import Headroom, Threshold
from harness.schema.workload import Workload
from tests.analysis import planted
from tests.experiments.predicted_records import section
from tests.known import known

MIB = 2**20


def placed(
    place: int | Workload, batch: int, budget: int = 64 * MIB, predicted: int | None = None
) -> Threshold:
    """A threshold of a workload, or of a narrow one of that depth, whose budget adds up."""
    headroom = Headroom(
        live_bytes=budget - 70, rounding_bytes=60, small_bytes=-5, library_bytes=0, unused_bytes=15
    )
    workload = place if isinstance(place, Workload) else Workload(depth=place, width=64)
    return planted.threshold(
        workload, budget_bytes=budget, largest_fit=batch, smallest_fail=batch + 1,
        confirmed=True, predicted=predicted, live_bytes_predict=predicted,
        headroom=headroom,
    )  # fmt: skip


def test_planted_thresholds_come_back_in_the_tables(tmp_path: Path) -> None:
    """Thresholds just where they are predicted."""
    lines = []
    for question in questions(Size.DEFAULT):
        workload, budget = question.workload, question.budget_bytes
        predicted = known(solve_data_segment(workload, budget, "batch"))
        lines.append(placed(workload, predicted, budget, predicted))
    found = section("oom_thresholds", tmp_path, lines)
    deeper, _ = found.claims
    assert "(depth + a)(batch + b) = c" in deeper.measured
    assert "8 of 8 steps" in deeper.number
    tables = {table.name: table.frame for table in found.tables}
    assert len(tables["thresholds"]) == len(lines)
    assert (tables["frontier"]["worst_error_percent"] < 0.5).all()


DEPTHS = [1, 2, 4, 8, 16, 32, 64]


@given(a=st.floats(0.5, 50), b=st.floats(1, 500), scale=st.floats(1e4, 1e7))
def test_a_planted_hyperbola_is_found(a: float, b: float, scale: float) -> None:
    c = scale + b * (64 + a)  # at every depth some batch is left
    batches = [round(1000 * (c / (depth + a) - b)) for depth in DEPTHS]
    result = fit_frontier(DEPTHS, batches)
    assert result.a == pytest.approx(a, rel=1e-2)
    assert result.b == pytest.approx(1000 * b, rel=0.05, abs=2)
    assert result.worst < 1e-3
    assert result.batch(8) == pytest.approx(batches[3], rel=1e-3)


def test_a_curve_of_another_kind_does_not_pass_for_one() -> None:
    batches = [10**9 // depth**3 for depth in DEPTHS]
    with pytest.raises(AnalysisError, match="no hyperbola"):
        fit_frontier(DEPTHS, batches)


def test_the_curve_predicts_a_threshold_that_it_has_not_seen() -> None:
    batches = [solve(Workload(depth=d, width=64), 64 * MIB, "batch") or 0 for d in DEPTHS]
    result = fit_frontier(DEPTHS, batches)
    assert result.worst < 0.002
    beyond = known(solve(Workload(depth=48, width=64), 64 * MIB, "batch"))
    assert result.batch(48) == pytest.approx(beyond, rel=0.002)
    # (in + labels + logits and their kin) over what a layer's activation takes, by hand:
    # a batch row costs 784·4 + 8 + ... next to the layers' 64·4 each, so a is about 12 to 14.
    assert 11 < result.a < 15


def test_a_threshold_off_by_more_than_promised_is_named() -> None:
    fits = {1: 1000, 2: 900, 4: 700, 8: 400}
    good = [placed(depth, fit, predicted=fit + 1) for depth, fit in fits.items()]
    assert known(predictable(as_frame(good))).verdict is Verdict.SUPPORTED
    claim = known(predictable(as_frame([placed(1, 1000, predicted=1006), *good[1:]])))
    assert claim.words == "holds for depths from 2, fails for depth 1"
    assert claim.number == "3 of 4 thresholds; at most 0.6% off"
    (sentence,) = summary(claim)
    assert sentence.startswith("Memory runs out where predicted, in part: 3 of 4 thresholds")
    assert sentence.endswith("; the claim holds for depths from 2, fails for depth 1.")
    assert summary(predictable(as_frame([placed(1, 1000)]))) == ()
