"""Values that come from the host are those of a GPU; a value that may have changed is unknown."""

from pathlib import Path

import pytest

from harness.dry_runs.dry_run_report import DryRunReport
from tests.dry_runs.scripts import succeeds

pytestmark = pytest.mark.usefixtures("cuda_build")


CHANGED = """
import torch
from torch import nn
d = "cuda"
weight = torch.randn(6, 6, device=d)
noise = torch.randn(6, device=d)
x = torch.arange(6, device=d); x.tolist()  # known
x.random_(0, 5); x.tolist()  # unknown
x = torch.arange(6, device=d); x[2:4].random_(0, 5); x.tolist()  # unknown
x[:2].tolist(); x[4:].tolist()  # known
x = torch.ones(6, device=d); x.mul_(noise); x.tolist()  # unknown
x.fill_(1); x.tolist()  # known
x = torch.ones(6, device=d); x.copy_(noise); x.tolist()  # unknown
x = torch.ones(6, device=d); torch.mv(weight, noise, out=x); x.tolist()  # unknown
x = torch.ones(6, 6, device=d); x.addmm_(weight, weight); x.sum().item()  # unknown
x = torch.ones(6, device=d); torch._foreach_add_([x], [noise]); x.tolist()  # unknown
x = torch.ones(6, device=d); x.uniform_(); x.tolist()  # unknown
x[noise > 0] = noise[:1]  # decides a size, which moves no peak
x = torch.ones(6, device=d); x[torch.arange(2, device=d)] = noise[:2]; x.tolist()  # unknown
x = torch.ones(6, device=d); y = x.view(2, 3); y.add_(noise.view(2, 3)); x.tolist()  # unknown
x = torch.ones(6, device=d) + noise; x.tolist()  # unknown
big = torch.ones(300000, dtype=torch.int64, device=d); big[7].item(); at = big.data_ptr()  # known
del big; big = torch.empty(300000, dtype=torch.int64, device=d); assert big.data_ptr() == at
big[7].item()  # unknown
x = torch.zeros(6, device=d); x.set_(noise); x.tolist()  # unknown
x = torch.ones(6, device=d, requires_grad=True)
(x * noise).sum().backward(); x.grad.tolist()  # unknown
optimizer = torch.optim.SGD([x], lr=0.1); optimizer.step(); x.tolist()  # unknown
for fused in (True, False):
    x = nn.Parameter(torch.ones(6, device=d)); x.grad = noise
    torch.optim.AdamW([x], fused=fused).step(); x.tolist()  # unknown
norm = nn.BatchNorm1d(6).cuda(); norm.running_mean.tolist()  # known
norm(weight); norm.running_mean.tolist(); norm.running_var.tolist()  # unknown
norm.num_batches_tracked.item()  # known
x = torch.empty(6, device=d); torch.cumsum(noise, 0, out=x); x.tolist()  # unknown
embedding = nn.Embedding(6, 3).cuda(); embedding.weight.data.fill_(1)
embedding.weight.tolist()  # known
embedding(torch.tensor([1, 2], device=d)).backward(noise.view(2, 3))
embedding.weight.grad.tolist()  # unknown
x = torch.ones(6, device=d); nn.functional.dropout(x).tolist()  # unknown
nn.functional.gelu(torch.ones(6, device=d)).tolist()  # unknown
x = torch.tensor([1, 2]).cuda()
x.to(torch.float64).tolist(); x.cpu().tolist(); x.clone().tolist()  # known
x = torch.ones(1 << 22, device=d); x[5].item()  # unknown
x = torch.ones(1 << 22, dtype=torch.int64).cuda()
x[5].item(); (x[:9] == 1).all().item()  # known
x.mul_(2); x[5].item()  # known
x = torch.ones(1 << 24, dtype=torch.int64).cuda(); x[5].item()  # unknown
"""


def test_a_value_that_may_have_changed_is_unknown(tmp_path: Path) -> None:
    check_lines(CHANGED, succeeds(tmp_path, CHANGED, gpu="l4", compute="none"))


def check_lines(script: str, report: DryRunReport) -> None:
    """Check what each line of a script reads, as its comment says."""
    told = {int(read.place.rpartition(":")[2]): read for read in report.value_reads}
    for number, line in enumerate(script.splitlines(), 1):
        if line.endswith("# known"):
            assert told[number].known == told[number].count, line
        elif line.endswith("# unknown"):
            assert told[number].known == 0, line


SCALED = """
import torch
model = torch.nn.Linear(8, 4).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cuda", init_scale=1024.0, growth_interval=2)
for _ in range(4):
    with torch.autocast("cuda", torch.float16):
        loss = model(torch.randn(2, 8, device="cuda")).sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
assert scaler.get_scale() == 4096.0
"""


def test_the_scale_of_a_grad_scaler_grows_as_with_finite_gradients(tmp_path: Path) -> None:
    report = succeeds(tmp_path, SCALED, gpu="a100-40gb")
    assert all(read.known == read.count for read in report.value_reads)
