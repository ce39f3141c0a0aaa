"""The events of steps on CUDA: against recordings of the real allocator, and by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.allocator import Ascending, CachingAllocator
from harness.prediction.gpu.catalogue import GPUS, parse_capability
from harness.prediction.gpu.simulation import Peaks, RecordedSteps, simulate
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.schema.workload import Workload

RECORDINGS = json.loads(Path(__file__).with_name("cuda_events.json").read_text())
"""Made with torch 2.13 by ``record_events.py``, which commit 0badf1f has last."""

pytestmark = pytest.mark.usefixtures("rules_of_2_13")
STEPS = 4


def scripted(recording: dict[str, Any]) -> CudaSteps:
    """Return the steps of a recording on the GPU that the dry run pretended."""
    flags: dict[str, Any] = dict(recording["workload"])
    flags |= {"hidden": tuple(flags.get("hidden", ()))}
    gpu = replace(
        GPUS["a100-40gb"], capability=parse_capability(recording["capability"]),
        multiprocessors=recording["multiprocessors"],
        workspace_config=recording.get("workspace_config"),
    )  # fmt: skip
    return CudaSteps(Workload(device="cuda", **flags), gpu)


def name(recording: dict[str, Any]) -> str:
    flags = recording["workload"] | {"workspace_config": recording.get("workspace_config")}
    return ",".join(f"{k}={v}" for k, v in flags.items() if k != "hidden" and v is not None)


@pytest.mark.parametrize("recording", RECORDINGS, ids=name)
def test_every_event_is_the_recorded_one(recording: dict[str, Any]) -> None:
    """Step, phase, bytes requested and block, in the same order."""
    events = scripted(recording).trace(recording["events"][-1][0]).events
    predicted = [[e.step, e.phase, e.size_bytes, e.address] for e in events]
    assert predicted == recording["events"]


@pytest.mark.parametrize("recording", RECORDINGS, ids=name)
def test_every_peak_of_every_phase_is_the_recorded_one(recording: dict[str, Any]) -> None:
    recorded = {(step, phase): peaks for step, phase, peaks in _peaks(recording)}
    simulated = simulate(scripted(recording), CachingAllocator(addresses=Ascending()))
    assert simulated.build == recorded[0, "build"]
    measured = min(simulated.steady_after + 1, STEPS)
    for phase, peaks in simulated.phases.items():
        # A step begins with the phase "optimizer", where gradients are dropped, and ends with it.
        times = [p for *where, p in _peaks(recording) if where == [measured, phase]]
        assert peaks == Peaks(*map(max, zip(*times, strict=True)))


def _peaks(recording: dict[str, Any]) -> list[list[Any]]:
    return [[step, phase, Peaks(*peaks)] for step, phase, *peaks in recording["peaks"]]


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam", "accumulate": 2}, {"norm": "batch"}])
def test_recorded_steps_have_the_peaks_of_the_written_ones(changes: dict[str, Any]) -> None:
    workload = Workload(device="cuda", depth=4, width=700, batch=999, **changes)
    written = CudaSteps(workload, GPUS["a100-40gb"])
    recorded = RecordedSteps(written.trace(3), written.workspace_bytes)
    assert simulate(recorded, CachingAllocator()) == simulate(written, CachingAllocator())
