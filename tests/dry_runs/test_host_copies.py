"""Copies on the host: offloaded, pinned, loaded and mapped, against what they take on paper."""

import functools
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from msgspec.structs import replace

from harness.dry_runs.child_result import ChildResult
from harness.dry_runs.host_memory import SAMPLES, Samples
from harness.dry_runs.host_report import host_of
from harness.dry_runs.node_host import host_of_node
from harness.dry_runs.pretended_gpu import pretended_gpu
from harness.dry_runs.run import dry_run
from harness.schema.host import Host, HostProcess
from tests.commands import Ask
from tests.dry_runs.forked_runs import ForkedRuns
from tests.dry_runs.growing import by_title
from tests.dry_runs.scripts import script
from tests.known import known

MIB = 1 << 20
COUNT = 1 << 25
"""Elements: 128 MiB in float32, which is a power of two, as PyTorch's pinned blocks are."""
HEAD = f"""
import os, sys, time, torch
from torch import nn
N = {COUNT}
torch.ones(1, device="cuda")
def network(device):
    with torch.device(device):
        return nn.Sequential(*[nn.Linear(4096, 4096, bias=False) for _ in range(2)])
"""
COPIES = by_title("""
# [0, 0] nothing

# [512, 512] an optimizer that is offloaded: master weights, two states and a gradient
weight = torch.empty(N, device="cuda")  # of one type: a conversion would be a copy of its own
master, mean, square, grad = (torch.zeros(N, pin_memory=True) for _ in range(4))
for _ in range(2):
    grad.copy_(weight, non_blocking=True)
    mean.mul_(0.9).add_(grad)
    square.mul_(0.99)
    master.sub_(mean)
    weight.copy_(master)

# [512, 512] saved for the backward pass in pinned memory: both factors of two products
rows = torch.empty(N, device="cuda", requires_grad=True)
others = [torch.empty(N, device="cuda", requires_grad=True) for _ in range(2)]
with torch.autograd.graph.save_on_cpu(pin_memory=True):
    out = rows * others[0] * others[1]
time.sleep(1.5)
out.sum().backward()

# [512, 512] saved for the backward pass in other memory of the host
rows = torch.empty(N, device="cuda", requires_grad=True)
others = [torch.empty(N, device="cuda", requires_grad=True) for _ in range(2)]
with torch.autograd.graph.save_on_cpu():
    out = rows * others[0] * others[1]
time.sleep(1.5)
out.sum().backward()

# [192, 224] 96 MiB are pinned, in a block of 128, of which 32 are not written
plain = torch.ones(3 * N // 4)
pinned = plain.pin_memory()

# [0, 256] pinned, and never written
pinned = [torch.empty(N, pin_memory=True) for _ in range(2)]

# [128, 128] a checkpoint
state = torch.load(sys.argv[1])

# [0, 0] a checkpoint that is mapped and read, whose pages the kernel can drop
state = torch.load(sys.argv[1], mmap=True)
print(sum(float(one.sum()) for one in state.values()))

# [256, 256] a checkpoint and the network that it is copied into
net = network("cpu")
state = torch.load(sys.argv[1])
net.load_state_dict(state)

# [128, 128] the same, mapped
net = network("cpu")
net.load_state_dict(torch.load(sys.argv[1], mmap=True))

# [128, 128] the same, assigned to a network without memory
net = network("meta")
net.load_state_dict(torch.load(sys.argv[1]), assign=True)

# [0, 0] the same, assigned and mapped
net = network("meta")
net.load_state_dict(torch.load(sys.argv[1], mmap=True), assign=True)

# [0, 128] a network whose initial values nothing reads
net = network("cpu")
""")
"""By the MiB of the lower and of the higher number."""


@functools.cache
def peaks(folder: Path, text: str) -> tuple[int, int]:
    """Return both numbers of a script that has a checkpoint of 128 MiB."""
    file = folder / "checkpoint.pt"
    if not file.exists():
        torch.save({f"{i}.weight": torch.ones(4096, 4096) for i in range(2)}, file)
    report = dry_run(script(folder, f"{HEAD}{text}\ntime.sleep(1.5)"), file, gpu="l4", quiet=True)
    assert report.outcome == "ok", report.evidence
    return known(report.host).peak_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("copies")


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("title", COPIES)
def test_copies_on_the_host_are_those_of_the_closed_form(folder: Path, title: str) -> None:
    low, high = msgspec.json.decode(title.partition("]")[0] + "]", type=tuple[int, int])
    base = peaks(folder, COPIES["[0, 0] nothing"])
    seen = peaks(folder, COPIES[title])
    assert seen[0] - base[0] == pytest.approx(low * MIB, abs=4 * MIB)
    assert seen[1] - base[1] == pytest.approx(high * MIB, abs=4 * MIB)


IN_8_BITS = """
mapped = torch.load(sys.argv[1], mmap=True)["0.weight"].view(torch.uint8).flatten()
weights = [mapped[: 16 << 20].cuda() for _ in range(32)]
ids = torch.arange(1 << 16).cuda()  # 512 KiB, as a large batch
if ids[-1] != (1 << 16) - 1:
    sys.exit("not known")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_integer_weights_of_the_gpu_are_no_memory_of_the_host(folder: Path) -> None:
    """512 MiB of weights took 1 GiB, as all integers were followed; at most 128 MiB are."""
    base = peaks(folder, COPIES["[0, 0] nothing"])
    seen = peaks(folder, IN_8_BITS)
    assert seen[0] - base[0] < 300 * MIB


JOB = """
import sys, time, torch
from torch import distributed as dist
dist.init_process_group("nccl")
torch.ones(1, device="cuda")
state = b"x" * (256 << 20) if dist.get_rank() == 0 or "each" in sys.argv else None
time.sleep(1.5)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_what_every_rank_loads_counts_once_a_rank(tmp_path: Path) -> None:
    file = script(tmp_path, JOB)
    options: dict[str, Any] = {"world_size": 2, "gpus": 2, "ranks": (0, 1), "quiet": True}
    first, each = (dry_run(file, word, gpu="l4", **options) for word in ("first", "each"))
    low, high = (known(one.host).peak_bytes[0] for one in (first, each))
    assert high - low == pytest.approx(256 * MIB, abs=4 * MIB)
    assert low == sum(known(one.host).peak_bytes[0] for one in first.ranks)


@pytest.mark.usefixtures("cuda_build")
def test_one_rank_is_asked_about_its_node(ask: Ask, tmp_path: Path) -> None:
    """Four ranks with 256 MiB each, and PyTorch, do not fit in 1 GiB; one does."""
    options = ["--gpu", "l4", "--host-memory", "1GiB", "--"]
    command = ["torchrun", "--nproc-per-node", "4", str(script(tmp_path, JOB)), "each"]
    said = ask(["dry-run", *options, *command], code=3).out
    assert "ok, fits, does not fit in the host's memory" in said
    assert "of 1 GiB (given): does not fit" in said
    assert "of the 4 ranks of a node, of which 1 ran; each other one is taken" in said


def of_one(low: int, high: int, limit: int = 100) -> Host:
    return Host(
        peak_bytes=(low, high),
        processes=(HostProcess(name="main", peak_bytes=low, own_bytes=low, first_own_bytes=0),),
        file_bytes=5,
        shared_bytes=0,
        shared_limit_bytes=0,
        pinned_bytes=(1, 2),
        left_out_bytes=high - low,
        limit_bytes=limit,
        limit_source="given",
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    ("ranks", "peak", "fit"),
    [
        ({0: (30, 40), 1: (10, 10)}, (60, 130), "close call"),  # two more as small, or as large
        ({0: (30, 40)}, (120, 160), "does not fit"),
        ({4: (10, 12), 5: (10, 12), 6: (10, 12), 7: (10, 20)}, (40, 56), "fits"),
    ],
)
def test_a_node_is_the_sum_of_its_ranks(
    ranks: dict[int, tuple[int, int]], peak: tuple[int, int], fit: str
) -> None:
    node = host_of_node({rank: of_one(*sizes) for rank, sizes in ranks.items()}, 4)
    assert (node.peak_bytes, node.fit, node.ranks) == (peak, fit, (len(ranks), 4))
    assert node.pinned_bytes == (4, 8)
    assert node.file_bytes == 5  # of one file, which they share


@pytest.mark.quick
def test_memory_that_is_written_later_is_counted_once(tmp_path: Path) -> None:
    """A network of 50 whose values are left out is written at last, next to 30 of other things."""
    samples = Samples(together_bytes=80, with_left_out_bytes=80)
    main = HostProcess(name="main", peak_bytes=80, own_bytes=80, first_own_bytes=0)
    samples.processes["main"] = main
    inside = ChildResult(ended="ok", left_out_bytes=50, with_left_out_bytes=60)

    def peak(samples: Samples, inside: ChildResult) -> tuple[int, int]:
        (tmp_path / SAMPLES).write_bytes(msgspec.json.encode(samples))
        return known(host_of(tmp_path, inside, 0, pretended_gpu("l4"), None)).peak_bytes

    assert peak(samples, inside) == (80, 80)
    assert peak(samples, replace(inside, unwritten_pinned_bytes=7)) == (80, 87)
    assert peak(samples, replace(inside, with_left_out_bytes=95)) == (80, 95)  # it was, at first
    assert peak(samples, replace(inside, at_end_bytes=90)) == (90, 90)  # after the last sample
    samples.with_left_out_bytes = 140
    assert peak(samples, inside) == (80, 130)  # never more than what was left out


LOADS = """
import re, torch
def anonymous():
    with open("/proc/self/status") as file:
        return int(re.search(r"RssAnon:\\s+(\\d+)", file.read())[1]) >> 10
torch.ones(1, device="cuda")
torch.save([torch.ones(2048, 4096), torch.ones(2048, 2048, dtype=torch.bool).tril()], FILE)
before = anonymous()
weights, mask = torch.load(FILE, map_location="cuda")
assert anonymous() - before < 16, anonymous() - before
if mask[5, 5] and not mask[5, 6]:
    kept = torch.ones(1 << 20, device="cuda")
"""


@pytest.mark.usefixtures("cuda_build")
def test_what_is_loaded_onto_the_gpu_leaves_nothing_on_the_host(
    runs: ForkedRuns, tmp_path: Path
) -> None:
    """The 32 MiB of weights were known values, and took 64; those of a mask are known."""
    text = f"FILE = {str(tmp_path / 'saved.pt')!r}\n{LOADS}"
    report = runs.run(script(tmp_path, text))
    assert report.outcome == "ok", report.evidence
    assert (report.unknown, report.value_reads[0].known) == (None, report.value_reads[0].count)
    assert report.cuda.requested_peak_bytes == (32 + 4 + 4) * MIB
