"""cuBLAS's workspaces: by version, and under CUBLAS_WORKSPACE_CONFIG as seen under the dry run."""

from collections.abc import Sequence

import pytest

from harness.prediction.gpu import catalogue
from harness.prediction.gpu.catalogue import GPUS
from harness.prediction.gpu.workspaces import (
    LT_WORKSPACE_BYTES,
    VARIABLE,
    WorkspaceConfigError,
    workspace_bytes,
)
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.prediction.predict_workload import predict
from harness.prediction.versions import TorchVersion, describing
from harness.schema.events import Event
from harness.schema.workload import Workload
from tests.commands import Ask
from tests.known import known

WORKLOAD = Workload(device="cuda", depth=2, batch=512, optimizer="adam")
DEFAULT = 8_519_680


@pytest.mark.parametrize(
    ("config", "capability", "size"),
    [
        (None, (7, 5), DEFAULT), (None, (8, 9), DEFAULT), (None, (9, 0), 32 << 20),
        (None, (12, 0), 32 << 20), ("", (8, 0), DEFAULT), ("abc", (8, 0), DEFAULT),
        (":4096", (8, 0), DEFAULT), (":4096:8", (8, 0), 32 << 20),
        (":16:8:4096:2", (8, 0), DEFAULT), (":0:0", (8, 0), 0), (":128:2,:64:3", (8, 0), 458_752),
        (":128:2x", (8, 0), 262_144), ("x:7:1", (8, 0), 7_168), (":1:1:1", (8, 0), 1_024),
        (":99999999999:1", (8, 0), 102_399_999_998_976),
    ],
)  # fmt: skip
def test_capability_and_every_pair_in_the_text_count(
    config: str | None, capability: tuple[int, int], size: int
) -> None:
    assert workspace_bytes(capability, config) == size


@pytest.mark.parametrize(
    "config", [":18446744073709551616:1", f":{'9' * 5000}:1", ":9:1:1:" + "9" * 20]
)
def test_more_than_64_bits_are_refused_in_one_line(
    config: str, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    with pytest.raises(WorkspaceConfigError):
        workspace_bytes((8, 0), config)
    monkeypatch.setenv(VARIABLE, config)
    error = ask(["predict", "--device", "cuda"], 2).err.strip()
    assert VARIABLE in error
    assert "\n" not in error
    assert len(error) < 200


@pytest.mark.usefixtures("rules_of_2_13")
def test_the_environment_is_followed_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    unset = predict(WORKLOAD, gpu="a100-40gb")
    monkeypatch.setenv(VARIABLE, ":4096:8")
    predicted = predict(WORKLOAD, gpu="a100-40gb")
    assert known(predicted.cuda).workspace_bytes == 2 * (32 << 20)
    more = 2 * ((32 << 20) - DEFAULT)
    assert (predicted.peak_live_bytes or 0) - (unset.peak_live_bytes or 0) == more
    assert f"{VARIABLE} ':4096:8': a cuBLAS workspace has 33,554,432 bytes" in predicted.notes
    assert not any(VARIABLE in note for note in unset.notes)
    assert (known(predicted.fit).largest_batch or 0) < (known(unset.fit).largest_batch or 0)
    monkeypatch.setenv(VARIABLE, "big")
    assert any("no pair :KiB:count in it" in note for note in predict(WORKLOAD).notes)


@pytest.mark.usefixtures("rules_of_2_13")
def test_a_record_is_predicted_under_what_it_was_measured_under(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = GPUS["a100-40gb"]
    facts = {
        "gpu": gpu.name, "gpu_capability": "8.0", "gpu_multiprocessors": gpu.multiprocessors,
        "gpu_threads_per_multiprocessor": gpu.threads_per_multiprocessor,
        "gpu_memory_bytes": gpu.total_bytes,
    }  # fmt: skip
    monkeypatch.setenv(VARIABLE, ":1:1")
    for config, size in (("", DEFAULT), (":4096:8", 32 << 20)):
        recorded = catalogue.recorded({**facts, "cublas_workspace_config": config})
        cuda = known(predict(WORKLOAD, gpu=recorded).cuda)
        assert cuda.workspace_bytes == 2 * size


STEP = Workload(device="cuda", hidden=(64,), in_features=32, batch=100, optimizer="sgd")
CUBLAS = workspace_bytes((8, 9))


def workspaces(version: TorchVersion, step: Workload = STEP) -> Sequence[Event]:
    with describing(version):
        events = CudaSteps(step, GPUS["l4"]).trace(1).events
    return [event for event in events if abs(event.size_bytes) in (CUBLAS, LT_WORKSPACE_BYTES)]


def test_up_to_2_14_each_thread_keeps_one_and_since_2_15_each_product_has_its_own() -> None:
    """Two layers with a bias in cuBLASLt, a single column not; three gradients in cuBLAS."""
    kept = [(event.phase, event.size_bytes) for event in workspaces(TorchVersion(2, 14))]
    assert kept == [("forward", CUBLAS), ("backward", CUBLAS)]
    result = workspaces(TorchVersion(2, 15))
    allocated, freed = result[::2], result[1::2]
    assert [event.size_bytes for event in allocated] == [LT_WORKSPACE_BYTES] * 2 + [CUBLAS] * 3
    assert [event.address for event in freed] == [event.address for event in allocated]
    column = workspaces(TorchVersion(2, 15), STEP.replace(classes=1))
    assert [event.size_bytes for event in column[:4:2]] == [LT_WORKSPACE_BYTES, CUBLAS]


def test_the_prediction_says_what_it_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (predict(STEP, gpu="l4", torch=version) for version in ("2.13", "2.15"))
    assert (known(old.cuda).workspace_bytes, known(new.cuda).workspace_bytes) == (2 * CUBLAS, 0)
    assert not any("workspaces are those of" in note for note in new.notes)
    monkeypatch.setenv("CUBLASLT_WORKSPACE_SIZE", "4096")
    old, new = (predict(STEP, gpu="l4", torch=version) for version in ("2.13", "2.15"))
    note = "CUBLASLT_WORKSPACE_SIZE: not followed; workspaces are those without it"
    assert (note in old.notes, note in new.notes) == (False, True)
