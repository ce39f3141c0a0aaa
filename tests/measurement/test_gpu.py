"""Execution on a machine without a GPU, or with a planted answer of one."""

import json
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.measurement.process.messages import Ended, Failure
from harness.measurement.process.outcome import classify
from harness.schema.errors import HarnessError
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from harness.thresholds.enforcement import BudgetError, choose_kind

GPU = Workload(device="cuda")


def test_a_gpu_without_a_budget_is_its_own_limit() -> None:
    assert choose_kind(GPU, "auto", whole_gpu=True) == "card"
    assert choose_kind(GPU, "auto") == "allocator"
    with pytest.raises(BudgetError, match="must be given for device cpu"):
        choose_kind(Workload(), "auto", whole_gpu=True)


def test_who_held_the_gpu_is_evidence() -> None:
    held = {"total_bytes": 100, "free_bytes": 1, "reserved_bytes": 9, "outside_bytes": 90}
    failure = Failure(type="OutOfMemoryError", message="CUDA", out_of_memory=True, gpu_memory=held)
    outcome, evidence = classify(Ended(exit_code=1, failure=failure))
    assert outcome is Outcome.OOM
    assert evidence["gpu_memory"] == held


def test_a_gpu_that_is_not_there_is_the_users_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    if torch.version.cuda is not None:
        pytest.skip("a CUDA build pretends a GPU where there is none: tests/dry_run")
    assert main(["measure", "--device", "cuda", "--batch", "4", "--width", "4"]) == 2
    assert "device: 'cuda'" in capsys.readouterr().err


def test_records_of_another_device_are_not_added_to(tmp_path: Path) -> None:
    folder = tmp_path / "accumulation"
    folder.mkdir()
    (folder / "records.jsonl").write_text(json.dumps({"workload": {"device": "cuda"}}) + "\n")
    from harness.sweeps.sweep import _refuse_other_device

    with pytest.raises(HarnessError, match="device cuda"):
        _refuse_other_device(folder, "cpu")
    _refuse_other_device(folder, "cuda")
    _refuse_other_device(tmp_path / "none yet", "cpu")
