"""The RSS rise of a step against two derivations that share no code with its measurement."""

import json
import os
import statistics
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from harness.measurement.measure import measure
from harness.measurement.process.launcher import ForkLauncher, Launcher, SpawnLauncher
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.data_segment import mapped_bytes
from harness.schema.record import Record
from harness.schema.workload import Workload
from tests.known import known

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


def told(script: str, *argument: int) -> list[Any]:
    """Return what a script that reads its argument prints, in an interpreter of its own."""
    command = [sys.executable, "-c", script, json.dumps(argument)]
    done = subprocess.run(command, env=os.environ | _PINNED, capture_output=True, check=True)
    result: list[Any] = json.loads(done.stdout)
    return result


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
        assert abs(known(repeat.rss_rise_bytes) - whole_pages_bytes(workload)) <= KERNEL_BATCH_BYTES


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
for steps in json.loads(sys.argv[1]):
    Disturbed.left = steps
    results.append(passes.plain_pass(step, no_phase, 0, "pinned", is_long=True))
print(json.dumps(results))
"""


def test_a_step_that_the_kernel_took_pages_from_is_run_again_five_times_at_most() -> None:
    never, four_times, always = told(_DISTURBED, 0, 4, 1_000)
    assert abs(never["rss_rise_bytes"] - (48 << 20)) <= KERNEL_BATCH_BYTES
    assert abs(four_times["rss_rise_bytes"] - never["rss_rise_bytes"]) <= KERNEL_BATCH_BYTES
    assert always.keys() == {"wall_seconds", "rss_source"}


def parts_bytes(record: Record) -> dict[str, int]:
    parts: dict[str, int] = msgspec.to_builtins(known(record.process))
    assert sum(parts.values()) == record.rss_peak_bytes
    assert parts["tensors_bytes"] == record.peak_live_bytes
    return parts


def test_the_parts_of_a_process_add_up_and_only_tensors_grow(launcher: Launcher) -> None:
    small, large = (parts_bytes(measure(cell, launcher=launcher)) for cell in (SMALL, LARGE))
    assert small["libraries_bytes"] > small["interpreter_bytes"] > 8 << 20
    assert small["interpreter_bytes"] == large["interpreter_bytes"]
    assert abs(small["heap_bytes"] - large["heap_bytes"]) < 2 << 20
    assert abs(small["libraries_bytes"] - large["libraries_bytes"]) < 2 << 20


def test_of_the_host_a_larger_step_takes_its_tensors_more(launcher: Launcher) -> None:
    large, small = (
        known(measure(one, launcher=launcher).host).processes[0].own_bytes
        - predict_trace(one).peak_live_bytes
        for one in (LARGE, SMALL)
    )
    assert abs(large - small) < 2 << 20


@pytest.mark.slow
def test_a_fork_measures_what_an_interpreter_that_loads_pytorch_itself_does(
    own: ForkLauncher,
) -> None:
    """A worker is an interpreter of its own where there is no fork."""
    launchers = (own, SpawnLauncher("pinned"))
    forked, spawned = (measure(LARGE, launcher=each, repeats=1) for each in launchers)
    assert abs(known(forked.rss_peak_bytes) - known(spawned.rss_peak_bytes)) < PAGE_CACHE_BYTES
    for name in ("saved_bytes", "peak_live_bytes", "phases", "categories_at_peak", "modules"):
        assert getattr(forked, name) == getattr(spawned, name) is not None


@pytest.mark.slow
def test_fresh_servers_make_each_repeat_a_replicate(own: ForkLauncher) -> None:
    record = measure(SMALL, repeats=2, fresh_servers=True, launcher=own)  # one lent ends no server
    assert len({repeat.fork_server for repeat in record.repeats}) == 2
    assert record.environment["fork_server"] is None


@pytest.mark.slow
def test_fresh_fork_servers_measure_what_a_script_reads_by_hand() -> None:
    cells = (SMALL, LARGE)
    hand = {cell: statistics.median(told(_BY_HAND, cell.depth, cell.batch)) for cell in cells}
    rises: dict[Workload, list[int]] = {cell: [] for cell in cells}
    for _ in range(3):
        own = ForkLauncher("pinned")
        try:
            for cell, seen in rises.items():
                seen.append(known(measure(cell, launcher=own).rss_rise_bytes))
                assert abs(seen[-1] - hand[cell]) <= 2 * KERNEL_BATCH_BYTES
        finally:
            own.close()
    for seen in rises.values():  # medians of three that begin at other places in a batch
        assert max(seen) - min(seen) <= KERNEL_BATCH_BYTES / 2, rises
