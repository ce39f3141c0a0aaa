"""Programs that decide by values nobody knows: a range or a refusal with the line, or right."""

from pathlib import Path

import pytest

import harness
from harness.dry_runs.dry_run_report import DryRunReport
from tests.dry_runs.forked_runs import ForkedRuns
from tests.dry_runs.scripts import script
from tests.known import known

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

BEGIN = """
import collections, sys, threading, torch
import numpy as np
u = torch.rand(1000, device="cuda")
i = (torch.rand(1000, device="cuda") * 7).long()
def big(n): return torch.empty(int(n) << 20, dtype=torch.uint8, device="cuda")
"""
DECIDES = r"""
done = torch.zeros(9, dtype=torch.bool, device="cuda")\nfor n in range(9):\n    x = big(n); done |= (i[:9] == n) | torch.tensor(n > 6).cuda()\n    if done.all(): break
if u.mean().item() > 0.2: x = big(4000)
if (u > 0.2).any(): x = big(4000)
import statistics; t = statistics.mean([u[k].item() for k in range(3)])\nif t > 1: x = big(4000)
n = i.sum().item(); x = big(max(3, n))
o = i.cumsum(0).tolist(); x = big(o[-1] - o[0])
s, e = i.min().item(), i.max().item(); x = big(1000)[s << 20 : e << 20].clone()
k = len(collections.Counter(i.cpu().numpy().tolist())); x = big(k * 1000)
k = len(np.unique(i.cpu().numpy())); x = big(k * 1000)
c = i.cpu().bincount(); x = big((c > 0).sum() * 1000)
c = i.bincount(minlength=1); x = big(len(c) * 1000)
k = (i.cpu() == 3).nonzero().shape[0]; x = big(k * 100)
x = big({0: 1, 100: 1}.get(i[0].item(), 4000))
if i.sum().item() > 1000: x = big(4000)
n = i.to(torch.uint8).max().item(); x = big(n * 1000)
n = i.to(torch.int8).max().item(); x = big(n * 1000)
def val(t): return t.item()\nn = int(val(u.sum())); x = big(n)
class S: pass\ns = S(); setattr(s, "n", u.sum().item()); x = big(s.n)
import random\nz = torch.empty(random.randint(1, 9999), device="cuda"); x = big(i.max().item() * 1000)
import os\nz = torch.empty(os.getpid(), device="cuda"); x = big(i.max().item() * 1000)
z = [(v.item(), k) for k, v in enumerate(u[:8])]; z.sort(); x = big(z[0][1] * 100)
import json\nz = json.dumps({"v": u.sum().item()})\nif json.loads(z)["v"] > 0.2: x = big(4000)
z = f"{u.sum().item():.2f}"\nif float(z) > 0.2: x = big(4000)
if torch.allclose(u, u.clone()): x = big(4000)
x = big(4000 * (not (u > 0.2).any()))
best = []; best.append(u.mean().item())\nif max(best) > 0.2: x = big(4000)
z = "%.2f" % u.sum().item()\nif z > "0.2": x = big(4000)
import json\nn = __file__ + ".n"; json.dump({"v": u.sum().item()}, open(n, "w"))\nif json.load(open(n))["v"] > 0.2: x = big(4000)
import struct\nif struct.unpack("f", struct.pack("f", u.sum().item()))[0] > 0.2: x = big(4000)
n = f"|{u.sum().item():10.4f}|"; x = big(float(n.split("|")[1]))
import sqlite3; n = sqlite3.connect(":memory:").execute("select ?", (u.sum().item(),)).fetchone(); x = big(n[0])
"""  # noqa: E501
RANGES = r"""
0-8: w = torch.rand(9, device="cuda", requires_grad=True); o = torch.optim.LBFGS([w])\ndef f(): y = w.square().sum(); y.backward(); return y\nfor _ in range(2): o.step(f)
1-8: z = [v.item() for v in u[:8]]; x = big(1 + z.index(max(z)))
1-8: z = [v.item() for v in u[:8]]; x = big(1 + z.index(min(z)))
1-8: x = big(1 + max(range(8), key=lambda k: u[k].item()))
1-8: import heapq; x = big(1 + heapq.nlargest(3, [(u[k].item(), k) for k in range(8)])[0][1])
1-4: x = big(4 if max(0.5, u.sum().item()) > 1 else 1)
2-11: x = [big(1)]\nfor n in range(5):\n    x.append(big(1))\n    if (i == n).any(): break\nif torch.equal(i, i.flip(0)): x.append(big(5))
11-23: z = torch.empty(10, 1 << 20, dtype=torch.uint8, device="cuda"); y = z[(i[:10] > 5).cpu().cuda()]\nx = big(1 if (i > 3).any() else 3)
"""  # noqa: E501
RIGHT = r"""
z = max(1.0, u.mean().item() / 3)\ny = 2 / z\nu.mul_(-y / max(u.mean().item(), 2))
print(u.mean().item(), u, i.tolist()[:3])
if torch.isnan(u).any() or not torch.isfinite(u).all(): sys.exit(1)
torch.distributions.Normal(u, u.exp()).log_prob(torch.rand_like(u))
torch.distributions.Categorical(logits=u).sample()
print(1 / u.mean().item())
norm = sum(z.item() for z in u[:3]) ** 0.5\nimport torch\nu.mul_(torch.as_tensor(1 / (norm + 1)))
w = torch.rand(64, 10, device="cuda", requires_grad=True); w.square().sum().backward(); torch.optim.Adafactor([w], foreach=False).step(); torch.optim.Adafactor([w], foreach=True).step()
for _ in range(2): torch.nn.functional.ctc_loss(torch.randn(50, 4, 9, device="cuda").log_softmax(-1), torch.ones(4, 5, dtype=torch.long).cuda(), torch.full((4,), 50), torch.full((4,), 5))
m = torch.rand(1000).cuda() > 0.3; x = big(m.sum()); print(1 if i.max().item() else 2)
n = torch.tensor([9, 16]).cuda(); r = torch.nn.utils.rnn; p = r.pack_padded_sequence(torch.rand(2, 16, 8).cuda(), n.cpu(), True, False); assert r.pad_packed_sequence(torch.nn.LSTM(8, 8).cuda()(p)[0])[1].tolist() == [9, 16]
k = torch.empty_like(i); k[:9].copy_(i[:9]); k[torch.arange(9, 1000).cuda()] = 5; n = k.flip(0)[:991].sum().item(); assert n == 4955; x = big(n)
k = torch.cat([i, torch.full((5,), 7).cuda()]); n = (k.index_select(0, torch.arange(1000, 1005).cuda()).max() + k[-2] + k.gather(0, torch.tensor([1001]).cuda())).item(); assert n == 21; x = big(n)
e = torch.randint(9, (2, 1_500_000)).cuda(); x = e[:, e[0] != e[1]]
a, b = i[:2].tolist()\nprint(a + b)
torch.save({"loss": u.mean().item(), "text": f"{u.mean().item():.2f}", "n": i.max().item()}, __file__ + ".pt"); assert torch.load(__file__ + ".pt")["text"][1] == "."
print([z + 1 for z in i.tolist()])
best = 0.0\nfor _ in range(3): best = max(best, u.mean().item())\nprint(best)
print(f"{u.mean().item():.3f}", round(u.mean().item(), 2))
loss = 0.0\nloss += u.mean().item() * 8\nprint("loss", loss / 10)
def mean(z): return z.mean().item()\nlog = {"loss": mean(u)}\nprint({**log})
torch.save(i, __file__ + ".pt")
torch.randn(8, 1000, requires_grad=True).cuda().square().sum().backward()
import json\nprint(json.dumps({"loss": u.mean().item()})); json.loads("{}")
"""  # noqa: E501
GUARDS = r"""
assert (i >= 0).all()
if not (u <= 1).all(): raise ValueError(u)
if (u <= 1).all():\n    print(1)\nelse:\n    raise ValueError
try:\n    if (u > 1).any():\n        raise ValueError\nexcept ValueError: pass
if not ((u <= 1).all() and True):\n    print(3)\n    raise ValueError
def fits(z): return bool(z)\nif not fits(\n    (u <= 1).all(),\n):\n    raise ValueError
fits = bool((u <= 1).all())\nif not fits: raise ValueError
"""


def each(lines: str) -> pytest.MarkDecorator:
    """Return the mark of a test that is run for each line."""
    cases = lines.strip().split("\n")
    return pytest.mark.parametrize("case", cases, ids=[case[:50] for case in cases])


def report_of(runs: ForkedRuns, folder: Path, case: str) -> DryRunReport:
    return runs.run(script(folder, BEGIN + case.replace("\\n", "\n") + "\n"))


@each(DECIDES)
def test_a_decision_has_a_range_or_is_refused_with_its_line(
    runs: ForkedRuns, tmp_path: Path, case: str
) -> None:
    report = report_of(runs, tmp_path, case)
    if report.outcome == "unsupported":
        assert "script.py:" in (report.evidence or "")
    else:
        unknown = known(report.unknown)
        assert unknown.moves or report.fit == "depends"
        assert "script.py:" in unknown.lines[0]


@each(RANGES)
def test_a_range_has_both_ends(runs: ForkedRuns, tmp_path: Path, case: str) -> None:
    ends, code = case.split(": ", 1)
    report = report_of(runs, tmp_path, code)
    assert report.outcome == "ok", report.evidence
    unknown = known(report.unknown)
    found = [(one.requested_peak_bytes or 0) >> 20 for one in (unknown.lowest, unknown.highest)]
    assert found == [int(end) for end in ends.split("-")]


@each(RIGHT)
def test_what_changes_nothing_is_right(runs: ForkedRuns, tmp_path: Path, case: str) -> None:
    report = report_of(runs, tmp_path, case)
    assert report.outcome == "ok", report.evidence
    assert report.unknown is None or (report.unknown.runs, report.unknown.moves) == (2, False)


@each(GUARDS)
def test_a_guard_has_the_answer_that_raises_nothing(
    runs: ForkedRuns, tmp_path: Path, case: str
) -> None:
    report = report_of(runs, tmp_path, case)
    assert report.outcome == "ok", report.evidence
    assert not known(report.unknown).moves


FORGETS_NOTHING = """
import ctypes
mask = torch.arange(900).cuda() > 99
numbers = [ctypes.c_uint64(mask.data_ptr() + (8 << 30))]  # as 1.0f and what lies behind it
arguments = (ctypes.c_void_p * 1)(*map(ctypes.addressof, numbers))
ctypes.CDLL(None).cuLaunchKernelEx(None, None, arguments, None)
x = big(mask.sum())
"""


def test_a_number_that_looks_like_an_address_leaves_known_values(
    runs: ForkedRuns, tmp_path: Path
) -> None:
    report = report_of(runs, tmp_path, FORGETS_NOTHING)
    assert report.unknown is None
    assert (report.cuda.requested_peak_bytes or 0) >> 20 == 800


OPERATORS = r"""
import torch.nn.functional as F
from torch import nn, distributions as d, linalg as l
p = torch.rand(64, 32, device="cuda"); q = torch.rand(64, 32, device="cuda", requires_grad=True)
y = torch.randint(0, 10, (64,), device="cuda"); s = p[:32] @ p[:32].T; one = torch.ones(64, device="cuda")
p.multinomial(4), p.bernoulli(), torch.poisson(p), torch.empty(8, device="cuda").geometric_(0.5)
nn.EmbeddingBag(10, 8, mode="max", device="cuda")(y, torch.arange(0, 64, 4).cuda()).sum().backward()
nn.Embedding(10, 8, max_norm=1.0, scale_grad_by_freq=True, device="cuda")(y).sum().backward()
nn.Embedding(10, 8, sparse=True, device="cuda")(y).sum().backward()
p.histc(10), p.histc(10, 0, 1), torch.bucketize(p, p[0].sort()[0])
one.new_zeros(10).index_put_((y,), one, accumulate=True), q[y].sum().backward(), p.take(y)
one.new_zeros(10).scatter_reduce_(0, y, one, "amax"), p.new_zeros(10, 32).index_reduce_(0, y, p, "mean")
p.repeat_interleave(3, dim=0), p.repeat_interleave(y, dim=0, output_size=300), F.one_hot(y, 10)
for at in ("cuda", "cpu"): F.ctc_loss(q.view(16, 4, 32).log_softmax(2), y.view(4, 16)[:, :4], torch.full((4,), 16, device=at), torch.full((4,), 4, device=at)).backward()
F.cross_entropy(q[:, :10], y).backward(), F.multi_margin_loss(q[:, :10], y).backward(), F.gumbel_softmax(q)
d.kl_divergence(d.Normal(q, p + 0.1), d.Normal(p, p + 1)).sum().backward(), d.Dirichlet(p + 0.1).rsample()
d.MultivariateNormal(p[0], torch.eye(32, device="cuda")).rsample(), d.Gamma(p, p + 1).rsample(), d.Beta(p, p + 1).rsample()
d.MixtureSameFamily(d.Categorical(p[0]), d.Normal(q, p + 0.1)).log_prob(p[:, 0]).sum().backward()
nn.utils.clip_grad_norm_([q], 1.0, error_if_nonfinite=True)
assert torch.allclose(p, p + 1e-9) and torch.isclose(p, p).all() and torch.equal(p, p.clone()) and p.isfinite().all()
torch.testing.assert_close(p, p.clone()), torch._assert_async((p >= 0).all())
l.inv(s), l.solve(s, p.T), l.cholesky_ex(s), l.lstsq(p, p[:, :2]), l.qr(p), l.slogdet(s), l.pinv(s), l.matrix_norm(p, 2)
l.cholesky(s), l.eigh(s), l.svd(s), l.lu_factor(s), l.ldl_factor(s), l.matrix_power(s, 3), torch.logdet(s)
nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32, device="cuda"))(p).sum().backward()
torch.sparse_coo_tensor(torch.stack([torch.arange(64) % 8, torch.arange(64) % 4]).cuda(), one, (64, 64)).coalesce() @ p
torch.sparse_csr_tensor(torch.arange(65).cuda(), torch.arange(64).cuda(), one, (64, 64)) @ p
p.sort(), p.topk(4), p.kthvalue(2), p.median(), p.mode(), p.quantile(0.5), p.cummax(0), p.cov(), p.renorm(2, 0, 1.0)
p.masked_fill(p > 0.5, 0.0), p.clone().masked_scatter_(p > 0.5, p), torch.where(p > 0.5, p, q), p[torch.randperm(64).cuda()]
w = torch.hann_window(64, device="cuda"); torch.istft(torch.stft(p.flatten(), 64, window=w, return_complex=True), 64, window=w), F.max_unpool2d(*F.max_pool2d(p[None], 2, return_indices=True), 2)
n = nn.Linear(32, 4, device="cuda"); o = torch.optim.SGD(n.parameters(), 0.1); g = torch.amp.GradScaler("cuda")
for _ in range(3): g.scale(n(p).sum()).backward(); g.unscale_(o); g.step(o); g.update(); print(g.get_scale())
for _ in range(2): torch.optim.lr_scheduler.ReduceLROnPlateau(o).step(n(p).sum().item())
with torch.autograd.detect_anomaly(): n(p).sum().backward()
h = nn.utils.rnn.pack_padded_sequence(p.view(4, 16, 32), torch.tensor([16, 9, 4, 2]), batch_first=True)
nn.utils.rnn.pad_packed_sequence(nn.LSTM(32, 8, batch_first=True, device="cuda")(h)[0])[0].sum().backward()
"""  # noqa: E501


def test_operators_that_check_values_are_those_of_a_healthy_run(
    runs: ForkedRuns, tmp_path: Path
) -> None:
    report = runs.run(script(tmp_path, BEGIN + OPERATORS))
    assert report.outcome == "ok", report.evidence


NETWORK = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)
    def forward(self, x):
        y = self.layer(x)
        {}
        return y
"""


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("if (y > 0).any(): y = y.repeat(99999, 1)[: len(x)]", False),
        ("y = y.repeat(999 * len(set(y.argmax(1).tolist())), 1)[: len(x)]", False),
        ("if not (y < 1e9).all(): raise ValueError(y)", True),
        ("torch.distributions.Normal(y, y.exp())", True),
    ],
)
def test_a_network_that_decides_has_no_prediction(tmp_path: Path, line: str, right: bool) -> None:
    target = f"{script(tmp_path, NETWORK.format(line))}:Net"
    if right:
        report = harness.predict(target, 8, inputs=(64,), gpu="l4")
        assert any("taken to pass" in note for note in report.notes)
        return
    with pytest.raises(harness.UnsupportedError, match=r"values that nobody knows, at .*py:10"):
        harness.predict(target, 8, inputs=(64,), gpu="l4")


def test_every_run_goes_on_to_its_exit(tmp_path: Path, runs: ForkedRuns) -> None:
    text = BEGIN + "import atexit\n@atexit.register\ndef late(): kept.append(big(4000))\n"
    report = runs.run(script(tmp_path, text + "kept = []\nif u.mean().item() > 0.2: kept += ['x']"))
    assert (report.outcome, known(report.unknown).runs, known(report.unknown).moves) == (
        "ok", 2, False
    )  # fmt: skip
    assert known(report.cuda.requested_peak_bytes) > 4000 << 20
