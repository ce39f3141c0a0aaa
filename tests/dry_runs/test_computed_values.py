"""PyTorch's CPU kernels compute what a script's GPU holds: values as on the CPU, peaks as ever."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from harness.dry_runs.dry_run_report import DryRunReport
from harness.processes.limits import machine_memory
from tests.dry_runs.scripts import succeeds
from tests.dry_runs.test_known_values import check_lines
from tests.known import known

pytestmark = [pytest.mark.usefixtures("cuda_build"), pytest.mark.quick]

NETWORKS = """
import sys, time, torch
from torch import nn
from torch.nn import functional
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.inner, self.last = nn.RMSNorm(16), nn.Linear(16, 48), nn.Linear(96, 5)
    def forward(self, x):
        q, k, v = self.inner(self.norm(x)).view(4, 6, 3, 2, 8).permute(2, 0, 3, 1, 4)
        mask = torch.ones(6, 6, dtype=torch.bool, device=x.device).tril()
        out = functional.scaled_dot_product_attention(q, k, v, mask)
        return self.last(out.transpose(1, 2).flatten(1))
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.LSTM(16, 8, num_layers=2, batch_first=True)
        self.last = nn.LSTM(8, 8, 2, False, True, proj_size=5)  # without biases
    def forward(self, x):
        return self.last(self.inner(x)[0])[0][:, -1]
class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(448, 5)
    def forward(self, x):
        return self.last(self.norm(self.first(x[:, None])).relu().flatten(1))
def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(96, 32), nn.GELU(), nn.Linear(32, 5))
def losses(build, device):
    torch.manual_seed(0)
    model = build().to(device)
    x, y = torch.randn(4, 6, 16).to(device), torch.randint(5, (4,)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, fused=True)
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
checks = sys.argv[1:] == ["check"]
for build in (perceptron, Images, Recurrent, Attention):
    want, got = losses(build, "cpu"), losses(build, "cuda")
    assert want[2] < want[1] < want[0]
    if checks:
        torch.testing.assert_close(got, want, msg=lambda text: f"{build.__name__}: {text}")
ones = torch.ones(128 << 20, device="cuda")
for _ in range(3):
    ones.mul(1)  # its result is on the host, for a moment
time.sleep(0.4)  # until the host's memory has been sampled
last = ones[-1].item()
if checks:
    assert last == 1
"""

FILLED_BYTES = 512 << 20
"""Bytes of ``ones``."""


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> DryRunReport:
    return succeeds(tmp_path_factory.mktemp("all"), NETWORKS, "check", compute="all")


@pytest.fixture(scope="module")
def not_computed(tmp_path_factory: pytest.TempPathFactory) -> DryRunReport:
    folder = tmp_path_factory.mktemp("none")
    return succeeds(folder, NETWORKS, compute="none", try_values=False)


def test_networks_train_with_the_losses_of_the_cpu(computed: DryRunReport) -> None:
    done = known(computed.computed)
    assert (done.not_computed, done.stopped_by) == ((), None)
    assert all(read.known == read.count for read in computed.value_reads)


def test_computing_moves_no_peak_and_no_allocation(
    computed: DryRunReport, not_computed: DryRunReport
) -> None:
    assert all(read.known == 0 for read in not_computed.value_reads)
    assert computed.cuda == not_computed.cuda
    for mine, other in zip(computed.devices, not_computed.devices, strict=True):
        assert mine.peaks == other.peaks
        assert mine.allocations == other.allocations
        assert mine.requested_total_bytes == other.requested_total_bytes
        assert known(mine.peaks.requested_peak_bytes) >= FILLED_BYTES


def test_values_of_the_gpu_are_not_memory_of_the_host(
    computed: DryRunReport, not_computed: DryRunReport
) -> None:
    most, least = known(computed.host), known(not_computed.host)
    for one, other in zip(most.peak_bytes, least.peak_bytes, strict=True):
        assert abs(one - other) < 100 << 20
    assert abs(most.shared_bytes - least.shared_bytes) < 100 << 20
    (with_values,), (without,) = most.processes, least.processes
    assert abs(with_values.own_bytes - without.own_bytes) < 100 << 20


RANDOM = """
import torch
from torch.nn.functional import dropout
ones = torch.ones(1000, device="cuda")
def draws():
    made = [torch.rand(1000, device="cuda"), torch.randn(1000, device="cuda"), dropout(ones)]
    made += [torch.randperm(1000, device="cuda"), torch.bernoulli(ones / 2)]
    return torch.stack([one.float() for one in made]).cpu()
def seeded(seed):
    torch.manual_seed(seed)
    return draws()
first = seeded(3)
assert 0 <= first[0].min() < 0.1 < 0.9 < first[0].max() < 1
assert 0.8 < first[1].std() < 1.2
assert set(first[2].tolist()) == {0, 2} and 400 < (first[2] > 0).sum() < 600
assert first[3].sort().values.tolist() == list(range(1000))
assert torch.equal(first, seeded(3))
other = seeded(4)
assert not any(torch.equal(one, two) for one, two in zip(first, other))
assert not torch.equal(other, draws())  # the next numbers of the stream
state = torch.cuda.get_rng_state()
before = draws()
torch.cuda.set_rng_state(state)
assert torch.equal(before, draws())
torch.cuda.set_rng_state(state)
with torch.random.fork_rng():
    draws(), draws()
assert torch.equal(before, draws())
torch.manual_seed(0)
want = torch.rand(9)
torch.manual_seed(0)
draws()
assert torch.equal(torch.rand(9), want)  # the GPU's numbers take none of the host's
def lists(device):
    torch.manual_seed(5)
    made = torch.rand(9, device=device), torch.randn(9, device=device)
    return [one.tolist() for one in (*made, dropout(torch.ones(99, device=device)))]
assert lists("cuda") == lists("cpu")
"""


def test_random_numbers_follow_seeds_and_states(tmp_path: Path) -> None:
    done = known(succeeds(tmp_path, RANDOM, compute="all").computed)
    assert done.is_random


REPLAYED = """
import torch
from torch import nn
torch.manual_seed(0)
def network():
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 10))
there, here = network(), network()
there.load_state_dict(here.state_dict())
there.cuda()
of_there, of_here = (torch.optim.SGD(one.parameters(), 0.1) for one in (there, here))
def step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
images, classes = torch.randn(6, 8, 16), torch.randint(10, (6, 8))
x, y = images[0].cuda(), classes[0].cuda()
side = torch.cuda.Stream()
side.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(side):
    for _ in range(3):
        step(there, of_there, x, y)
        step(here, of_here, images[0], classes[0])
torch.cuda.current_stream().wait_stream(side)
graph = torch.cuda.CUDAGraph()
of_there.zero_grad()
with torch.cuda.graph(graph):
    loss = step(there, of_there, x, y)
for image, label in zip(images, classes):
    x.copy_(image)
    y.copy_(label)
    graph.replay()
    torch.testing.assert_close(loss.cpu(), step(here, of_here, image, label).detach())
"""


def test_a_replay_of_a_cuda_graph_computes(tmp_path: Path) -> None:
    succeeds(tmp_path, REPLAYED, compute="all")


KERNEL = """
import torch, triton, triton.language as tl
@triton.jit
def half(x):
    return x * 0.5
@triton.jit
def mixed(a, b, out, n, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = places < n
    made = half(tl.load(a + places, mask)) + tl.sigmoid(tl.load(b + places, mask))
    tl.store(out + places, made, mask)
a, b = torch.randn(1000), torch.randn(1000)
out = torch.zeros(1001, device="cuda")
mixed[(triton.cdiv(1000, 256),)](a.cuda(), b.cuda(), out, 1000, BLOCK=256)
torch.testing.assert_close(out[:1000].cpu(), a * 0.5 + b.sigmoid())
assert out[1000].item() == 0
"""


SHORT = """
import torch, triton, triton.language as tl
@triton.jit
def mixed(a, b, n, out, ROWS, B: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, B)
    mask = (row < ROWS) & (at < B)  # of a scalar and a block
    x, y = tl.load(a + at, mask), tl.load(b + at, mask)
    tl.store(out + at, x + y, mask)
    tl.store(out + B + at, tl.maximum(x, y), mask)
    tl.store(out + 2 * B + at, (x.to(tl.float32) * 3).to(tl.bfloat16), mask)
    tl.store(out + 3 * B + at, tl.where(x > y, x, -y), mask)
    tl.store(out + 4 * B + at, tl.load(n + at, mask).to(tl.bfloat16), mask)
@triton.jit
def product(a, b, out, B: tl.constexpr):
    row, column = tl.arange(0, B)[:, None], tl.arange(0, B)[None, :]
    at = row * B + column
    tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at)))
@torch.library.custom_op("mine::product", mutates_args=())
def as_operator(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.empty(16, 16, device="cuda")
    product[(1,)](a, b, out, 16)
    return out
a, b = torch.randn(256).bfloat16(), torch.randn(256).bfloat16()
n = torch.arange(256) * 77
out = torch.empty(5, 256, device="cuda", dtype=torch.bfloat16)
mixed[(1,)](a.cuda(), b.cuda(), n.cuda(), out, 1, 256)
want = [a + b, torch.maximum(a, b), (a.float() * 3).bfloat16(), torch.where(a > b, a, -b)]
assert torch.equal(out.cpu(), torch.stack([*want, n.bfloat16()]))
made = as_operator(a.view(16, 16).cuda(), b.view(16, 16).cuda())
torch.testing.assert_close(made.cpu(), a.view(16, 16).float() @ b.view(16, 16).float())
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="this build of PyTorch has no Triton")
@pytest.mark.parametrize("code", [KERNEL, SHORT], ids=["float32", "bfloat16 and masks"])
def test_triton_kernels_of_the_script_compute_as_on_a_gpu(tmp_path: Path, code: str) -> None:
    report = succeeds(tmp_path, code, compute="all")
    assert known(report.computed).not_computed == ()


TOTAL = """
import torch, triton, triton.language as tl
@triton.jit
def total(a, out, B: tl.constexpr):
    tl.store(out, tl.sum(tl.load(a + tl.arange(0, B)), 0))
out = torch.zeros(1, device="cuda", dtype=torch.bfloat16)
total[(1,)](torch.ones(16, device="cuda", dtype=torch.bfloat16), out, 16)
out.item()  # unknown
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="this build of PyTorch has no Triton")
def test_a_triton_kernel_that_reduces_bfloat16_is_not_computed(tmp_path: Path) -> None:
    """A GPU rounds in an order of its own."""
    report = succeeds(tmp_path, TOTAL, compute="all")
    assert known(report.computed).not_computed == ("kernel total",)
    check_lines(TOTAL, report)


BEYOND = """
import torch, triton, triton.language as tl
@triton.jit
def twice(x):
    at = x + tl.program_id(0)
    tl.store(at, tl.load(at) * 2)
x = torch.ones(100_000, device="cuda")
twice[(100_000,)](x)  # minutes in the interpreter
x[0].item()  # unknown
"""


def test_what_a_triton_kernel_beyond_the_budget_writes_is_unknown(tmp_path: Path) -> None:
    """It was taken for computed, and the value before the launch was read."""
    report = succeeds(tmp_path, BEYOND)
    assert known(report.computed).stopped_by == "time"
    check_lines(BEYOND, report)


NARROW = """
import torch
torch.manual_seed(0)
a, b = (torch.randn(256, 256).half() for _ in "ab")
want = (a.float() @ b.float()).half()
for product in torch.mm, torch.compile(torch.mm):
    assert torch.equal(product(a.cuda(), b.cuda()).cpu(), want), product
"""


def test_products_of_16_bits_are_rounded_once(tmp_path: Path) -> None:
    """The CPU's own kernel for float16 took 200 times as long."""
    succeeds(tmp_path, NARROW, compute="all")


FORKED = """
import os, torch
torch.cuda._is_in_bad_fork = lambda: False
torch.set_num_threads(1)  # as in a worker; threads do not survive a fork
x = torch.zeros(1 << 20, device="cuda")
assert x.sum().item() == 0
if (child := os.fork()) == 0:
    assert x.sum().item() == 0
    x.fill_(2)
    y = torch.ones(1 << 20, device="cuda")
    os._exit(0 if (x + y).sum().item() == 3 << 20 else 1)
assert os.waitpid(child, 0)[1] == 0
assert x.sum().item() == 0
"""


def test_a_forked_process_has_values_of_its_own(tmp_path: Path) -> None:
    """As each try of a step has: the weights that it trains are not the next one's."""
    succeeds(tmp_path, FORKED, compute="all")


TOO_LARGE = """
import torch
x = torch.ones(8192, 8192, device="cuda")
(x[:4] * 3).sum().item()  # known
y = x @ x  # 1.1e12 operations
y[0, 0].item()  # unknown
(x[0] + 1)[0].item()  # unknown
"""


def test_a_product_beyond_the_budget_ends_computing(tmp_path: Path) -> None:
    report = succeeds(tmp_path, TOO_LARGE)
    done = known(report.computed)
    assert (done.setting, done.stopped_by) == ("auto", "time")
    check_lines(TOO_LARGE, report)


UNPAID = """
import resource, torch
x = torch.ones(1 << 30, device="cuda")  # 2 s of the budget
x[0].item()  # unknown
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20  # KiB
"""


def test_the_operator_that_uses_the_budget_up_takes_no_memory_of_the_host(tmp_path: Path) -> None:
    check_lines(UNPAID, succeeds(tmp_path, UNPAID))


SHARE = """
import torch
torch.ones(8 << 20, device="cuda")[0].item()  # known: 32 MiB
torch.ones(32 << 20, device="cuda")[0].item()  # unknown: 128 MiB
"""


def test_values_take_a_share_of_what_the_cgroup_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, the machine has more memory than the kernel lets a process take."""
    allowed = machine_memory.Available(bytes=256 << 20, source="the limit of cgroup")
    monkeypatch.setattr(machine_memory, "available", lambda: allowed)
    report = succeeds(tmp_path, SHARE)
    check_lines(SHARE, report)
    assert known(report.computed).stopped_by == "memory"


DATA = """
import torch
data = torch.randn(70_000, 1000)  # more values than those of a large model
model = torch.nn.Linear(1000, 1024).cuda()
model(data[:4].cuda()).sum().item()  # known
"""


def test_large_data_on_the_host_is_no_large_model(tmp_path: Path) -> None:
    check_lines(DATA, succeeds(tmp_path, DATA))


HEAVY = """
import torch
a = torch.ones(1500, 1500, device="cuda")  # 0.14 s of the budget
b = torch.ones(360_000, device="cuda")  # 0.0015 s
{first}
(a @ a)[0, 0].item()  # {known}
"""


@pytest.mark.parametrize(
    ("first", "known_"), [("", "unknown"), ("for _ in range(1000): b = b + 1", "known")]
)
def test_a_heavy_operator_ends_computing_at_the_beginning_only(
    tmp_path: Path, first: str, known_: str
) -> None:
    """Later, it may be one of a validation, whose batches are larger than those of a step."""
    text = HEAVY.format(first=first, known=known_)
    report = succeeds(tmp_path, text)
    assert known(report.computed).stopped_by == ("time" if known_ == "unknown" else None)
    check_lines(text, report)


DECIDES = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(1024, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 1024))
net.cuda()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
x = torch.randn(512, 1024, device="cuda")
best, kept = float("inf"), []
for step in range(8):
    loss = (net(x) - x).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    if loss.item() < best:
        best = loss.item()
        kept.append(torch.empty(8 << 20, device="cuda"))
    elif loss.item() > 2:
        kept.append(torch.empty(64 << 20, device="cuda"))
"""


def test_values_that_decide_are_computed_beyond_the_budget_if_it_takes_no_minutes(
    tmp_path: Path,
) -> None:
    """A training of 5 s was a range, because computing it took longer than the budget."""
    auto, whole = (succeeds(tmp_path, DECIDES, compute=one) for one in ("auto", "all"))
    assert known(auto.computed).stopped_by is None
    assert (auto.unknown, auto.devices[0].peaks) == (None, whole.devices[0].peaks)
    assert any("computed in a further run" in note for note in auto.notes)
    assert known(whole.cuda.allocated_peak_bytes) > 8 * (32 << 20)


OF_THE_SCRIPT = """
import torch
scale = torch.cuda._compile_kernel(
    "__global__ void scale(float *x, float by) { x[threadIdx.x] *= by; }", "scale"
)
x = torch.ones(64, device="cuda")
other = torch.ones(64, device="cuda")
x.sum().item()  # known
scale((1, 1, 1), (64, 1, 1), (x, 2.0))
x.sum().item()  # unknown
other.sum().item()  # known
"""


@pytest.mark.skipif(
    not hasattr(torch.cuda, "_compile_kernel"), reason="torch 2.9 has no _compile_kernel"
)
def test_what_a_kernel_of_the_script_writes_is_unknown_and_the_kernel_is_named(
    tmp_path: Path,
) -> None:
    report = succeeds(tmp_path, OF_THE_SCRIPT, compute="all")
    check_lines(OF_THE_SCRIPT, report)
    assert known(report.computed).not_computed == ("kernel scale",)
