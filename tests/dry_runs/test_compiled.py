"""``torch.compile`` under the dry run; small programs, because Inductor takes its time."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs.build import build
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_sheet import dry_run_sheet
from harness.dry_runs.own_code import is_own
from harness.dry_runs.pretended_environment import cache_variables
from harness.dry_runs.toolchain import torch_build
from harness.plots.sheet import sheet_text
from harness.schema.units import format_bytes
from tests.dry_runs.scripts import succeeds
from tests.dry_runs.test_known_values import check_lines
from tests.known import known

pytestmark = pytest.mark.usefixtures("cuda_build")

MODEL = """
import json, sys, torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(256, 512), nn.Linear(512, 256)
    def forward(self, x):
        h = self.first(x)
        h = torch.nn.functional.gelu(h).tanh()
        return self.last(h)
model = Net().cuda()
x = torch.randn(4096, 256, device="cuda")
def steps(function, count=2, loss=torch.sum):
    for _ in range(count):
        model.zero_grad()
        torch.cuda.reset_peak_memory_stats()
        loss(function(x)).backward()
    return torch.cuda.max_memory_allocated()
"""


Done = tuple[DryRunReport, Any]
"""A report, and what the script saw."""


def run(folder: Path, text: str, **options: object) -> Done:
    report = succeeds(folder, MODEL + text, folder / "seen.json", write_files=True, **options)
    return report, json.loads((folder / "seen.json").read_text())


QUICK = """
def loss(y):  # not a sum: until 2.14 AOTAutograd copies the expanded gradient of one
    return y.square().mean()
eager = steps(model, loss=loss)
aot = steps(torch.compile(model, backend="aot_eager"), loss=loss)
torch._dynamo.reset()
def broken(x):
    y = x + 1
    torch._dynamo.graph_break()
    return y * 2
broken = torch.compile(broken, backend="eager")
for rows in (8, 9):
    broken(torch.ones(rows, 4))
def limited(x, name):
    return x + len(name)
limited = torch.compile(limited, backend="eager")
for count in range(10):
    limited(torch.ones(3), "n" * count)
json.dump([eager, aot], open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return run(tmp_path_factory.mktemp("quick"), QUICK)


def test_aot_eager_needs_what_eager_needs(quick: Done) -> None:
    eager, aot = quick[1]
    assert eager == aot > 0


def test_graphs_breaks_and_what_runs_uncompiled_are_counted(quick: Done) -> None:
    """Also what was compiled before ``torch._dynamo.reset()``."""
    done = known(quick[0].compiled)
    # The network; two halves of a function, compiled for 8 rows and again for any; 8 of 10 names.
    assert (done.graphs, done.breaks, done.recompilations) == (1 + 2 + 2 + 8, 2, 2 + 7)
    (place,) = done.break_places
    assert "script.py:28 " in place
    (fallback,) = done.fallbacks
    assert "recompile_limit (8), function: 'limited'" in fallback
    assert f"Compiled: 13 graphs, 9 of them again, 2 breaks, {done.seconds:.1f} s compiling" in (
        sheet_text(dry_run_sheet(quick[0], "train.py"))
    )


def test_compiled_code_is_kept_apart_from_a_real_gpu_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/of/a/real/gpu")
    one, other = (cache_variables("2.15.0", {"MEMORY": size}) for size in ("1", "2"))
    assert all("/dry-run/compiled/2.15.0-triton-" in one[name] for name in PATHS)
    assert not any(one[name] == other[name] for name in PATHS)
    for name, value in one.items():
        monkeypatch.setenv(name, value)
    assert is_own(f"{one[PATHS[0]]}/ab/cab.py")
    assert not is_own("/home/me/train.py")


PATHS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")

INDUCTOR = """
import os, pathlib
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(pathlib.Path(__file__).parent / "of a real GPU")
compiled = torch.compile(model, fullgraph=True)
seen = [steps(model), steps(compiled)]
json.dump(seen, open(sys.argv[1] + os.environ.get("TORCHDYNAMO_DISABLE", ""), "w"))
"""


@pytest.mark.slow
def test_inductor_saves_what_fusion_saves_and_names_the_user_s_lines(tmp_path: Path) -> None:
    report, seen = run(tmp_path, INDUCTOR, compare_eager=True)
    eager, compiled = seen
    assert compiled < eager
    assert not (tmp_path / "of a real GPU").exists()
    assert json.loads((tmp_path / "seen.json1").read_text()) == [eager, eager]
    done = known(report.compiled)
    assert (done.graphs, done.breaks) == (1, 0)
    assert known(report.eager).allocated_peak_bytes == eager
    assert f"Without torch.compile: allocated {format_bytes(eager)} ({eager:,} B)" in (
        sheet_text(dry_run_sheet(report, "train.py"))
    )
    groups = known(report.devices[0].peak).groups
    places = [group.place.removeprefix("autotuner, for ") for group in groups]
    assert all(place.startswith((str(tmp_path), "backward pass")) for place in places)


MODE = """
compiled = torch.compile(model, mode="max-autotune")
steps(compiled, 5)
json.dump(0, open(sys.argv[1], "w"))
"""


@pytest.mark.slow
def test_a_mode_s_pool_and_choices_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that finds compiled code allocates again for the autotuner."""
    # Without the code that other tests compiled, but with the stub.
    stub = build(torch_build()).resolve()
    caches = tmp_path / "mlp-memory-harness" / "dry-run"
    shutil.copytree(stub, caches / stub.name, symlinks=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    report, _ = run(tmp_path, MODE)
    assert report.devices[0].graph_pools == 1
    assert report.devices[0].graph_pool_bytes > 2 * 4 * 4096 * 512
    assert "ATen of" in " ".join(known(report.compiled).unmeasured)
    assert "CUDA graphs: 1 private pool keeps" in sheet_text(dry_run_sheet(report, "train.py"))
    again, _ = run(tmp_path, MODE)
    assert again.cuda == report.cuda, "with a cache as without"


USER = """
norm = torch.nn.BatchNorm1d(4).cuda()
counter = torch.zeros(3, dtype=torch.int64, device="cuda")
places = torch.arange(5, device="cuda")
labels = torch.tensor([1, 2, 1]).cuda()
@torch.compile
def step(x, counter):
    counter.add_(1)
    return norm(x).relu().sum()
step(torch.randn(8, 4, device="cuda"), counter).backward()
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
places.tolist(); labels.tolist()  # known
assert counter.tolist() == [1, 1, 1]  # known
assert norm.num_batches_tracked.item() == 1  # known

import triton, triton.language as tl
@triton.jit
def double(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, 2 * tl.load(x + at, at < n), at < n)
def doubled(x):
    out = torch.empty_like(x)
    double[(triton.cdiv(x.numel(), 256),)](x, out, x.numel(), BLOCK=256)
    return out
@torch.library.custom_op("harness_test::doubled", mutates_args=())
def operator(x: torch.Tensor) -> torch.Tensor:
    return doubled(x)
operator.register_fake(torch.empty_like)
vector = torch.randn(1 << 20, device="cuda")
before = torch.cuda.memory_allocated()
kept = [doubled(vector), torch.compile(doubled, fullgraph=True)(vector)]
kept.append(torch.compile(lambda y: operator(y), fullgraph=True)(vector))
after = torch.cuda.memory_allocated() - before
try:
    doubled(torch.ones(3))
except ValueError as error:
    refused = str(error)

compiled = torch.compile(model)
steps(compiled)
loss = compiled(x).sum()
kept = [torch.empty(1 << 30, dtype=torch.uint8, device="cuda")]  # the peak: before the backward
kept.clear()
loss.backward()
json.dump([after, refused], open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return run(tmp_path_factory.mktemp("user"), USER)


WHOLE = """
@torch.compile(fullgraph=True, dynamic=True, backend="eager")
def scaled(x, by):
    return x * by
# torch 2.9 makes tensors of the numbers while it compiles, and a frame of ours is not to be seen
seen = [list(scaled(x[:rows], by).shape) for rows, by in ((4, 1.0), (5, 2.5), (6, 3.5))]
json.dump(seen, open(sys.argv[1], "w"))
"""


def test_a_number_that_changes_goes_into_a_whole_graph(tmp_path: Path) -> None:
    assert run(tmp_path, WHOLE)[1] == [[4, 256], [5, 256], [6, 256]]


@pytest.mark.slow
def test_what_compiled_code_writes_is_computed(user: Done) -> None:
    check_lines(MODEL + USER, user[0])


@pytest.mark.slow
def test_the_user_s_own_triton_kernels_run(user: Done) -> None:
    why = "Pointer argument cannot be accessed from Triton (cpu tensor?)"
    assert user[1] == [3 * 4 << 20, why]
    assert user[0].kernels >= 3


@pytest.mark.slow
def test_what_compiled_code_saves_for_the_backward_pass_is_named_by_line(user: Done) -> None:
    peak = known(user[0].devices[0].peak)
    # Inductor keeps the input of GELU and recomputes it; its output is the last layer's input.
    assert peak.categories["activation"] == 2 * 4 * 4096 * 512
    saved = {group.place for group in peak.groups if group.category == "activation"}
    names = {place.rpartition("/")[2] for place in saved}
    assert names <= {"script.py:9 forward", "script.py:10 forward"}
