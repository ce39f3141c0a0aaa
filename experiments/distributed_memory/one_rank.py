"""Trains the network as one rank under DDP, ZeRO or FSDP2; worker processes import this file."""

import dataclasses
import functools
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from harness.dry_runs.ranks import pretend_ranks, variables
from harness.schema.workload import Workload
from harness.training.data import source
from harness.training.module_step import BuiltStep, run_step
from harness.training.training_step import build, optimizer_of

from .network import Strategy

STEPS = 3
"""Number of steps; DDP rebuilds its buckets after the first step, and later steps are equal."""


def train(strategy: Strategy, world_size: int, **network: Any) -> dict[str, int]:
    """Train as rank 0 of ``world_size`` ranks, with an NCCL that does not move data."""
    os.environ.update(variables(0, world_size, 1))
    pretend_ranks({})
    return train_rank(Workload(device="cuda", **network), strategy)


def train_rank(workload: Workload, strategy: Strategy) -> dict[str, int]:
    """Train as the rank that the environment variables specify.

    Returns:
        The bytes allocated between steps and the peaks over all steps. The bytes between steps do
        not include the batch and cuBLAS workspaces.
    """
    dist.init_process_group("nccl")
    built = share(build(workload, source(workload)), workload, strategy)
    for _ in range(STEPS):
        run_step(built)
    keep = (built.model, built.optimizer)
    del built  # the batch
    clear: Any = torch._C._cuda_clearCublasWorkspaces
    clear()
    held = torch.cuda.memory_stats()["requested_bytes.all.current"]
    del keep
    return {
        "held": int(held),
        "allocated_peak_bytes": torch.cuda.max_memory_allocated(),
        "reserved_peak_bytes": torch.cuda.max_memory_reserved(),
    }


def share(built: BuiltStep, workload: Workload, strategy: Strategy) -> BuiltStep:
    """Return the step, with network and optimizer wrapped as ``strategy`` requires."""
    model: Any = built.model
    if strategy == "fsdp2":
        for layer in built.model.modules():
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(model)
    else:
        model = DistributedDataParallel(model, device_ids=[0], gradient_as_bucket_view=True)
    optimizer: Any
    if strategy == "zero":
        own: Any = functools.partial(optimizer_of, workload)
        optimizer = ZeroRedundancyOptimizer(model.parameters(), own)
    else:
        optimizer = optimizer_of(workload, model.parameters())
    return dataclasses.replace(built, model=model, optimizer=optimizer)
