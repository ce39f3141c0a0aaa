"""Programs that decide by values nobody knows: refused with the line, or right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from tests.dry_run.forked_runs import ForkedRuns

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

BEGIN = """
import collections, sys, threading, torch
import numpy as np
u = torch.rand(1000, device="cuda")
i = (torch.rand(1000, device="cuda") * 7).long()
def big(n): return torch.empty(int(n) << 20, dtype=torch.uint8, device="cuda")
"""
DECIDES = r"""
if u.mean().item() > 0.2: x = big(4000)
if (u > 0.2).any(): x = big(4000)
x = [big(400) for _ in range(10) if u.mean().item() > 0.2]
n = i.max().item(); x = big(n % 4 * 1000)
n = i.sum().item(); x = big(n % 10 * 1000 + 1)
n = i.sum().item(); x = big(max(n, 2000))
o = i.cumsum(0).tolist(); x = big(o[-1] - o[0])
s, e = i.min().item(), i.max().item(); x = big(1000)[s << 20 : e << 20].clone()
k = len(set(i.tolist())); x = big(k * 1000)
k = len(collections.Counter(i.cpu().numpy().tolist())); x = big(k * 1000)
k = len(np.unique(i.cpu().numpy())); x = big(k * 1000)
c = i.cpu().bincount(); x = big((c > 0).sum() * 1000)
k = (i.cpu() == 3).nonzero().shape[0]; x = big(k * 100)
kept = [t for j in range(12) if (t := big(1000)) is not None and i[j].item() > 0]
x = big({1: 4000, 2: 4000, 3: 4000}.get(i[0].item(), 1))
x = big({0: 1, 100: 1}.get(i[0].item(), 4000))
if i.sum().item() > 1000: x = big(4000)
n = i.to(torch.uint8).max().item(); x = big(n * 1000)
n = i.to(torch.int8).max().item(); x = big(n * 1000)
n = i.to(torch.uint16).cpu().numpy().max(); x = big(n * 1000)
n = i.to(torch.uint32).cpu().numpy().max(); x = big(n * 1000)
def val(t): return t.item()\nn = int(val(u.sum())); x = big(n)
x = big(sum(int(z * 4) for z in u.tolist()))
n = "%d" % u.sum().item(); x = big(eval(n))
class S: pass\ns = S(); setattr(s, "n", u.sum().item()); x = big(s.n)
h = u.cpu(); x = big((h > 0.5).sum() * 10)
p = u.softmax(0).cumsum(0).cpu(); k = (p < 0.9).sum().item(); x = big(k)
import random\nz = torch.empty(random.randint(1, 9999), device="cuda"); x = big(i.max().item() * 1000)
import os\nz = torch.empty(os.getpid(), device="cuda"); x = big(i.max().item() * 1000)
n = i.max().item()\ntry: x = big(1000 * n + (1 / 0 if n > 50 else 0))\nexcept ZeroDivisionError: pass
n = i.max().item()\ntry: x = big(n * 99999)\nexcept torch.OutOfMemoryError: pass
cache = {}\nfor k in i[:50].tolist(): cache[k] = cache.get(k, big(300))
h = torch.empty(1, dtype=torch.long, pin_memory=True); h.copy_(i.max()); x = big(h[0] * 1000)
n = int(f"{i.max()}"); x = big(n * 1000)
n = int(str(i[0])[7]); x = big(n * 1000)
r = []\nt = threading.Thread(target=lambda: r.append(i.max().item())); t.start(); t.join(); x = big(r[0])
torch.save(i, __file__ + ".pt"); x = big(torch.load(__file__ + ".pt", map_location="cpu").max())
if torch.allclose(u, u.clone()): x = big(4000)
w = torch.rand(9, device="cuda", requires_grad=True); o = torch.optim.LBFGS([w])\ndef f(): y = w.square().sum(); y.backward(); return y\nfor _ in range(2): o.step(f)
"""  # noqa: E501
RIGHT = r"""
print(u.mean().item(), u, i.tolist()[:3])
losses = []; losses.append(u.mean().item()); print(sum(losses) / len(losses))
assert (i >= 0).all()
if not (u <= 1).all(): raise ValueError(u)
if torch.isnan(u).any() or not torch.isfinite(u).all(): sys.exit(1)
torch.distributions.Normal(u, u.exp()).log_prob(torch.rand_like(u))
torch.distributions.Categorical(logits=u).sample()
print(1 / u.mean().item())
for _ in range(2): torch.nn.functional.ctc_loss(torch.randn(50, 4, 9, device="cuda").log_softmax(-1), torch.ones(4, 5, dtype=torch.long).cuda(), torch.full((4,), 50), torch.full((4,), 5))
e = torch.randint(9, (2, 1_500_000)).cuda(); x = e[:, e[0] != e[1]]
done = torch.zeros(9, dtype=torch.bool, device="cuda")\nfor n in range(9):\n    x = big(n); done |= (i[:9] == n) | torch.tensor(n > 6).cuda()\n    if done.all(): break
"""  # noqa: E501
CASES = [(line, False) for line in DECIDES.strip().split("\n")]
CASES += [(line, True) for line in RIGHT.strip().split("\n")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedRuns]:
    with ForkedRuns(tmp_path_factory.mktemp("runs")) as forked:
        yield forked


@pytest.mark.parametrize(("case", "right"), CASES, ids=[case[:50] for case, _ in CASES])
def test_a_decision_is_refused_with_its_line_or_right(
    runs: ForkedRuns, tmp_path: Path, case: str, right: bool
) -> None:
    script = tmp_path / "case.py"
    script.write_text(BEGIN + case.replace("\\n", "\n") + "\n")
    report = runs.run(script)
    assert report.outcome == ("ok" if right else "unsupported"), report.evidence
    assert right or "case.py:" in (report.evidence or "")


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
        ("if y.abs().mean().item() > 0: y = y.repeat(9, 1)[: len(x)]", False),
        ("if (y > 0).any(): y = y.repeat(9, 1)[: len(x)]", False),
        ("y = y.repeat(len(set(y.argmax(1).tolist())), 1)[: len(x)]", False),
        ("if not (y < 1e9).all(): raise ValueError(y)", True),
        ("torch.distributions.Normal(y, y.exp())", True),
    ],
)
def test_a_network_that_decides_has_no_prediction(tmp_path: Path, line: str, right: bool) -> None:
    file = tmp_path / "net.py"
    file.write_text(NETWORK.format(line))
    if right:
        report = harness.predict(f"{file}:Net", 8, inputs=(64,), gpu="l4")
        assert any("taken to pass" in note for note in report.notes)
        return
    with pytest.raises(harness.UnsupportedError, match=r"values read at .*net\.py:10 \(--answer"):
        harness.predict(f"{file}:Net", 8, inputs=(64,), gpu="l4")
