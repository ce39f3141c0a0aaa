"""One dry run of a training script: its peaks, categories, reads and snapshot."""

import json
from pathlib import Path

import pytest

from tests.dry_runs.scripts import run, succeeds
from tests.known import known

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


@pytest.mark.exact
def test_one_run_has_peaks_categories_reads_and_a_snapshot(tmp_path: Path) -> None:
    from harness.snapshots.snapshot import read_recording

    report = succeeds(
        tmp_path,
        TRAIN,
        tmp_path / "printed.json",
        gpu="t4",
        snapshot=tmp_path / "snapshot.pickle",
        answers={"script.py:13": 7.5},
        write_files=True,
    )
    assert report.fit == "fits"
    printed = json.loads((tmp_path / "printed.json").read_text())
    assert [report.cuda.allocated_peak_bytes, report.cuda.reserved_peak_bytes] == printed
    (device,) = report.devices
    peak = known(device.peak)
    assert peak.requested_bytes == report.cuda.requested_peak_bytes
    assert sum(peak.categories.values()) == peak.requested_bytes
    weights = 4 * (300 * 400 + 400 + 400 * 10 + 10)
    assert peak.categories["parameter"] == weights
    assert peak.categories["optimizer_state"] == 2 * weights  # steps are counted on the CPU
    (read,) = report.value_reads
    assert (read.count, read.bytes, read.answer) == (3, 12, 7.5)
    assert (read.place, read.text) == (f"{tmp_path / 'script.py'}:13", "if loss.item() > 5:")
    events = read_recording(tmp_path / "snapshot.pickle").snapshots[0].events
    assert sum(event.action == "alloc" for event in events) == device.allocations


FREEING = """
import torch
class Freeing(torch.optim.Adam):
    def step(self, closure=None):
        super().step(closure)
        self.zero_grad()
model = torch.nn.Linear(1000, 1000, bias=False).cuda()
optimizer = Freeing(model.parameters(), foreach=False)
for _ in range(3):
    model(torch.ones(1, 1000).cuda()).sum().backward()
    optimizer.step()
"""


@pytest.mark.slow
def test_a_gradient_that_the_optimizer_frees_is_one_at_the_peak(tmp_path: Path) -> None:
    (device,) = run(tmp_path, FREEING, gpu="t4").devices
    assert known(device.peak).categories["gradient"] == 4_000_000


RECYCLED = """
import torch
layer = torch.nn.Linear(1000, 1000, bias=False).cuda()
optimizer = torch.optim.SGD(layer.parameters())
optimizer.step()
address = layer.weight.data_ptr()
del layer, optimizer
kept = torch.empty(1000, 1000, device="cuda"), torch.empty(1000, device="cuda")
assert kept[0].data_ptr() == address
"""


@pytest.mark.slow
def test_a_block_at_the_address_of_a_parameter_that_is_gone_is_none(tmp_path: Path) -> None:
    (device,) = succeeds(tmp_path, RECYCLED, gpu="t4").devices
    assert known(device.peak).categories == {"other": 4_004_000}
