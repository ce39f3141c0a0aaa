"""Ranks of FSDP2, spawned or one of many: a script for ``test_real_processes.py``."""

import os
import socket

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn

WIDTH, LAYERS, RANKS = 1024, 4, int(os.environ["RANKS"])
HELD = 3 * 4 * LAYERS * WIDTH * WIDTH // RANKS
"""Bytes of a rank's weights and AdamW's two states of them, after a step."""


def train(rank: int, port: int, *, is_spawned: bool) -> None:
    """Take two steps, and compare what the ranks hold and say."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {**place, "RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl")
    layers = [nn.Linear(WIDTH, WIDTH, bias=False, device="cuda") for _ in range(LAYERS)]
    model = nn.Sequential(*layers)
    for layer in layers:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.zeros(8 + rank, WIDTH, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.cuda.memory_allocated() == HELD, torch.cuda.memory_allocated()
    said: list[object] = [None] * RANKS
    dist.all_gather_object(said, rank)
    words: list[object] = [10 * rank]
    dist.broadcast_object_list(words, 0)
    if is_spawned:
        assert said == list(range(RANKS))
        assert words == [0]
    dist.barrier()
    dist.destroy_process_group()


def spawned(rank: int, port: int) -> None:
    """Be one of the ranks that are real processes."""
    train(rank, port, is_spawned=True)


if __name__ == "__main__":
    if "RANK" in os.environ:
        train(int(os.environ["RANK"]), 29500, is_spawned=False)
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]
        spawn(spawned, (free,), RANKS)  # type: ignore[no-untyped-call]
