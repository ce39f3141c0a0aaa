"""One dry run of a training script: its peaks, categories, reads and snapshot."""

import json
from pathlib import Path

import pytest

from harness.dry_run import DryRunReport, dry_run

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("cuda_build")]

TRAIN = """
import sys
import torch
model = torch.nn.Sequential(torch.nn.Linear(300, 400), torch.nn.ReLU(), torch.nn.Linear(400, 10))
model = model.cuda()
optimizer = torch.optim.AdamW(model.parameters())
for rows in (64, 64, 17):
    x = torch.randn(rows, 300).cuda()
    loss = model(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if loss.item() > 5:
        print("answered")
torch.cuda.synchronize()
import json
json.dump([torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()],
          open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[DryRunReport, list[int], Path]:
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "script.py"
    path.write_text(TRAIN)
    report = dry_run(
        path,
        folder / "printed.json",
        gpu="t4",
        snapshot=folder / "snapshot.pickle",
        answers={f"{path.name}:13": 7.5},
        quiet=True,
    )
    return report, json.loads((folder / "printed.json").read_text()), folder


def test_the_peaks_are_those_that_the_script_reads_itself(
    trained: tuple[DryRunReport, list[int], Path],
) -> None:
    report, printed, _ = trained
    assert report.outcome == "ok"
    assert report.fit == "fits"
    assert [report.cuda.allocated_peak_bytes, report.cuda.reserved_peak_bytes] == printed
    (device,) = report.devices
    assert device.peak is not None
    assert device.peak.requested_bytes == report.cuda.requested_peak_bytes
    assert sum(device.peak.categories.values()) == device.peak.requested_bytes


def test_parameters_gradients_and_optimizer_state_are_distinguished(
    trained: tuple[DryRunReport, list[int], Path],
) -> None:
    report, _, _ = trained
    peak = report.devices[0].peak
    assert peak is not None
    weights = 4 * (300 * 400 + 400 + 400 * 10 + 10)
    assert peak.categories["parameter"] == weights
    assert peak.categories["optimizer_state"] == 2 * weights  # steps are counted on the CPU


def test_reads_of_values_are_counted_and_answered(
    trained: tuple[DryRunReport, list[int], Path],
) -> None:
    report, _, folder = trained
    (read,) = report.value_reads
    assert (read.count, read.bytes, read.answer) == (3, 12, 7.5)
    assert read.place == f"{folder / 'script.py'}:13"
    assert read.text == "if loss.item() > 5:"


def test_the_snapshot_is_one_of_pytorch_s(
    trained: tuple[DryRunReport, list[int], Path],
) -> None:
    from harness.snapshots.snapshot import read_recording

    _, _, folder = trained
    snapshot = read_recording(folder / "snapshot.pickle").snapshots[0]
    assert (
        sum(event.action == "alloc" for event in snapshot.events)
        == trained[0].devices[0].allocations
    )
