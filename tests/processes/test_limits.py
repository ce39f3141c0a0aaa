"""Budgets for real: every limit is set in a child of the test's own, never on the machine."""

import json
import os
from typing import Any

import pytest
from msgspec.structs import replace

from harness.measurement.probe_job import Probe
from harness.prediction.mlp.data_segment import PAGE_BYTES, charged_bytes, data_peak, mapped_bytes
from harness.processes.launcher import Launcher, default_launcher
from harness.processes.limits import cgroup
from harness.processes.messages import Ended
from harness.processes.outcome import classify
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from tests.child_process import child
from tests.known import known
from tests.limits_here import needs_cgroup, needs_refusal

MIB = 2**20


def needed(launcher: Launcher, workload: Workload, budget_bytes: int = 2**30) -> int:
    ended = launcher.launch(Probe(workload=workload, budget_bytes=budget_bytes), 60)
    assert classify(ended)[0] is Outcome.OK, ended
    return known(known(ended.result)["needed_bytes"])


def test_the_last_page_of_a_budget_is_there_and_not_one_more() -> None:
    needs_refusal()
    done = child("""
        import json, mmap
        from harness.processes.limits.rlimit import data_segment
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        size, page, held = 1 << 20, mmap.PAGESIZE, []
        with data_segment(size):
            held.append(mmap.mmap(-1, size, flags=flags))
            try:
                held.append(mmap.mmap(-1, page, flags=flags))
            except OSError as error:
                beyond = error.errno
            held.pop().close()
            again = len(mmap.mmap(-1, size, flags=flags))
        after = len(mmap.mmap(-1, 4 * size, flags=flags))
        print(json.dumps([beyond, again, after]))
    """)
    assert json.loads(done.stdout) == [12, MIB, 4 * MIB]


def test_the_data_segment_of_a_step_is_modelled_to_the_page(launcher: Launcher) -> None:
    needs_refusal()
    for workload in (
        Workload(depth=2, width=64, batch=2000),
        Workload(depth=2, width=64, batch=2000, optimizer="adam"),
        Workload(depth=16, width=64, batch=500),
        Workload(depth=2, width=64, batch=4000, mode="inference"),
        Workload(depth=2, width=64, batch=2000, model="mlp-scratch", activation="tanh"),
    ):
        modelled = data_peak(workload).data_bytes
        assert needed(launcher, workload) == modelled, workload


@pytest.mark.parametrize(("mode", "kernels"), [("train", 4), ("inference", 2)])
def test_the_code_that_onednn_compiles_is_in_the_model(
    mode: str, kernels: int, launcher: Launcher
) -> None:
    needs_refusal()
    workload = Workload(hidden=(64, 32, 64), batch=2000, activation="gelu", mode=mode)
    modelled = data_peak(workload)
    assert modelled.library_bytes == kernels * 66 * PAGE_BYTES
    # The descriptors' share of it is as seen: a page more or less a kernel.
    assert abs(needed(launcher, workload) - modelled.data_bytes) <= kernels * PAGE_BYTES
    assert data_peak(workload.replace(dtype="float64")).library_bytes == 0


@pytest.mark.parametrize("malloc", ["pinned", "system"])
def test_a_step_that_exceeds_its_budget_is_out_of_memory_and_the_next_one_is_not(
    malloc: str,
) -> None:
    needs_refusal()
    own = default_launcher(malloc)
    workload = Workload(depth=2, width=64, batch=8000, malloc=malloc)
    job = Probe(workload=workload, budget_bytes=8 * MIB)
    try:
        outcome, evidence = classify(own.launch(job, 60))
        assert outcome is Outcome.OOM
        assert evidence["phase"] in ("build", "forward")
        assert needed(own, workload, 256 * MIB) > 8 * MIB
    finally:
        own.close()


def test_mapped_bytes_are_whole_pages_with_header_and_alignment() -> None:
    pages = {1024: 0, 4096: 2, 16384: 5, 10 * 4096 - 200: 10}
    assert {size: mapped_bytes(size) / 4096 for size in pages} == pages
    sizes = [mapped_bytes(size) for size in range(1, 20_000)]
    assert sizes == sorted(sizes)


def in_group(
    workload: Workload, budget_bytes: int, launcher: Launcher, inject: str | None = None
) -> Ended[Any]:
    job = Probe(workload=workload, budget_bytes=budget_bytes, kind="cgroup")
    with cgroup.group() as made:
        ended = launcher.launch(replace(job, cgroup=str(made.folder), inject=inject), 60)
        kills = made.oom_kills()
    assert not made.folder.exists(), "the group goes with the block"
    return replace(ended, oom_kills=kills)


def test_the_kernels_kill_is_out_of_memory_and_only_the_child_is_lost(launcher: Launcher) -> None:
    needs_cgroup()
    workload = Workload(depth=2, width=64, batch=20_000)
    outcome, evidence = classify(in_group(workload, 16 * MIB, launcher))
    assert (outcome, evidence["signal"], evidence["oom_kills"]) == (Outcome.OOM, "SIGKILL", 1)
    assert classify(in_group(workload, 512 * MIB, launcher))[0] is Outcome.OK


def test_a_kill_that_the_group_did_not_count_is_no_out_of_memory(launcher: Launcher) -> None:
    needs_cgroup()
    ended = in_group(Workload(width=8), 64 * MIB, launcher, inject="kill")
    assert ended.oom_kills == 0
    assert classify(ended)[0] is Outcome.KILLED


@pytest.mark.slow
def test_what_a_step_is_charged_for_in_a_group_is_modelled_to_six_pages(launcher: Launcher) -> None:
    needs_cgroup()
    workload = Workload(depth=2, width=64, batch=2000)
    budget_bytes = charged_bytes(data_peak(workload))
    around = 6 * PAGE_BYTES
    for _ in range(5):
        assert classify(in_group(workload, budget_bytes + around, launcher))[0] is Outcome.OK
        assert classify(in_group(workload, budget_bytes - around, launcher))[0] is Outcome.OOM


def test_where_no_group_can_be_made_the_reason_is_named() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can hand its rights away")
    done = child("""
        import os
        from harness.processes.limits import cgroup
        os.setgid(65534)
        os.setuid(65534)
        print(cgroup.available())
    """)
    assert done.stdout.startswith("(False, 'cgroup v"), done.stderr
