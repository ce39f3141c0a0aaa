"""Trains a workload as one rank of many: DDP, ZeRO or FSDP2, on a process group of any backend."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from harness.schema.rank_run import TOKENS, Network, Strategy
from harness.schema.workload import Workload
from harness.training.data import source
from harness.training.models import Transformer
from harness.training.training_step import Built, build, optimizer_of, step

STEPS = 3
"""DDP rebuilds its buckets after the first step; the others are alike."""


def train_rank(workload: Workload, strategy: Strategy) -> int:
    """Train as the rank that the environment names; return the bytes held between steps."""
    dist.init_process_group("nccl")
    built = share(build(workload, source(workload)), strategy)
    for _ in range(STEPS):
        step(built)
    keep = (built.model, built.optimizer)
    del built  # the batch
    clear: Any = torch._C._cuda_clearCublasWorkspaces
    clear()
    held = _requested("current")
    del keep
    return held


def train_alone(workload: Workload, network: Network, *, compiled: bool) -> dict[str, int]:
    """Train on one GPU; return what the last of a few equal steps keeps, and its peaks."""
    made = _transformer if network == "transformer" else None
    built = build(workload, source(workload), made)
    if compiled:
        built.model.compile(fullgraph=True)
    kept = 0

    @contextlib.contextmanager
    def phase(name: str) -> Iterator[None]:
        nonlocal kept
        before = _requested("current")
        yield
        if name == "forward":
            kept = _requested("current") - before

    for _ in range(STEPS):
        torch.cuda.reset_peak_memory_stats()
        step(built, phase)
    return {
        "held": _requested("current"),
        "kept": kept,
        "requested_peak_bytes": _requested("peak"),
        "allocated_peak_bytes": torch.cuda.max_memory_allocated(),
        "reserved_peak_bytes": torch.cuda.max_memory_reserved(),
    }


def _transformer(workload: Workload, dtype: torch.dtype, device: torch.device) -> Any:
    widths = workload.widths
    made = Transformer(len(widths), widths[0], workload.classes, tokens=TOKENS)
    return made.to(device, dtype)


def _requested(when: str) -> int:
    return int(torch.cuda.memory_stats()[f"requested_bytes.all.{when}"])


def share(built: Built, strategy: Strategy) -> Built:
    """Return what was built with its network and its optimizer shared among the ranks."""
    workload = built.workload
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
