"""One rank of many: PyTorch's own process groups, and what they allocate, keep and refuse."""

from pathlib import Path

import pytest

from experiments.distributed_memory.closed_form import held_bytes
from experiments.distributed_memory.network import NAMES
from harness.dry_runs.run import dry_run
from harness.schema.workload import Workload
from tests.dry_runs.scripts import refused, succeeds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

RANKS = 8
COLLECTIVES = """
import torch
from torch import distributed as dist
dist.init_process_group("nccl")
torch.cuda.set_device(dist.get_node_local_rank())
size, rank, MIB = dist.get_world_size(), dist.get_rank(), 1 << 20
assert (size, dist.get_backend()) == (8, "nccl")
halves = [dist.new_group(list(range(half, size, 2))) for half in (0, 1)]
group = halves[rank % 2]
part, whole = torch.zeros(2 * MIB, device="cuda"), torch.zeros(size * 2 * MIB, device="cuda")
parts = [torch.zeros_like(part) for _ in range(size)]
after, before = (rank + 1) % size, (rank - 1) % size
gathered, sent, scattered = [None] * size, [rank], [None]

def batched():
    sends = [dist.P2POp(dist.isend, part, after), dist.P2POp(dist.irecv, parts[0], before)]
    for work in dist.batch_isend_irecv(sends):
        work.wait()

def coalesced():
    with dist._coalescing_manager(async_ops=True) as manager:
        for one in parts:
            dist.all_reduce(one)
    manager.wait()

def bytes_of(call):  # next to its tensors, of 8 MiB each
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - held

dist.barrier()
flat = 0 if torch.__version__ >= "2.15" else 8 * MIB  # ProcessGroupNCCL2 flattens no list
for parts_copied, call in (
    (8, lambda: dist.all_gather(parts, part)),
    (4, lambda: dist.all_gather(parts[: size // 2], part, group)),
    (0, lambda: dist.all_gather_into_tensor(whole, part)),
    (8, lambda: dist.reduce_scatter(part, parts)),
    (0, lambda: dist.reduce_scatter_tensor(part, whole)),
    (0, lambda: dist.all_reduce(part, group=group)),
    (0, lambda: dist.all_to_all(parts, list(whole.chunk(size)))),
    (0, lambda: dist.broadcast(part, 0)),
    (0, lambda: dist.reduce(part, 0)),
    (0, lambda: dist.gather(part, None if rank else parts)),
    (0, lambda: dist.scatter(part, None if rank else parts)),
    (0, lambda: (dist.send(part, after), dist.recv(part, before))),
    (0, batched),
    (0, coalesced),
    (0, lambda: dist.scatter_object_list(scattered, None if rank else list(range(size)), 0)),
):
    taken = bytes_of(call)
    assert taken == parts_copied * flat, (call.__code__.co_firstlineno, taken)
assert scattered == [0 if rank == 0 else None]
taken = bytes_of(lambda: dist.all_gather_object(gathered, [rank, "x" * 70_000]))
assert 8 * 70_000 < taken < 2 * MIB and [one[0] for one in gathered] == [rank] * size
assert bytes_of(lambda: dist.broadcast_object_list(sent, 0)) <= 4096 and sent == [rank]
own = torch.tensor([7.0], device="cuda")
dist.broadcast(own, 0)
assert own.item() == 7
lists = [torch.zeros(1, device="cuda") for _ in range(size)]
dist.all_gather(lists, own)
print(float(lists[1]))
try:
    dist.TCPStore("host", 1, size, False).get("theirs")
except LookupError as error:
    assert "the rank that sets 'theirs' does not run" in str(error)
gloo = dist.new_group(backend="gloo")
dist.all_reduce(torch.tensor([3.0]), group=gloo)
dist.monitored_barrier(gloo)
"""


@pytest.mark.parametrize("rank", [0, 3])
def test_collectives_take_what_pytorch_s_own_group_takes(tmp_path: Path, rank: int) -> None:
    """Values of other ranks are unknown, those of this rank are not."""
    report = succeeds(tmp_path, COLLECTIVES, rank=rank, world_size=RANKS, gpus=RANKS)
    notes = " ".join(report.notes)
    assert "all_gather_object: the other ranks" in notes
    assert "collectives of host tensors" in notes
    reads = {read.text: (read.count, read.known) for read in report.value_reads}
    assert reads["print(float(lists[1]))"] == (1, 0)
    assert reads["assert own.item() == 7"] == (1, 1)


SHARED = """
import gc, torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import parallel

def shared(model, how):
    if how == "fsdp1":
        return FullyShardedDataParallel(model, sync_module_states=True)
    mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("all", "part"))
    if how == "hsdp":
        return fully_shard(model, mesh=mesh)
    styles = {"0": parallel.ColwiseParallel(), "1": parallel.RowwiseParallel()}
    return parallel.parallelize_module(model, mesh["part"], styles)

for how, ranks in (("fsdp1", 8), ("hsdp", 4), ("tp", 4)):
    dist.init_process_group("nccl")
    torch.cuda.set_device(dist.get_node_local_rank())
    model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(2))).cuda()
    model = shared(model, how)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.zeros(8, 1024, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    held = [*model.parameters()]
    held += [one for state in optimizer.state.values() for one in state.values() if one.dim()]
    size = sum(4 * getattr(one, "_local_tensor", one).numel() for one in held)
    assert size == 3 * 4 * 2 * 1024 * 1024 // ranks, (how, size)
    del model, optimizer, held
    dist.destroy_process_group()
    gc.collect()
"""
STAGE = """
import torch
from torch import distributed as dist
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
dist.init_process_group("nccl")
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.cuda.set_device(dist.get_node_local_rank())
layer = torch.nn.Linear(64, 64).cuda()
shape, seen = torch.zeros(8, 64, device="cuda", requires_grad=True), []
layer.register_forward_hook(lambda *_: seen.append(None))
stage = PipelineStage(layer, rank, ranks, shape.device, input_args=(shape,), output_args=(shape,))
first = (shape.detach().repeat(ranks, 1),) if rank == 0 else ()
ScheduleGPipe(stage, ranks, loss_fn=lambda y, _: y.sum()).step(*first)
torch.optim.SGD(layer.parameters()).step()
assert len(seen) == ranks
"""


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("text", [SHARED, STAGE], ids=["its share of a mesh", "a stage"])
def test_a_rank_holds_its_share_and_takes_its_step(tmp_path: Path, text: str, rank: int) -> None:
    succeeds(tmp_path, text, rank=rank, world_size=RANKS, gpus=RANKS)


UNEVEN = Workload(
    in_features=33, hidden=(70, 55), classes=7, batch=12, optimizer="adamw", device="cuda"
)


def held_by_strategy() -> dict[str, int]:
    """Train as the first rank; return what is held after each strategy."""
    import gc

    from torch import distributed as dist

    from experiments.distributed_memory import one_rank  # a rank's own process imports it

    held: dict[str, int] = {}
    for strategy in NAMES:
        held[strategy] = one_rank.train_rank(UNEVEN, strategy)["held"]
        dist.destroy_process_group()
        gc.collect()
    return held


def test_what_the_first_rank_holds_is_the_closed_form() -> None:
    report = dry_run(held_by_strategy, rank=0, world_size=RANKS, gpus=RANKS, quiet=True)
    assert report.outcome == "ok", report.evidence
    assert report.returned == {name: held_bytes(UNEVEN, name, RANKS) for name in NAMES}


BEGIN = """
import datetime, time, torch
from torch import distributed as dist
from torch.distributed import _symmetric_memory as symmetric
dist.init_process_group("nccl", timeout=datetime.timedelta(seconds=4))
x = torch.zeros(1 << 20, device="cuda")
"""


def test_a_group_that_is_never_destroyed_ends_well_and_symmetric_memory_is_refused(
    tmp_path: Path,
) -> None:
    """The watchdog of the group comes too late."""
    reduced = "for _ in '12': dist.all_reduce(x, async_op=True); time.sleep(4.5 * (_ == '1'))"
    succeeds(tmp_path, BEGIN + reduced, world_size=RANKS)
    meeting = "symmetric.rendezvous(symmetric.empty(9, device='cuda'), dist.group.WORLD.group_name)"
    refused(tmp_path, BEGIN + meeting, "cuMemExportToShareableHandle", world_size=RANKS)


FUTURES = """
parameters = [torch.nn.Parameter(torch.zeros(1 << 20, device="cuda")) for _ in range(2)]
optimizer = torch.optim.SGD(parameters)
for step in range(3):
    futures = []
    for one in parameters:
        one.grad = torch.zeros_like(one)
        futures.append(dist.all_reduce(one.grad, async_op=True).get_future())
        time.sleep(SECONDS)
    for future in futures:
        future.wait()
    del futures, future
    optimizer.step()
    optimizer.zero_grad()
"""


def test_gradients_that_are_reduced_as_futures_are_kept_alike_in_every_run(tmp_path: Path) -> None:
    at_once, later = (
        succeeds(tmp_path, BEGIN + FUTURES.replace("SECONDS", seconds), world_size=RANKS)
        for seconds in ("0.0", "0.15")
    )
    assert at_once.cuda.allocated_peak_bytes == later.cuda.allocated_peak_bytes


def test_a_rank_whose_others_cannot_come_is_refused(tmp_path: Path) -> None:
    text = """
import os, torch
from torch import distributed as dist
os.environ |= {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
group = dist.HashStore()
dist.init_process_group("nccl", store=group, rank=0, world_size=2)
dist.all_reduce(torch.zeros(1, device="cuda"))
"""
    refused(tmp_path, text, "ranks that cannot meet is not pretended (--world-size")
