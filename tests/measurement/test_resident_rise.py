"""The RSS rise of a step against a derivation that shares no code with its measurement."""

import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from math import inf
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.instruments.rss import Rise
from harness.measurement import passes
from harness.measurement.measure import measure
from harness.measurement.pass_jobs import RunPasses
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.data_segment import mapped_bytes
from harness.processes.launch import Report, environment_of_child
from harness.processes.launcher import ForkLauncher, Launcher
from harness.processes.messages import Ended, Work
from harness.schema.workload import Workload
from harness.training import training_step
from harness.training.data import source
from harness.training.module_step import BuiltStep, Phase, no_phase
from tests.known import known
from tests.lent_launchers import Planted

SMALL = Workload(width=64, in_features=64, depth=4, batch=512)
LARGE = SMALL.replace(depth=16, batch=4096)

KERNEL_BATCH_BYTES = max(32, 2 * (os.cpu_count() or 1)) * 4096
"""The most that a reading may be away from the truth."""

PAGE_CACHE_BYTES = 16 << 20
"""Of the libraries, more pages or fewer are mapped at once, by what the page cache has: a process
was seen to hold 4 MB less from a cold cache, and two 3 to 9 MB apart. A fork that did not count the
pages of its server's libraries would hold 350 MB less."""


@pytest.mark.parametrize("workload", [SMALL, LARGE])
def test_a_rise_is_its_blocks_in_whole_pages(workload: Workload, launcher: Launcher) -> None:
    trace = predict_trace(workload)
    rises, begun = [0], False
    for event in trace.events:
        begun |= event.step == trace.measured_step and event.phase == "forward"
        if begun:
            mapped = mapped_bytes(abs(event.size_bytes))
            rises.append(rises[-1] + (mapped if event.size_bytes > 0 else -mapped))
    repeats = measure(workload, repeats=3, launcher=launcher).repeats
    away = [abs(known(repeat.rss_rise_bytes) - max(rises)) for repeat in repeats]
    # A step that moves to another processor may have a batch there, too.
    assert statistics.median(away) <= KERNEL_BATCH_BYTES
    assert max(away) <= 2 * KERNEL_BATCH_BYTES


@pytest.mark.parametrize(
    ("disturbed", "again_until", "runs"), [(0, inf, 1), (4, inf, 5), (9, inf, 5), (4, 0.0, 1)]
)
def test_a_step_that_the_kernel_took_pages_from_is_run_again_while_there_is_time(
    disturbed: int, again_until: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rises = (Rise("VmHWM", rise_bytes=at, lost_bytes=at < disturbed) for at in count())
    monkeypatch.setattr(passes, "arranged_rise", lambda number: nullcontext(next(rises)))
    monkeypatch.setattr(passes, "apply_policy", lambda malloc: None)
    step = training_step.build(SMALL, source(SMALL))
    seen = passes.plain_pass(step, no_phase, 0, "pinned", again_until=again_until, is_long=True)
    assert seen.get("rss_rise_bytes") == (disturbed if disturbed < runs else None)
    assert {"wall_seconds", "rss_source"} <= seen.keys()
    assert next(rises).rise_bytes == runs


def test_a_deadline_leaves_time_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, runs = [0.0], []

    def run_step(step: BuiltStep, announce: Phase) -> None:
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
        done = passes.measured(msgspec.json.encode(job), no_phase)
        assert "rss_rise_bytes" not in done["repeats"][0]
        assert len(runs) == steps


def test_the_parts_of_a_process_add_up_and_only_tensors_grow(launcher: Launcher) -> None:
    parts: list[dict[str, int]] = []
    for record in (measure(cell, launcher=launcher) for cell in (SMALL, LARGE)):
        parts.append(msgspec.to_builtins(known(record.process)))
        assert sum(parts[-1].values()) == record.rss_peak_bytes
        assert parts[-1]["tensors_bytes"] == record.peak_live_bytes
    small, large = parts
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


FRESH = """
import sys
import msgspec
from harness.processes.malloc_policy import allow_huge_pages
from harness.processes.messages import Call
from harness.processes.worker import line_sender, prime, run_job
allow_huge_pages(False)
prime()
raise SystemExit(run_job(msgspec.json.decode(sys.argv[1], type=Call), line_sender(1)))
"""


def in_a_fresh_interpreter(job: Work[Any]) -> Ended[Any]:
    """Do a job in an interpreter that loads PyTorch itself."""
    command = [sys.executable, "-c", FRESH, msgspec.json.encode(job.as_call()).decode()]
    done = subprocess.run(
        command, env=environment_of_child("pinned"), stdout=subprocess.PIPE, check=False
    )
    report = Report()
    report.feed(done.stdout)
    return report.ended(io.BytesIO(), time.monotonic(), exit_code=done.returncode)


@pytest.mark.slow
def test_a_fork_measures_what_an_interpreter_that_loads_pytorch_itself_does(
    own: ForkLauncher,
) -> None:
    launchers = (own, Planted(in_a_fresh_interpreter))
    forked, fresh = (measure(LARGE, launcher=each, repeats=1) for each in launchers)
    assert abs(known(forked.rss_peak_bytes) - known(fresh.rss_peak_bytes)) < PAGE_CACHE_BYTES
    for name in ("saved_bytes", "peak_live_bytes", "phases", "categories_at_peak", "modules"):
        assert getattr(forked, name) == getattr(fresh, name) is not None


@pytest.mark.slow
def test_fresh_servers_make_each_repeat_a_replicate(own: ForkLauncher) -> None:
    record = measure(SMALL, repeats=2, fresh_servers=True, launcher=own)  # one lent ends no server
    assert len({repeat.fork_server for repeat in record.repeats}) == 2
    assert record.environment["fork_server"] is None
