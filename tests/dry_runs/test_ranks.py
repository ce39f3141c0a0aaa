"""One rank of many: PyTorch's own process groups, and what they allocate, keep and refuse."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.distributed_memory.closed_form import held_bytes
from experiments.distributed_memory.network import NAMES
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.run import dry_run
from harness.schema.workload import Workload
from tests.dry_runs.scripts import refused, succeeds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

RANKS = 8
MIB = 1 << 20
SHARES = {"fsdp1": 8, "hsdp": 4, "tp": 4}
"""Ways to share a network, and how many ranks have a part of it each."""
UNEVEN = Workload(
    in_features=33, hidden=(70, 55), classes=7, batch=12, optimizer="adamw", device="cuda"
)


def collectives() -> dict[str, Any]:
    """Return the bytes that each kind of collective takes next to its tensors, of 8 MiB each."""
    import torch

    dist: Any = torch.distributed
    size, rank = dist.get_world_size(), dist.get_rank()
    halves = [dist.new_group(list(range(half, size, 2))) for half in (0, 1)]
    group = halves[rank % 2]
    part, whole = torch.zeros(2 * MIB, device="cuda"), torch.zeros(size * 2 * MIB, device="cuda")
    parts = [torch.zeros_like(part) for _ in range(size)]
    step = (rank + 1) % size, (rank - 1) % size
    objects: dict[str, Any] = {"gathered": [None] * size, "sent": [rank], "scattered": [None]}

    def batched() -> None:
        sends = dist.P2POp(dist.isend, part, step[0]), dist.P2POp(dist.irecv, parts[0], step[1])
        for work in dist.batch_isend_irecv(list(sends)):
            work.wait()

    def coalesced() -> None:
        with dist._coalescing_manager(async_ops=True) as manager:
            for one in parts:
                dist.all_reduce(one)
        manager.wait()

    calls: dict[str, Callable[[], object]] = {
        "all_gather list": lambda: dist.all_gather(parts, part),
        "all_gather list of a half": lambda: dist.all_gather(parts[: size // 2], part, group),
        "all_gather_into_tensor": lambda: dist.all_gather_into_tensor(whole, part),
        "reduce_scatter list": lambda: dist.reduce_scatter(part, parts),
        "reduce_scatter_tensor": lambda: dist.reduce_scatter_tensor(part, whole),
        "all_reduce": lambda: dist.all_reduce(part, group=group),
        "all_to_all": lambda: dist.all_to_all(parts, list(whole.chunk(size))),
        "broadcast": lambda: dist.broadcast(part, 0),
        "reduce": lambda: dist.reduce(part, 0),
        "gather": lambda: dist.gather(part, None if rank else parts),
        "scatter": lambda: dist.scatter(part, None if rank else parts),
        "point to point": lambda: (dist.send(part, step[0]), dist.recv(part, step[1])),
        "batched": batched,
        "coalesced": coalesced,
        "gathered": lambda: dist.all_gather_object(objects["gathered"], [rank, "x" * 70_000]),
        "sent": lambda: dist.broadcast_object_list(objects["sent"], 0),
        "scattered": lambda: dist.scatter_object_list(
            objects["scattered"], None if rank else list(range(size)), 0
        ),
    }
    dist.barrier()
    taken: dict[str, Any] = {}
    for name, call in calls.items():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        taken[name] = torch.cuda.max_memory_allocated() - before
    own = torch.tensor([7.0], device="cuda")
    dist.broadcast(own, 0)
    taken["broadcast value"] = own.item()
    lists = [torch.zeros(1, device="cuda") for _ in range(size)]
    dist.all_gather(lists, own)
    print(float(lists[1]))
    try:
        dist.TCPStore("host", 1, size, False).get("theirs")
    except LookupError as error:
        objects["refused"] = str(error)
    objects["gathered"] = [one[0] for one in objects["gathered"]]
    gloo = dist.new_group(backend="gloo")
    dist.all_reduce(torch.tensor([3.0]), group=gloo)
    dist.monitored_barrier(gloo)
    return taken | {
        "objects": objects,
        "backend": dist.get_backend(),
        "rank": rank,
        "torch": str(torch.__version__),
    }


def trained(how: str) -> int:
    """Return the bytes of this rank's parameters and moments after two steps."""
    import torch
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.tensor import parallel

    model: Any = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(2))).cuda()
    if how == "fsdp1":
        model = FullyShardedDataParallel(model, sync_module_states=True)
    elif how == "hsdp":
        fully_shard(model, mesh=init_device_mesh("cuda", (2, 4), mesh_dim_names=("all", "part")))
    else:
        mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("data", "tensor"))
        styles = {"0": parallel.ColwiseParallel(), "1": parallel.RowwiseParallel()}
        model = parallel.parallelize_module(model, mesh["tensor"], styles)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.zeros(8, 1024, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    held: list[Any] = [*model.parameters()]
    held += [one for state in optimizer.state.values() for one in state.values() if one.dim()]
    return sum(4 * getattr(one, "_local_tensor", one).numel() for one in held)


def train_a_stage() -> int:
    """Train this rank's stage of a pipeline; return how many parts of the batch it saw."""
    import torch
    from torch import distributed as dist
    from torch import nn
    from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

    layer, shape = nn.Linear(64, 64).cuda(), torch.zeros(8, 64, device="cuda", requires_grad=True)
    seen: list[object] = []
    layer.register_forward_hook(lambda *_: seen.append(None))
    sizes: dict[str, Any] = {"input_args": (shape,), "output_args": (shape,)}
    stage = PipelineStage(layer, dist.get_rank(), RANKS, shape.device, **sizes)
    first = (shape.detach().repeat(RANKS, 1),) if dist.get_rank() == 0 else ()
    ScheduleGPipe(stage, RANKS, loss_fn=lambda y, _: y.sum()).step(*first)
    torch.optim.SGD(layer.parameters()).step()
    return len(seen)


def in_turn() -> dict[str, Any]:
    """Do what the tests ask for, each with process groups of its own."""
    import gc
    from functools import partial

    import torch
    from torch import distributed as dist

    from experiments.distributed_memory import one_rank  # a rank's own process imports it

    runs: dict[str, Callable[[], Any]] = {name: partial(trained, name) for name in SHARES}
    runs |= {"collectives": collectives, "stage": train_a_stage}
    seen: dict[str, Any] = {}
    for strategy in NAMES if os.environ["RANK"] == "0" else ():
        seen[strategy] = one_rank.train_rank(UNEVEN, strategy)["held"]
        dist.destroy_process_group()
        gc.collect()
    for name, run_one in runs.items():
        dist.init_process_group("nccl")
        torch.cuda.set_device(dist.get_node_local_rank())
        seen[name] = run_one()
        dist.destroy_process_group()
        gc.collect()
    return seen


@pytest.fixture(scope="module", params=[0, 3])
def report(request: pytest.FixtureRequest) -> DryRunReport:
    """One dry run of a rank, shared by the tests below."""
    done = dry_run(in_turn, rank=request.param, world_size=RANKS, gpus=RANKS, quiet=True)
    assert done.outcome == "ok", done.evidence
    return done


@pytest.fixture
def seen(report: DryRunReport) -> Any:
    return report.returned


def test_collectives_take_what_pytorch_s_own_group_takes(report: DryRunReport, seen: Any) -> None:
    taken = dict(seen["collectives"])
    version = tuple(map(int, taken.pop("torch").split(".")[:2]))
    flat = 0 if version >= (2, 15) else 8 * MIB  # ProcessGroupNCCL2 flattens no list
    rank, objects = taken.pop("rank"), taken.pop("objects")
    assert "the rank that sets 'theirs' does not run" in objects["refused"]
    assert objects["gathered"] == [rank] * RANKS
    assert objects["sent"] == [rank]
    assert objects["scattered"] == [0 if rank == 0 else None]
    assert 8 * 70_000 < taken.pop("gathered") < 2 * MIB
    assert taken.pop("sent") <= 4096
    assert taken.pop("broadcast value") == 7
    assert taken.pop("backend") == "nccl"
    lists = {"all_gather list": 8, "all_gather list of a half": 4, "reduce_scatter list": 8}
    assert taken == {name: lists.get(name, 0) * flat for name in taken}
    notes = " ".join(report.notes)
    assert "all_gather_object: the other ranks" in notes
    assert "collectives of host tensors" in notes


def test_values_of_other_ranks_are_unknown(report: DryRunReport) -> None:
    reads = {read.text: (read.count, read.known) for read in report.value_reads}
    assert reads["print(float(lists[1]))"] == (1, 0)
    assert reads['taken["broadcast value"] = own.item()'] == (1, 1)


def test_a_rank_holds_its_share_of_a_mesh(seen: Any) -> None:
    shares = {how: 3 * 4 * 2 * 1024 * 1024 // parts for how, parts in SHARES.items()}
    assert {how: seen[how] for how in SHARES} == shares


def test_a_stage_of_a_pipeline_takes_its_step(seen: Any) -> None:
    assert seen["stage"] == RANKS


def test_what_the_first_rank_holds_is_the_closed_form(seen: Any) -> None:
    for name in NAMES if seen["collectives"]["rank"] == 0 else ():
        assert seen[name] == held_bytes(UNEVEN, name, RANKS), name


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


def test_ranks_that_were_not_asked_for_are_refused(tmp_path: Path) -> None:
    text = """
import os, torch
from torch import distributed as dist
os.environ |= {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
group = dist.HashStore()
dist.init_process_group("nccl", store=group, rank=0, world_size=2)
dist.all_reduce(torch.zeros(1, device="cuda"))
"""
    refused(tmp_path, text, "--world-size")
