import json
import mmap
from collections.abc import Callable
from typing import Any

import pytest

from harness.measurement.probe_job import Probe
from harness.prediction.mlp.data_segment import data_peak, solve_data_segment
from harness.processes.launcher import Launcher
from harness.processes.messages import Ended
from harness.schema.record import Outcome, to_json
from harness.schema.threshold import Axis, Threshold, from_json
from harness.schema.workload import Workload
from harness.thresholds.enforcement import BudgetError
from harness.thresholds.find_threshold import find_threshold
from tests.commands import Ask, facts_of
from tests.known import known
from tests.lent_launchers import OOM, Planted
from tests.limits_here import needs_cgroup, needs_refusal

MIB = 2**20
NARROW = Workload(depth=2, width=64)
SEGFAULT: Ended[Any] = Ended(exit_code=-11)


def needs(batch: int) -> int:
    """Return the bytes of the data segment that two steps of the narrow workload need."""
    return data_peak(NARROW.replace(batch=batch)).data_bytes


def off_by(extra_bytes: int) -> Callable[[Probe], Ended[Any]]:
    """End as the model says of a process that needs ``extra_bytes`` in addition."""

    def end(job: Probe) -> Ended[Any]:
        size = data_peak(job.workload).data_bytes + extra_bytes
        if size > known(job.budget_bytes):
            return OOM
        return Ended(exit_code=0, result={"needed_bytes": size})

    return end


def find(end: Callable[[Probe], Ended[Any]]) -> Threshold:
    """Return the threshold of the narrow workload whose probes end as planted."""
    needs_refusal()
    return find_threshold(NARROW, budget_bytes=64 * MIB, launcher=Planted(end))


@pytest.mark.parametrize("extra_bytes", [-300_000, 0, 5000, 300_000, 3_000_000])
def test_whatever_the_model_leaves_out_is_found_in_14_probes_and_accounted_for(
    extra_bytes: int,
) -> None:
    result = find(off_by(extra_bytes))
    expected = solve_data_segment(NARROW, 64 * MIB, "batch", extra_bytes=extra_bytes)
    assert (result.largest_fit, result.band, result.confirmed) == (expected, (), True)
    assert result.smallest_fail == (expected or 0) + 1
    assert len(result.probes) <= 14
    headroom = known(result.headroom)
    assert headroom.library_bytes == extra_bytes
    assert sum(getattr(headroom, name) for name in headroom.__struct_fields__) == 64 * MIB


def test_a_crash_that_more_memory_mends_was_memory() -> None:
    def end(job: Probe) -> Ended[Any]:
        ended = off_by(0)(job)
        return SEGFAULT if ended is OOM else ended

    result = find(end)
    assert result.largest_fit == result.predicted
    assert {p.type for p in result.probes if p.outcome is Outcome.OOM} == {"SIGSEGV"}


def test_a_crash_that_stays_settles_nothing_and_is_recorded_with_its_probes() -> None:
    result = find(lambda job: SEGFAULT)
    assert result.outcome is Outcome.CRASHED
    assert result.largest_fit is result.smallest_fail is None
    assert [probe.outcome for probe in result.probes] == [Outcome.CRASHED] * 2
    assert from_json(to_json(result)) == result
    assert result.answer == "no answer: a probe ended with outcome crashed"


def test_where_nothing_fits_the_answer_says_so() -> None:
    needs_refusal()
    wide = Workload(depth=2, width=4096)
    result = find_threshold(wide, budget_bytes=8 * MIB, launcher=Planted(lambda job: OOM))
    assert (result.outcome, result.largest_fit, result.smallest_fail) == (Outcome.OK, None, 1)
    assert result.predicted is None
    assert result.answer == "not even batch 1 fits into 8 MiB"


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"budget_bytes": 1000}, r"at least 4.031 MiB \(4,227,072 B\) for 2 layers"),
        ({"budget_bytes": 4 * MIB}, "at least 4.031 MiB"),
        ({"kind": "allocator"}, "allocator"),
        ({"workload": NARROW.replace(device="cuda"), "kind": "rlimit"}, "rlimit"),
        ({"workload": Workload(width=8, in_features=8, batch=4), "solve": "depth"}, "smaller than"),
    ],
)
def test_a_budget_that_cannot_be_enforced_is_refused(
    question: dict[str, Any], message: str
) -> None:
    given = {"workload": NARROW, "budget_bytes": 5 * MIB, **question}
    with pytest.raises(BudgetError, match=message):
        find_threshold(given.pop("workload"), launcher=Planted(lambda job: OOM), **given)


@pytest.mark.exact
@pytest.mark.parametrize("solve", ["batch", "depth", pytest.param("width", marks=pytest.mark.slow)])
def test_a_real_threshold_is_sharp_and_the_predicted_one_or_its_neighbour(
    solve: Axis, launcher: Launcher
) -> None:
    needs_refusal()
    workload = NARROW.replace(batch=4000)
    result = find_threshold(workload, budget_bytes=64 * MIB, solve=solve, launcher=launcher)
    assert result.outcome is Outcome.OK
    largest = known(result.largest_fit)
    assert (result.smallest_fail, result.band) == (largest + 1, ())
    assert abs(known(result.predicted) - largest) <= 1
    assert len(result.probes) <= 14
    ends = [(probe.value, probe.outcome) for probe in result.probes]
    assert [ends.count((largest, Outcome.OK)), ends.count((largest + 1, Outcome.OOM))] == [3, 3]


def test_a_threshold_by_the_kernels_kill_takes_few_processes() -> None:
    needs_cgroup()
    for _ in range(3):  # on a busy machine the kernel kills some pages earlier or later
        # In a server of its own, as for a command: what other tests loaded there leaves holes.
        result = find_threshold(NARROW, budget_bytes=16 * MIB, kind="cgroup")
        assert result.outcome is Outcome.OK
        if len(result.probes) <= 10:
            break
    # Where the kernel kills varies by one page; what one more example needs here is less than two.
    between = needs(known(result.smallest_fail)) - needs(known(result.largest_fit))
    assert between <= 8 * mmap.PAGESIZE
    assert len(result.probes) <= 10
    killed = [probe for probe in result.probes if probe.outcome is Outcome.OOM]
    assert {probe.type for probe in killed} == {"SIGKILL"}
    assert known(result.headroom).library_bytes > 0, "page tables are charged too"


def test_the_command_prints_one_threshold_as_json(ask: Ask) -> None:
    needs_refusal()
    printed = ask(["threshold", "--depth=1", "--width=64", "--budget=16MiB", "--json"])
    assert printed.err == ""
    result = from_json(json.dumps(facts_of(printed.out)))
    assert result.budget_bytes == 16 * MIB
    assert result.smallest_fail == known(result.largest_fit) + 1
    keys = {"largest_fit", "smallest_fail", "predicted", "live_bytes_predict", "probes", "band"}
    keys |= {"budget_bytes", "workload", "environment", "schema"}
    assert keys <= json.loads(printed.out).keys()
