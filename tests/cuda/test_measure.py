"""A measurement on a GPU, against the allocator's counters and closed forms."""

from typing import Any

import pytest

from harness.measurement.measure import measure
from harness.prediction.mlp import formula
from harness.processes.environment import pretended_device
from harness.processes.launcher import Launcher
from harness.schema.metrics import CudaMetrics, CudaPeaks
from harness.schema.record import Outcome, Record
from harness.schema.workload import Workload
from tests.cuda.conftest import WORKSPACES_STAY
from tests.known import known

pytestmark = pytest.mark.cuda

BASE = Workload(device="cuda", depth=4, batch=128)
COUNTERS = tuple(CudaPeaks.__struct_fields__)

WORKLOADS = [
    *(BASE.replace(optimizer=name) for name in ("sgd", "momentum", "adam", "adamw", "none")),
    BASE.replace(mode="inference"),
    BASE.replace(activation="tanh", batch=77),
    BASE.replace(activation="gelu", optimizer="adam", batch=1),
    BASE.replace(checkpoint=2),
    BASE.replace(accumulate=3, optimizer="momentum"),
    BASE.replace(accumulate=5, batch=33, optimizer="adamw"),
    BASE.replace(autocast="bfloat16"),
    BASE.replace(dtype="bfloat16", activation="relu_inplace"),
    BASE.replace(model="mlp-scratch", foreach="off", optimizer="adam"),
    BASE.replace(norm="batch", dropout=0.1, batch=65),
    BASE.replace(hidden=(1000, 333, 2000), batch=300, optimizer="adam"),
]


@pytest.fixture(scope="module")
def records(launcher: Launcher) -> dict[str, Record]:
    return {one.id: measure(one, launcher=launcher, repeats=3) for one in WORKLOADS}


@pytest.fixture(params=WORKLOADS, ids=str)
def record(request: pytest.FixtureRequest, records: dict[str, Record]) -> Record:
    record = records[request.param.id]
    assert record.outcome is Outcome.OK, record.evidence
    return record


def test_every_metric_is_there(record: Record) -> None:
    unknown = {
        name
        for name in (*record.__struct_fields__, *CudaMetrics.__struct_fields__)
        if getattr(record, name, getattr(record.cuda, name, None)) is None
    }
    of_the_process = {"rss_rise_bytes", "rss_peak_bytes", "process"}  # on the CPU alone
    if pretended_device() is not None:
        of_the_process |= {"wall_seconds", "outside_bytes"}
    assert unknown == of_the_process
    assert {"gpu", "gpu_capability", "driver", "allocator_settings"} <= record.environment.keys()


def test_the_traces_peaks_are_the_counters_of_requested_bytes(record: Record) -> None:
    """Another process, another instrument, the same bytes: build, phases and both steps."""
    cuda, categories = known(record.cuda), known(record.categories_at_peak)
    assert record.peak_live_bytes == cuda.requested_peak_bytes
    assert record.first_step_peak_live_bytes == known(cuda.first_step).requested_peak_bytes
    assert {name: one.peak_live_bytes for name, one in known(record.phases).items()} == {
        name: one.requested_peak_bytes for name, one in known(cuda.phases).items()
    }
    sizes = [getattr(categories, name) for name in categories.__struct_fields__]
    assert sum(sizes) == record.peak_live_bytes
    if not record.workload.autocast:  # whose casts are saved on the CPU alone
        assert record.saved_bytes == formula.saved_bytes(record.workload)


def test_every_measured_step_is_steady_and_each_counter_holds_the_one_before(
    record: Record,
) -> None:
    cuda = known(record.cuda)
    steps = [one for name, one in known(cuda.phases).items() if name != "build"]
    for counter in COUNTERS:
        peak = getattr(cuda, counter)
        assert {getattr(repeat.cuda, counter) for repeat in record.repeats} == {peak}
        assert max(getattr(one, counter) for one in steps) == peak
    peaks: list[Any] = [cuda.workspace_bytes, *(getattr(cuda, name) for name in COUNTERS)]
    assert peaks == sorted(peaks)


def test_a_second_workspace_comes_with_the_backward_pass(launcher: Launcher) -> None:
    training, inference = (
        known(known(measure(one, launcher=launcher, repeats=1).cuda).workspace_bytes)
        for one in (BASE, BASE.replace(mode="inference"))
    )
    assert (inference > 0) is WORKSPACES_STAY
    assert training == 2 * inference


def test_a_measurement_does_not_depend_on_those_before_it(launcher: Launcher) -> None:
    """Of what is requested, to the byte; where the driver puts a segment is its own affair."""
    first, _, again = (
        measure(one, launcher=launcher, repeats=1) for one in (BASE, WORKLOADS[-1], BASE)
    )
    assert known(first.cuda).requested_peak_bytes == known(again.cuda).requested_peak_bytes
    assert first.phases == again.phases
    assert first.categories_at_peak == again.categories_at_peak


def test_the_environments_settings_are_followed_and_recorded(
    monkeypatch: pytest.MonkeyPatch, fresh_launcher: Launcher
) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "roundup_power2_divisions:4")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":128:2")
    record = measure(BASE.replace(batch=99), launcher=fresh_launcher, repeats=1)
    assert record.environment["allocator_settings"] == "roundup_power2_divisions:4"
    each_of_two_threads = 2 * 128 * 1024
    assert known(record.cuda).workspace_bytes == (2 * each_of_two_threads if WORKSPACES_STAY else 0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_on_the_cpu_is_measured_beside_a_gpu(optimizer: str, launcher: Launcher) -> None:
    """The process that forks has made a forward pass alone; its worker runs the rest."""
    workload = Workload(depth=3, batch=40, optimizer=optimizer)
    record = measure(workload, launcher=launcher)
    assert record.outcome is Outcome.OK, record.evidence
    assert record.saved_bytes == formula.saved_bytes(workload)
    assert record.cuda is None
    assert record.rss_rise_bytes is not None
