from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.oom_thresholds.claims import deeper, frontiers, predictable
from experiments.oom_thresholds.hyperbola import as_frame, fit_frontier, read_thresholds
from harness.analysis import AnalysisError
from harness.prediction.mlp.largest_fit import solve
from harness.schema.findings import Verdict
from harness.schema.record import RecordError, to_json
from harness.schema.threshold import THRESHOLDS, Headroom, Threshold
from harness.schema.workload import Workload
from tests.analysis.planted import threshold

MIB = 2**20
DEPTHS = [1, 2, 4, 8, 16, 32, 64]


def planted(
    depth: int, batch: int, budget: int = 64 * MIB, predicted: int | None = None
) -> Threshold:
    headroom = Headroom(
        live_bytes=budget - 40, rounding_bytes=30, small_bytes=-5, library_bytes=0, unused_bytes=15
    )
    return threshold(
        Workload(depth=depth, width=64), budget_bytes=budget, largest_fit=batch,
        smallest_fail=batch + 1, confirmed=True, predicted=predicted, live_bytes_predict=predicted,
        headroom=headroom,
    )  # fmt: skip


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
    assert result.left_out is not None
    assert result.left_out < 0.01
    beyond = solve(Workload(depth=48, width=64), 64 * MIB, "batch")
    assert beyond is not None
    assert result.batch(48) == pytest.approx(beyond, rel=0.002)
    # (in + labels + logits and their kin) over what a layer's activation takes, by hand:
    # a batch row costs 784·4 + 8 + ... next to the layers' 64·4 each, so a is about 12 to 14.
    assert 11 < result.a < 15


def write(folder: Path, lines: list[bytes]) -> None:
    (folder / THRESHOLDS).write_bytes(b"\n".join(lines))


def test_the_last_attempt_counts_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    first, again, other = planted(1, 90), planted(1, 100), planted(2, 80)
    write(tmp_path, [to_json(first), to_json(other), to_json(again), to_json(first)[:50]])
    result = read_thresholds(tmp_path)
    assert {(one.workload.depth, one.largest_fit) for one in result} == {(1, 100), (2, 80)}


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    write(tmp_path, [b"{", to_json(planted(1, 90)), b""])
    with pytest.raises(RecordError, match=r"thresholds\.jsonl:1"):
        read_thresholds(tmp_path)
    with pytest.raises(AnalysisError, match="no thresholds"):
        read_thresholds(tmp_path / "nowhere")


def test_errors_are_per_cent_of_what_was_reproduced() -> None:
    frame = as_frame([planted(1, 200, predicted=201), planted(2, 100)])
    assert frame["error_percent"][0] == pytest.approx(0.5)
    assert frame["error_percent"].isna()[1]
    parts = ["live", "rounding", "small", "library", "unused"]
    assert frame[[f"{name}_bytes" for name in parts]].sum(axis=1)[0] == 64 * MIB


def test_deeper_runs_out_sooner_only_where_every_step_says_so() -> None:
    falling = [planted(depth, 100_000 // (depth + 12)) for depth in DEPTHS]
    frame = as_frame(falling)
    claim = deeper(frame, frontiers(frame))
    assert claim.verdict is Verdict.SUPPORTED
    assert "falls in 6 of 6 steps" in claim.number
    bent = as_frame([*falling[:-1], planted(64, 10**6)])
    assert deeper(bent, {}).verdict is Verdict.LIMITED


def test_one_threshold_off_by_more_than_promised_limits_the_prediction() -> None:
    good = as_frame([planted(1, 1000, predicted=1004), planted(2, 1000, predicted=996)])
    assert predictable(good)[0].verdict is Verdict.SUPPORTED
    bad = as_frame([planted(1, 1000, predicted=1006), planted(2, 1000, predicted=996)])
    assert predictable(bad)[0].verdict is Verdict.LIMITED
    assert "0.6%" in predictable(bad)[0].number
    assert predictable(as_frame([planted(1, 1000)])) == []
