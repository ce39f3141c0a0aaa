"""The RSS rise of a step against two derivations that share no code with its measurement."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.instruments.rss import Rise
from harness.measurement import passes
from harness.measurement.measure import measure
from harness.measurement.process.launcher import ForkLauncher, Launcher, SpawnLauncher
from harness.measurement.process.messages import RunPasses
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.data_segment import mapped_bytes
from harness.schema.record import Record
from harness.schema.workload import Workload
from harness.training.module_step import Phase, Step, no_phase

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's mark is Linux's")

SMALL = Workload(width=64, in_features=64, depth=4, batch=512)
LARGE = SMALL.replace(depth=16, batch=4096)

KERNEL_BATCH_BYTES = max(32, 2 * (os.cpu_count() or 1)) * 4096
"""The most that a reading may be away from the truth; two readings may be twice as far apart."""

PAGE_CACHE_BYTES = 16 << 20
"""Of the libraries, more pages or fewer are mapped at once, by what the page cache has: a process
was seen to hold 4 MB less from a cold cache, and two 3 to 9 MB apart. A fork that did not count the
pages of its server's libraries would hold 350 MB less."""

# The note's loop by hand, in an interpreter of its own. Blocks just below the threshold fill the
# holes that loading, and gradients next to each other, have left. The kernel counts pages of files
# and of memory in batches: a file that is mapped and unmapped settles the first, and each reading
# begins with one page more.
_BY_HAND = """
import ctypes, json, mmap, os, statistics, sys, torch
from torch import nn
depth, batch = json.loads(sys.argv[1])
torch.set_num_threads(1)
layers = [part for _ in range(depth) for part in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.rand(batch, 64), torch.randint(0, 10, (batch,))
def step():
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
def size(name):
    with open("/proc/self/status") as status:
        return next(int(l.split()[1]) << 10 for l in status if l.startswith(name))
libc = ctypes.CDLL(None)
libc.malloc_trim(0)
for _ in range(5000):
    libc.malloc(65_000)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
readings = []
for pages in range(40):
    step()
    optimizer.zero_grad()
    libc.malloc_trim(0)
    for _ in range(200):
        libc.malloc(65_000)
    with open(os.path.dirname(torch.__file__) + "/lib/libtorch_python.so", "rb") as file:
        code = mmap.mmap(file.fileno(), 1 << 20, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        sum(code[::4096])
        code.close()
    more = mmap.mmap(-1, (pages + 1) << 12, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    more.write(bytes(len(more)))
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    before = size("VmRSS")
    step()
    readings.append(size("VmHWM") - before)
    more.close()
print(json.dumps(readings[8:]))
"""
_PINNED = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_ARENA_MAX": "1",
}


def by_hand_bytes(workload: Workload) -> list[int]:
    command = [sys.executable, "-c", _BY_HAND, json.dumps([workload.depth, workload.batch])]
    done = subprocess.run(command, env=os.environ | _PINNED, capture_output=True, check=True)
    readings: list[int] = json.loads(done.stdout)
    return readings


def whole_pages_bytes(workload: Workload) -> int:
    """Return the rise of the predicted step if each block of a page or more is a mapping."""
    trace = predict_trace(workload)
    rise = most = 0
    begun = False
    for event in trace.events:
        begun |= event.step == trace.measured_step and event.phase == "forward"
        if begun:
            mapped = mapped_bytes(abs(event.size_bytes))
            rise += mapped if event.size_bytes > 0 else -mapped
            most = max(most, rise)
    return most


@pytest.mark.parametrize("workload", [SMALL, LARGE])
def test_a_rise_is_its_blocks_in_whole_pages(workload: Workload, launcher: Launcher) -> None:
    for repeat in measure(workload, launcher=launcher).repeats:
        assert repeat.rss_rise_bytes is not None
        assert abs(repeat.rss_rise_bytes - whole_pages_bytes(workload)) <= KERNEL_BATCH_BYTES


# As the kernel does when another process wants memory: pages of a library go during a step.
_DISTURBED = """
import json, mmap, sys, torch
from torch import nn
from harness.instruments import rss
from harness.measurement import passes
from harness.training.module_step import Step, no_phase, run_step

class Disturbed(nn.Linear):
    left = 0

    def forward(self, x):
        if Disturbed.left:
            Disturbed.left -= 1
            pages.madvise(mmap.MADV_DONTNEED)
        return super().forward(x)

def policy(malloc):  # called before each step
    sum(pages[:: mmap.PAGESIZE])

passes.apply_policy = policy
with open(rss._largest_file(), "rb") as file:
    pages = mmap.mmap(file.fileno(), 4 << 20, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
x, y = torch.rand(4096, 1024), torch.randint(0, 1024, (4096,))
step = Step(model=Disturbed(1024, 1024), x=x, y=y, optimizer=None, mode="train")
run_step(step)  # what a first step loads is no rise
results = []
for steps, again_until in json.loads(sys.argv[1]):
    Disturbed.left = steps
    rules = {"again_until": again_until, "is_long": True}
    results.append(passes.plain_pass(step, no_phase, 0, "pinned", **rules))
    results[-1]["runs"] = steps - Disturbed.left
print(json.dumps(results))
"""


def disturbed(*cases: tuple[int, float]) -> list[dict[str, Any]]:
    """Return what a pass gives: pages go in that many steps; later than that none is run again."""
    command = [sys.executable, "-c", _DISTURBED, json.dumps(cases)]
    done = subprocess.run(command, env=os.environ | _PINNED, capture_output=True, check=True)
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def test_a_step_that_the_kernel_took_pages_from_is_run_again_five_times_at_most() -> None:
    never, four_times, always = disturbed((0, inf), (4, inf), (1_000, inf))
    assert abs(never["rss_rise_bytes"] - (48 << 20)) <= KERNEL_BATCH_BYTES
    assert abs(four_times["rss_rise_bytes"] - never["rss_rise_bytes"]) <= KERNEL_BATCH_BYTES
    assert always.keys() == {"wall_seconds", "rss_source", "runs"}
    assert always["runs"] == 5


def test_a_step_is_not_run_again_if_the_deadline_would_pass() -> None:
    (late,) = disturbed((1_000, 0.0))
    assert late.keys() == {"wall_seconds", "rss_source", "runs"}
    assert late["runs"] == 1


def test_a_deadline_leaves_time_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, runs = [0.0], []

    def run_step(step: Step, announce: Phase) -> None:
        clock[0] += 10
        runs.append(step)

    @contextmanager
    def disturbed_rise(number: int) -> Iterator[Rise]:
        yield Rise("planted", lost_bytes=4096)

    monkeypatch.setattr(passes, "run_step", run_step)
    monkeypatch.setattr(passes, "arranged_rise", disturbed_rise)
    planted = SimpleNamespace(monotonic=lambda: clock[0], perf_counter=lambda: clock[0])
    monkeypatch.setattr(passes, "time", planted)
    for deadline, steps in ((70, 3), (100, 6), (600, 7)):
        clock[0] = 0.0
        runs.clear()
        job = RunPasses(workload=SMALL, deadline_seconds=deadline)
        done = passes.measured(job, no_phase)
        assert "rss_rise_bytes" not in done["repeats"][0]
        assert len(runs) == steps


def parts_bytes(record: Record) -> dict[str, int]:
    assert record.process is not None
    parts: dict[str, int] = msgspec.to_builtins(record.process)
    assert sum(parts.values()) == record.rss_peak_bytes
    assert parts["tensors_bytes"] == record.peak_live_bytes
    return parts


def test_the_parts_of_a_process_add_up_and_only_tensors_grow(launcher: Launcher) -> None:
    small, large = (parts_bytes(measure(cell, launcher=launcher)) for cell in (SMALL, LARGE))
    assert small["libraries_bytes"] > small["interpreter_bytes"] > 8 << 20
    assert small["interpreter_bytes"] == large["interpreter_bytes"]
    assert abs(small["heap_bytes"] - large["heap_bytes"]) < 2 << 20
    assert abs(small["libraries_bytes"] - large["libraries_bytes"]) < 2 << 20


def own_bytes(record: Record) -> int:
    assert record.host is not None
    return record.host.processes[0].own_bytes


def test_of_the_host_a_larger_step_takes_its_tensors_more(launcher: Launcher) -> None:
    more = [own_bytes(measure(one, launcher=launcher)) for one in (LARGE, SMALL)]
    tensors = [predict_trace(one).peak_live_bytes for one in (LARGE, SMALL)]
    assert abs(more[0] - more[1] - (tensors[0] - tensors[1])) < 2 << 20


@pytest.mark.slow
def test_a_forks_peak_is_that_of_an_interpreter_that_loads_pytorch_itself() -> None:
    peaks = []
    for own in (ForkLauncher("pinned"), SpawnLauncher("pinned")):
        try:
            peaks.append(measure(LARGE, launcher=own, repeats=1).rss_peak_bytes)
        finally:
            own.close()
    forked, own_interpreter = peaks
    assert forked is not None
    assert own_interpreter is not None
    assert abs(forked - own_interpreter) < PAGE_CACHE_BYTES


@pytest.mark.slow
def test_fresh_servers_make_each_repeat_a_replicate() -> None:
    own = ForkLauncher("pinned")  # one that is lent would not end its server
    try:
        record = measure(SMALL, repeats=2, fresh_servers=True, launcher=own)
    finally:
        own.close()
    assert len({repeat.fork_server for repeat in record.repeats}) == 2
    assert "fork_server" in record.environment
    assert record.environment["fork_server"] is None


@pytest.mark.slow
def test_fresh_fork_servers_measure_what_a_script_reads_by_hand() -> None:
    hand = {cell: statistics.median(by_hand_bytes(cell)) for cell in (SMALL, LARGE)}
    rises: dict[Workload, list[int]] = {SMALL: [], LARGE: []}
    for _ in range(3):
        own = ForkLauncher("pinned")
        try:
            for cell, seen in rises.items():
                record = measure(cell, launcher=own)
                assert record.rss_rise_bytes is not None
                assert abs(record.rss_rise_bytes - hand[cell]) <= 2 * KERNEL_BATCH_BYTES
                seen.append(record.rss_rise_bytes)
        finally:
            own.close()
    for seen in rises.values():  # medians of three that begin at other places in a batch
        assert max(seen) - min(seen) <= KERNEL_BATCH_BYTES / 2, rises
