import json
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.measurement.limits import cgroup, own_pages
from harness.measurement.limits.rlimit import data_segment_available
from harness.measurement.process.launcher import Launcher
from harness.measurement.process.messages import Ended, Job
from harness.prediction.mlp.data_segment import data_peak, solve_data_segment
from harness.schema.record import Outcome, to_json
from harness.schema.threshold import THRESHOLDS, Axis, Threshold, from_json
from harness.schema.workload import Workload
from harness.sweeps.store import LineStore
from harness.thresholds.enforcement import BudgetError, choose_kind
from harness.thresholds.find_threshold import threshold
from tests.analysis import planted
from tests.lent_launchers import OOM, Planted

MIB = 2**20
NARROW = Workload(depth=2, width=64)
SEGFAULT = Ended(exit_code=-11)


def needs_refusal() -> None:
    works, why_not = data_segment_available()
    if not works:
        pytest.skip(why_not)


def needs(batch: int) -> int:
    """Return the bytes of the data segment that two steps of the narrow workload need."""
    return data_peak(NARROW.replace(batch=batch)).data_bytes


def off_by(extra_bytes: int) -> Callable[[Job], Ended]:
    """End as the model says of a process that needs ``extra_bytes`` in addition."""

    def end(job: Job) -> Ended:
        assert job.budget_bytes is not None
        size = data_peak(job.workload).data_bytes + extra_bytes
        if size > job.budget_bytes:
            return OOM
        return Ended(exit_code=0, result={"needed_bytes": size})

    return end


@pytest.mark.parametrize("extra_bytes", [-300_000, 0, 5000, 300_000, 3_000_000])
def test_whatever_the_model_leaves_out_is_found_in_14_probes_and_accounted_for(
    extra_bytes: int,
) -> None:
    needs_refusal()
    result = threshold(NARROW, budget_bytes=64 * MIB, launcher=Planted(off_by(extra_bytes)))
    expected = solve_data_segment(NARROW, 64 * MIB, "batch", extra_bytes=extra_bytes)
    assert (result.largest_fit, result.band, result.confirmed) == (expected, (), True)
    assert result.smallest_fail == (expected or 0) + 1
    assert len(result.probes) <= 14
    assert result.headroom is not None
    assert result.headroom.library_bytes == extra_bytes
    parts = [getattr(result.headroom, name) for name in result.headroom.__struct_fields__]
    assert sum(parts) == 64 * MIB


def test_a_crash_that_more_memory_mends_was_memory() -> None:
    needs_refusal()

    def end(job: Job) -> Ended:
        ended = off_by(0)(job)
        return SEGFAULT if ended is OOM else ended

    result = threshold(NARROW, budget_bytes=64 * MIB, launcher=Planted(end))
    assert result.largest_fit == result.predicted
    assert {p.type for p in result.probes if p.outcome is Outcome.OOM} == {"SIGSEGV"}


def test_a_crash_that_stays_settles_nothing_and_is_recorded_with_its_probes() -> None:
    needs_refusal()
    result = threshold(NARROW, budget_bytes=64 * MIB, launcher=Planted(lambda job: SEGFAULT))
    assert result.outcome is Outcome.CRASHED
    assert result.largest_fit is result.smallest_fail is None
    assert [probe.outcome for probe in result.probes] == [Outcome.CRASHED] * 2
    assert from_json(to_json(result)) == result
    assert result.answer == "no answer: a probe ended with outcome crashed"


def test_where_nothing_fits_the_answer_says_so() -> None:
    needs_refusal()
    wide = Workload(depth=2, width=4096)
    result = threshold(wide, budget_bytes=8 * MIB, launcher=Planted(lambda job: OOM))
    assert (result.outcome, result.largest_fit, result.smallest_fail) == (Outcome.OK, None, 1)
    assert result.predicted is None
    assert result.answer == "not even batch 1 fits into 8 MiB"


@pytest.mark.exact
@pytest.mark.parametrize("solve", ["batch", "depth", "width"])
def test_a_real_threshold_is_sharp_and_the_predicted_one_or_its_neighbour(
    solve: Axis, launcher: Launcher
) -> None:
    needs_refusal()
    workload = NARROW.replace(batch=4000)
    result = threshold(workload, budget_bytes=64 * MIB, solve=solve, launcher=launcher)
    assert result.outcome is Outcome.OK
    assert result.largest_fit is not None
    assert result.predicted is not None
    assert (result.smallest_fail, result.band) == (result.largest_fit + 1, ())
    assert abs(result.predicted - result.largest_fit) <= 1
    assert len(result.probes) <= 14
    ends = [(probe.value, probe.outcome) for probe in result.probes]
    assert sum(end == (result.largest_fit, Outcome.OK) for end in ends) == 3
    assert sum(end == (result.smallest_fail, Outcome.OOM) for end in ends) == 3


def test_a_threshold_by_the_kernels_kill_takes_few_processes(launcher: Launcher) -> None:
    works, why_not = cgroup.available()
    if not works:
        pytest.skip(why_not)
    if not own_pages.can_populate():
        pytest.skip("Linux before 5.14 cannot copy pages beforehand")
    result = threshold(NARROW, budget_bytes=16 * MIB, kind="cgroup", launcher=launcher)
    assert result.outcome is Outcome.OK
    assert result.largest_fit is not None
    assert result.smallest_fail is not None
    # Where the kernel kills varies by one page; what one more example needs here is less than two.
    between = needs(result.smallest_fail) - needs(result.largest_fit)
    assert between <= 8 * mmap.PAGESIZE
    assert len(result.probes) <= 10
    killed = [probe for probe in result.probes if probe.outcome is Outcome.OOM]
    assert {probe.type for probe in killed} == {"SIGKILL"}
    assert result.headroom is not None
    assert result.headroom.library_bytes > 0, "page tables are charged too"


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
def test_a_worker_in_a_cgroup_stays_on_one_of_its_processors() -> None:
    before = os.sched_getaffinity(0)
    try:
        cgroup.stay_on_one_processor()
        after = os.sched_getaffinity(0)
        assert len(after) == 1
        assert after <= before
    finally:
        os.sched_setaffinity(0, before)


def test_the_command_prints_one_threshold_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    needs_refusal()
    flags = ["--depth", "1", "--width", "64", "--budget", "16MiB", "--json"]
    assert main(["threshold", *flags]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    result = from_json(printed.out)
    assert result.budget_bytes == 16 * MIB
    assert result.largest_fit is not None
    assert result.smallest_fail == result.largest_fit + 1
    keys = {"largest_fit", "smallest_fail", "predicted", "live_bytes_predict", "probes", "band"}
    assert (
        keys | {"budget_bytes", "workload", "environment", "schema"}
        <= json.loads(printed.out).keys()
    )


@pytest.mark.parametrize("budget_bytes", [1, 1000, 4 * MIB])
def test_a_budget_below_what_can_be_enforced_is_refused(budget_bytes: int) -> None:
    with pytest.raises(BudgetError, match=r"at least 4.031 MiB \(4,227,072 B\) for 2 layers"):
        threshold(NARROW, budget_bytes=budget_bytes, launcher=Planted(lambda job: OOM))


def test_an_answer_in_blocks_that_no_limit_counts_is_refused() -> None:
    thin = Workload(width=8, in_features=8, batch=4)
    with pytest.raises(BudgetError, match="blocks smaller than a page make"):
        threshold(thin, budget_bytes=5 * MIB, solve="depth", launcher=Planted(lambda job: OOM))


def test_a_budget_for_the_other_device_is_a_mistake() -> None:
    with pytest.raises(BudgetError, match="allocator"):
        choose_kind(NARROW, "allocator")
    with pytest.raises(BudgetError, match="rlimit"):
        choose_kind(NARROW.replace(device="cuda"), "rlimit")


def test_thresholds_are_kept_and_found_again_by_their_question(tmp_path: Path) -> None:
    result = planted.threshold(NARROW)
    with LineStore(tmp_path, Threshold) as store:
        store.append(result)
        assert store.is_finished(result.cell_id)
    with (tmp_path / THRESHOLDS).open("ab") as file:
        file.write(b'{"torn')
    with LineStore(tmp_path, Threshold) as store:
        assert store.is_finished(result.cell_id)
        assert "torn" in store.repairs[0]
    assert (tmp_path / THRESHOLDS).read_bytes() == to_json(result) + b"\n"
