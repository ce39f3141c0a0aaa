"""Ranks that train together, on pretended GPUs or with Gloo on the CPU."""

import multiprocessing
import os
import socket
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

STEPS, BATCH, WIDTH, CLASSES = 8, 48, 32, 10
DDP, FSDP2, TENSOR_PARALLEL = "ddp", "fsdp2", "tensor parallel"
MISTAKEN = "ddp without all-reduce"


def network() -> nn.Sequential:
    """Return the same network in every rank. With 64 bits, no digit hangs on the order of sums."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, CLASSES)).double()


def spread(model: nn.Sequential, how: str, device: str) -> Any:
    """Return the network as one of the ranks has it."""
    if how in (DDP, MISTAKEN):
        return DistributedDataParallel(model)
    if how == FSDP2:
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(model)
        return model
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def forget_to_reduce(
    _: object,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """Return the gradients of this rank alone: a planted mistake."""
    future = torch.futures.Future[Tensor](devices=[bucket.buffer().device])
    future.set_result(bucket.buffer())
    return future


def losses_with(how: str, device: str) -> list[float]:
    """Train in one way as one of the ranks; return the mean losses of all ranks."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    generator = torch.Generator().manual_seed(1)
    examples = torch.randn(BATCH, WIDTH, generator=generator, dtype=torch.float64)
    classes = torch.randint(CLASSES, (BATCH,), generator=generator)
    if how != TENSOR_PARALLEL:
        examples, classes = examples[rank::ranks], classes[rank::ranks]
    examples, classes = examples.to(device), classes.to(device)
    model = spread(network().to(device), how, device)
    if how == MISTAKEN:
        model.register_comm_hook(dist.group.WORLD, forget_to_reduce)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(model(examples), classes)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        dist.all_reduce(mean := loss.detach().clone())
        seen.append(round(mean.item() / ranks, 10))
    return seen


def train(rank: int, ranks: int, port: int, ways: Sequence[str], losses: Any) -> None:
    """Train in several ways as one of the ranks; the first one puts the losses into a queue."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {**place, "RANK": str(rank), "WORLD_SIZE": str(ranks)}
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    found = {how: losses_with(how, device) for how in ways}
    if rank == 0:
        losses.put(found)
    dist.barrier()
    dist.destroy_process_group()


def losses_of(ways: Sequence[str], ranks: int) -> dict[str, list[float]]:
    """Train with several ranks in several ways; return the mean losses of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    losses: Any = multiprocessing.get_context("spawn").SimpleQueue()
    spawn(train, (ranks, port, ways, losses), ranks)  # type: ignore[no-untyped-call]
    found: dict[str, list[float]] = losses.get()
    return found
