"""cuBLAS's workspaces by version: they stay up to PyTorch 2.14, and are freed since 2.15."""

from collections.abc import Sequence

import pytest

from harness.prediction.gpu.catalogue import GPUS
from harness.prediction.gpu.workspaces import LT_WORKSPACE_BYTES, notes_on, workspace_bytes
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.prediction.predict_workload import predict
from harness.prediction.versions import TorchVersion, describing
from harness.schema.events import Event
from harness.schema.workload import Workload

STEP = Workload(device="cuda", hidden=(64,), in_features=32, batch=100, optimizer="sgd")
CUBLAS = workspace_bytes((8, 9))


def workspaces(version: TorchVersion, step: Workload = STEP) -> Sequence[Event]:
    with describing(version):
        events = CudaSteps(step, GPUS["l4"]).trace(1).events
    return [event for event in events if abs(event.size_bytes) in (CUBLAS, LT_WORKSPACE_BYTES)]


def test_up_to_2_14_each_thread_keeps_one() -> None:
    found = workspaces(TorchVersion(2, 14))
    assert [(event.phase, event.size_bytes) for event in found] == [
        ("forward", CUBLAS),
        ("backward", CUBLAS),
    ]


def test_since_2_15_each_product_has_its_own() -> None:
    """Two layers with a bias in cuBLASLt; three gradients without one in cuBLAS."""
    found = workspaces(TorchVersion(2, 15))
    allocated, freed = found[::2], found[1::2]
    assert [event.size_bytes for event in allocated] == [LT_WORKSPACE_BYTES] * 2 + [CUBLAS] * 3
    assert [event.address for event in freed] == [event.address for event in allocated]


def test_a_single_column_is_not_for_cublaslt() -> None:
    found = workspaces(TorchVersion(2, 15), STEP.replace(classes=1))
    assert [event.size_bytes for event in found[:4:2]] == [LT_WORKSPACE_BYTES, CUBLAS]


def test_the_prediction_says_what_it_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (predict(STEP, gpu="l4", torch=version) for version in ("2.13", "2.15"))
    assert old.cuda is not None
    assert new.cuda is not None
    assert (old.cuda.workspace_bytes, new.cuda.workspace_bytes) == (2 * CUBLAS, 0)
    assert not any("workspaces are those of" in note for note in new.notes)
    monkeypatch.setenv("CUBLASLT_WORKSPACE_SIZE", "4096")
    with describing(TorchVersion(2, 15)):
        assert notes_on((8, 9), None) == [
            "CUBLASLT_WORKSPACE_SIZE: not followed; workspaces are those without it"
        ]
    with describing(TorchVersion(2, 13)):
        assert notes_on((8, 9), None) == []
