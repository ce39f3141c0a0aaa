"""Networks that a script builds on the host: large values are written only if they are read."""

from pathlib import Path

import pytest

from tests.dry_run.scripts import run

pytestmark = pytest.mark.usefixtures("cuda_build")

MOVED = """
import resource, torch
from torch import nn

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

torch.zeros(1, device="cuda")
before = resident()
for to in [("cuda",), ("cuda", torch.float16)]:
    layers = nn.Sequential(*(nn.Linear(8192, 8192) for _ in range(4)))
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02)
    layers.to(*to)
    assert resident() - before < 400 << 20, resident() - before  # of 1 GiB
    out = layers(torch.randn(8, 8192, device="cuda", dtype=layers[0].weight.dtype))
    out.sum().backward()
"""
READ = """
import itertools, torch
from torch import nn, channels_last
large = nn.Linear(4096, 4096)
nn.init.constant_(large.weight, 0.5)
assert large.weight.sum().item() == 0.5 * 4096 * 4096, large.weight.sum()
with torch.no_grad():
    large.weight.mul_(4)
half = large.half()
assert half.weight[3, 5].item() == 2 and half.weight[3].sum().item() == 8192
data = torch.arange(4096)
other = nn.Linear(4096, 8192)
nn.init.ones_(other.weight)
assert other(torch.ones(1, 4096)).detach().round()[0, 0].item() in (4095, 4096, 4097)
kept = data[data > 1000].cuda()
assert len(kept) == 3095
moved = nn.Embedding(8192, 4096).cuda()
from torch.utils._python_dispatch import _get_current_dispatch_mode
assert _get_current_dispatch_mode() is None
moved.cpu()
network = nn.ModuleList([nn.Conv2d(1024, 1024, 3), nn.Conv2d(512, 512, 3)])
network.to(memory_format=channels_last).cuda()
for layer in network:
    assert layer.weight.is_contiguous(memory_format=channels_last), layer.weight.stride()
"""


def test_a_network_that_is_moved_is_not_written_on_the_host(tmp_path: Path) -> None:
    report = run(tmp_path, MOVED, gpu="l4")
    assert report.outcome == "ok", report.evidence
    never = [note for note in report.notes if "initial values of 1 GiB" in note]
    assert len(never) == 2, report.notes
    assert report.optimizer_steps == 0


def test_what_is_read_on_the_host_has_its_values_and_what_is_not_keeps_its_layout(
    tmp_path: Path,
) -> None:
    report = run(tmp_path, READ, gpu="l4")
    assert report.outcome == "ok", report.evidence
    assert [note for note in report.notes if "never written" in note]
