"""Builds a workload's step, which runs as a step of any network does."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.schema.workload import Workload
from harness.training.data import Fill
from harness.training.models import MLP, MLPScratch
from harness.training.module_step import Step, named_optimizer

_NOTES_LEARNING_RATE = 0.1
"""The note's, with which its accuracy is compared; a step needs the same memory at each."""

Network = Callable[[Workload, torch.dtype, torch.device], MLP | MLPScratch]


def build(workload: Workload, fill: Fill, network: Network | None = None) -> Step:
    """Create the network, its optimizer and one batch, in that order.

    ``network`` makes another one than the workload's. In the step, ``x`` are examples, (batch,
    in_features), and ``y`` labels, int64 (batch,), None in inference.
    """
    torch.manual_seed(workload.seed)
    dtype: torch.dtype = getattr(torch, workload.dtype)
    device = torch.device(workload.device)
    model: Any = (network or _network)(workload, dtype, device)
    training = workload.mode == "train"
    model.train(training)
    if workload.checkpoint:
        model.forward = functools.partial(_in_segments, model, workload.checkpoint)
    optimizer = optimizer_of(workload, model.parameters()) if training else None
    x = torch.empty(workload.batch, workload.in_features, dtype=dtype, device=device)
    y = torch.empty(workload.batch, dtype=torch.int64, device=device) if training else None
    fill(x, y)
    return Step(
        model=model,
        x=x,
        y=y,
        optimizer=optimizer,
        mode=workload.mode,
        autocast=getattr(torch, workload.autocast) if workload.autocast else None,
        device_type=workload.device,
        accumulate=workload.accumulate,
        is_split=True,
    )


def _network(workload: Workload, dtype: torch.dtype, device: torch.device) -> MLP | MLPScratch:
    sizes = (workload.in_features, workload.widths, workload.classes, workload.activation)
    if workload.model == "mlp-scratch":
        return MLPScratch(*sizes, dtype=dtype, device=device)
    norm, dropout = workload.norm, workload.dropout
    return MLP(*sizes, norm=norm, dropout=dropout, dtype=dtype, device=device)


def optimizer_of(
    workload: Workload, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer | None:
    """Return the workload's optimizer of ``parameters``; None where it has none."""
    foreach = {"auto": None, "on": True, "off": False}[workload.foreach]
    return named_optimizer(workload.optimizer, parameters, _NOTES_LEARNING_RATE, foreach=foreach)


def _in_segments(model: Any, segments: int, x: Tensor) -> Any:
    """Return logits (batch, classes); if they need gradients, hidden layers are checkpointed."""
    if not torch.is_grad_enabled():
        return type(model).forward(model, x)
    blocks = model.blocks()
    bounds = [len(blocks) * number // segments for number in range(segments + 1)]
    for start, stop in itertools.pairwise(bounds):
        x = checkpoint(_run_blocks, blocks[start:stop], x, use_reentrant=False)
    return model.predictor(x)


def _run_blocks(blocks: Sequence[Callable[[Tensor], Tensor]], hidden: Tensor) -> Tensor:
    for block in blocks:
        hidden = block(hidden)
    return hidden
