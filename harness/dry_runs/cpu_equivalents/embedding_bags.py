"""Bags of embeddings: the CPU's function leaves out what CUDA's returns for the backward pass."""

import torch
from torch import Tensor

from harness.dry_runs.cpu_equivalents.table import computes_for, unread

_MAX = 2


@computes_for("_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_by_frequency: bool = False,
    mode: int = 0,
    sparse: bool = False,
    weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding: int = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    made = torch._embedding_bag(
        weight, indices, offsets, scale_by_frequency, mode, sparse, weights,
        include_last_offset, padding,
    )  # fmt: skip
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(indices)])])
    bags = torch.repeat_interleave(torch.arange(len(offsets)), ends - offsets)
    counted = bags[indices != padding] if padding >= 0 else bags
    sizes = torch.bincount(counted, minlength=len(offsets))
    largest = made[3] if mode == _MAX else unread()
    return made[0], bags.to(indices.dtype), sizes.to(indices.dtype), largest
