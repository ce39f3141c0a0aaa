"""The events of steps on CUDA: against recordings of the real allocator, and by hand."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.allocator import Ascending, CachingAllocator
from harness.prediction.gpu.catalogue import Gpu, parse_capability
from harness.prediction.gpu.simulation import Peaks, RecordedSteps, simulate, simulate_steps
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.prediction.versions import CHECKED_ON_CUDA, describing, known_version
from harness.schema.events import Event
from harness.schema.workload import Workload

RECORDINGS = json.loads(Path(__file__).with_name("cuda_events.json").read_text())
"""Made with torch 2.13 by ``record_events.py``, which commit 0badf1f has last."""

WHOLE_STEPS = [one for one in RECORDINGS if "last_rows" not in one["workload"]]
WITH_LAST_BATCH = [one for one in RECORDINGS if "last_rows" in one["workload"]]
STEPS = 4


@pytest.fixture(autouse=True)
def rules_of_the_recordings() -> Iterator[None]:
    """Follow them whichever version is installed."""
    with describing(known_version(CHECKED_ON_CUDA[0])):
        yield


def stub(
    capability: str = "8.0", multiprocessors: int = 108, workspace_config: str | None = None
) -> Gpu:
    """Return the GPU that the dry run pretends."""
    return Gpu(
        name="stub",
        capability=parse_capability(capability),
        multiprocessors=multiprocessors,
        threads_per_multiprocessor=2048,
        total_bytes=80 << 30,
        workspace_config=workspace_config,
    )


def scripted(recording: dict[str, Any]) -> CudaSteps:
    flags: dict[str, Any] = dict(recording["workload"])
    last_rows = flags.pop("last_rows", None)
    flags |= {"hidden": tuple(flags.get("hidden", ()))}
    config = recording.get("workspace_config")
    gpu = stub(recording["capability"], recording["multiprocessors"], config)
    rows_of = {STEPS + 1: last_rows} if last_rows else {}
    return CudaSteps(Workload(device="cuda", **flags), gpu, rows_of=rows_of)


def name(recording: dict[str, Any]) -> str:
    flags = recording["workload"] | {"workspace_config": recording.get("workspace_config")}
    return ",".join(f"{k}={v}" for k, v in flags.items() if k != "hidden" and v is not None)


@pytest.mark.parametrize("recording", RECORDINGS, ids=name)
def test_every_event_is_the_recorded_one(recording: dict[str, Any]) -> None:
    """Step, phase, bytes requested and block, in the same order."""
    events = scripted(recording).trace(recording["events"][-1][0]).events
    predicted = [[e.step, e.phase, e.size_bytes, e.address] for e in events]
    assert predicted == recording["events"]


@pytest.mark.parametrize("recording", WITH_LAST_BATCH, ids=name)
def test_every_peak_around_a_smaller_last_batch_is_the_recorded_one(
    recording: dict[str, Any],
) -> None:
    script, recorded = scripted(recording), _peaks(recording)
    steps = simulate_steps(script, CachingAllocator(addresses=Ascending()), STEPS + 2)
    for step, phases in enumerate(steps):
        for phase, peaks in phases.items():
            times = [p for *where, p in recorded if where == [step, phase]]
            assert peaks == Peaks(*map(max, zip(*times, strict=True))), (step, phase)


@pytest.mark.parametrize("recording", WHOLE_STEPS, ids=name)
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


def test_the_smallest_network_by_hand() -> None:
    """4 -> 3 -> 2, batch 5, relu, adam: every block of the build and of the first step.

    Sizes in float32. The workspace comes with each thread's first product; Adam's step counters
    lie in the host's memory; its roots are all alive at once, as the multi-tensor form has it.
    """
    workload = Workload(
        device="cuda", hidden=(3,), in_features=4, classes=2, batch=5, optimizer="adam"
    )
    weights, biases = (4 * 3 * 4, 3 * 2 * 4), (3 * 4, 2 * 4)
    examples, labels, hidden, logits, one = 5 * 4 * 4, 5 * 8, 5 * 3 * 4, 5 * 2 * 4, 4
    workspace = 8_519_680
    parameters = [weights[0], biases[0], weights[1], biases[1]]
    build = [*parameters, examples, labels]
    forward = [
        +hidden, +workspace,  # the first map, and the workspace of the loop's thread
        +hidden, -hidden,  # relu, which keeps its output
        +logits, +logits, +one, +one, -logits,  # map, log-softmax, loss, total weight
    ]  # fmt: skip
    backward = [
        +one, +logits, -one, +logits, -logits, -logits,  # ones, through the loss to the logits
        +hidden, +workspace, +weights[1], +biases[1], -logits,  # the last map, autograd's thread
        +hidden, -hidden, -hidden,  # relu: gradient of its input; its output's; its output
        +weights[0], +biases[0], -hidden,  # the first map: the batch needs no gradient
        -one, -one,
    ]  # fmt: skip
    moments = [size for size in parameters for _ in range(2)]
    update = [*moments, *parameters, *(-size for size in reversed(parameters))]
    events = CudaSteps(workload, stub()).trace(1).events
    sizes = {
        (step, phase): [e.size_bytes for e in events if (e.step, e.phase) == (step, phase)]
        for step, phase in {(e.step, e.phase) for e in events}
    }
    assert sizes == {
        (0, "build"): build,
        (1, "forward"): forward,
        (1, "backward"): backward,
        (1, "optimizer"): update,
    }


def test_a_later_step_makes_no_workspace_and_ends_as_it_began() -> None:
    script = CudaSteps(Workload(device="cuda", depth=3, optimizer="adamw"), stub())
    trace = script.trace(5)
    after = {step: _alive_after(trace.events, step) for step in range(1, 6)}
    assert len(set(after.values())) == 1
    workspaces = [e for e in trace.events if e.size_bytes == 8_519_680]
    assert [e.step for e in workspaces] == [1, 1]
    assert script.workspace_bytes == 2 * 8_519_680


def _alive_after(events: Sequence[Event], step: int) -> int:
    return sum(e.size_bytes for e in events if e.step <= step)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam", "accumulate": 2}, {"norm": "batch"}])
def test_a_trace_goes_on_as_the_steps_would(changes: dict[str, Any]) -> None:
    """Three recorded steps, the last one played again and again, give the written ones' peaks."""
    workload = Workload(device="cuda", depth=4, width=700, batch=999, **changes)
    written = CudaSteps(workload, stub())
    recorded = RecordedSteps(written.trace(3), written.workspace_bytes)
    assert [len(p) for _, p in recorded.requests(9)] == [len(p) for _, p in written.requests(9)]
    assert simulate(recorded, CachingAllocator()) == simulate(written, CachingAllocator())
