"""Generated scripts whose sizes depend on values: with computed values each peak is the true one.

Each script runs on the CPU with real values, where it counts the bytes that it holds, and under the
dry run. Where the dry run computes nothing, it knows the values that come from the host and no
others: what it calls ok must be the true peak or a range that holds it, or it must say that not all
values were tried. A refusal is right if a value that nobody knows decides a size in the script.
"""

import collections
import datetime
import random
import runpy
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs.computing import Compute
from harness.dry_runs.unknown_values import NOT_ALL
from tests.dry_runs.forked_runs import ForkedRuns
from tests.dry_runs.scripts import script
from tests.faults.grid import FULL

SCRIPTS = 600 if FULL else 50
UNIT = 1 << 17
TOLERANCE = 1 << 16
"""Bytes of values and masks; a size is wrong by a unit at least."""

BEGIN = f"""
import math, os, subprocess, sys, torch
if SEED is not None:
    torch.manual_seed(SEED)
losses, KEEP = [], []
X = torch.zeros(64, {UNIT}, dtype=torch.uint8, device=D)
PEAK = X.nbytes
HERE = os.path.dirname(os.path.abspath(__file__))
class State: pass
state = State()
def hold(tensor):
    global PEAK
    KEEP.append(tensor)
    PEAK = max(PEAK, sum(one.nbytes for one in (X, *KEEP)))
def take(n): hold(torch.empty(max(0, int(n)) * {UNIT}, dtype=torch.uint8, device=D))
def value(tensor): return tensor.item()
def log(step, x): print(step, x)
def run(code, x):
    command = [sys.executable, "-Sc", "import sys; " + code, str(x)]
    return subprocess.run(command, capture_output=True, text=True).stdout
"""
UNKNOWN = "V = (torch.rand(64, device=D) * {most}).long()"
KNOWN = "V = (torch.rand(64, generator=torch.Generator().manual_seed({b})) * {most}).long().to(D)"

DECIDES = r"""
take(V.max().item())
take(int(V.sum()) % {a})
take(V[:{a}].sum().item() // 3)
take(value(V[{b}]))
state.n = V[{a}].item(); take(state.n + 1)
hold(X[V > {c}])
hold(X[(V > {c}).cpu().to(D)])
take((V > {c}).sum().item())
take(int((V.cpu() > {c}).sum()))
take(int((V.cpu().numpy() > {c}).sum()))
take(len(set(V.tolist())))
take(V.unique().numel())
take(sum(1 for one in V.float().tolist() if one > {c}))
take(max({a}, V[:9].sum().item()))
cache = {{}}\nfor one in V.tolist(): cache[one] = cache.get(one) or take(1)
take([3, 1, 4, 1, 5, 9, 2, 6, 5][V[0].item()])
take({{0: 2, 1: 5}}.get(V[{b}].item(), 7))
if (V > {c}).any(): take({a})
if not (V > {c}).all(): take({a})
if V.float().mean().item() > {c}: take({a})
if V[0].item() == V[1].item(): take({a})
x = V.float().mean().item()\nlosses.append(x)\nif max(losses) > {c}: take({a})
w = torch.tensor(V.float().mean().item()).to(D)\nif w > {c}: take({a})
if torch.equal(V, V.flip(0)): take({a})
for _ in range(V[0].item()): take(1)
n = 0\nwhile n < {a} and (V > {c}).any(): take(1); V = V - 1; n += 1
x = V.float().norm().item()\nwhile x > 1 and len(KEEP) < 30: take(1); x /= 2
torch.save(V, HERE + "/v.pt"); take(torch.load(HERE + "/v.pt", map_location="cpu").max())
open(HERE + "/n", "w").write(str(V[0].item())); take(open(HERE + "/n").read())
take(run("print(1 + int(sys.argv[1]))", V[{b}].item()))
take(int(f"{{V.max()}}") + 1)
take(V.to(torch.uint8).max().item())
take(torch.repeat_interleave(V[:5]).numel())
take(round(V.float().std().item()))
try:\n    take(6 // V[{b}].item())\nexcept ZeroDivisionError: take({a})
""".strip().split("\n")

HARMLESS = r"""
take({a})
print(V.float().mean().item())
losses.append(V.float().mean().item()); print(sum(losses) / len(losses))
log({a}, V.sum().item())
print(V)
assert (V > -99).all()
if not (V < 99).all(): raise ValueError(V)
if torch.isnan(V.float()).any(): take(50)
if (V > {c}).any(): take({a})\nelse: take({a})
if (V > {c}).any(): print("many")
hold(X[V.argsort()[:{a}]])
hold(torch.where((V > {c})[:, None], X, X[0]))
hold(X.index_select(0, V[:{a}] % 64))
take(1 + (V * 0).max().item())
if ((V > {c}) | torch.ones_like(V, dtype=torch.bool)).all(): take({a})
if len(KEEP) > 2: KEEP.pop()
""".strip().split("\n")

BOUNDED = """
done = torch.zeros(4, dtype=torch.bool, device=D)
for step in range(99):
    done = done | (V[:4] == step) | torch.full((4,), step >= {a}, device=D)
    take(1)
    if done.all(): break
"""


def generated(seed: int) -> tuple[str, bool]:
    """Return a script, and whether a value that nobody knows decides a size in it."""
    chosen = random.Random(seed)
    lines, decided, unknown = [BEGIN], False, False
    for _ in range(chosen.randrange(2, 7)):
        numbers = {name: chosen.randrange(1, 9) for name in "abc"}
        numbers["most"] = chosen.randrange(2, 9)
        if len(lines) == 1 or chosen.random() < 0.4:
            unknown = chosen.random() < 0.5
            lines.append((UNKNOWN if unknown else KNOWN).format(**numbers))
        kind = chosen.random()
        decides = kind < 0.4
        template = chosen.choice(DECIDES if decides else HARMLESS) if kind < 0.95 else BOUNDED
        decided |= unknown and decides
        lines.append(template.replace("\\n", "\n").format(**numbers))
    return "\n".join(lines) + "\n", decided


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
@pytest.mark.filterwarnings("default")  # scripts leave files open
@pytest.mark.parametrize("compute", ["all", "none"])
def test_no_generated_script_is_ok_and_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], compute: Compute
) -> None:
    today = int(datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d"))
    day = today if FULL else 20261128  # `make faults` has new scripts each day
    seen: collections.Counter[str] = collections.Counter()
    wrong = []
    with ForkedRuns(tmp_path, compute=compute) as runs:
        for seed in range(day * 1000, day * 1000 + SCRIPTS):
            said, right = judged(runs, tmp_path, seed, compute)
            seen[said] += 1
            if not right:
                wrong.append(f"seed {seed}: {said}")
    with capsys.disabled():
        print(f"\nseeds from {day * 1000}, values computed: {compute}: {dict(seen)}")
    assert not wrong
    assert seen["ok"]
    assert bool(seen["refused"]) == (compute == "none")


def judged(runs: ForkedRuns, folder: Path, seed: int, compute: Compute) -> tuple[str, bool]:
    """Return what the dry run says of a script, and whether it is right."""
    text, decided = generated(seed)
    on_cpu = runpy.run_path(str(script(folder, text)), {"D": "cpu", "SEED": seed})
    true: Any = on_cpu["PEAK"]
    drawn = seed if compute == "all" else None
    report = runs.run(script(folder, f"D, SEED = 'cuda', {drawn}\n{text}"))
    if report.outcome != "ok":
        if report.outcome != "unsupported" or compute == "all":
            return f"{report.outcome}, {report.evidence}", False
        return "refused" if decided else f"refused needlessly, {report.evidence}", True
    unknown = report.unknown
    least = most = report.cuda.requested_peak_bytes or 0
    if unknown is not None:
        least, most = (one.requested_peak_bytes or 0 for one in (unknown.lowest, unknown.highest))
    right = least - TOLERANCE <= true <= most + TOLERANCE
    said = "ok" if least == most else "a range"
    if not right and NOT_ALL in report.notes:
        return f"{said} without the true peak, which says that not all values were tried", True
    return said if right else f"{least:,} to {most:,} without {true:,}: {report.notes}", right
