"""Builds the step of a workload, which then runs like the step of any network."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.schema.workload import Workload
from harness.training.data import Fill
from harness.training.models import MLP, MLPScratch
from harness.training.module_step import BuiltStep, named_optimizer
from harness.training.own_step import OwnStep

_NOTES_LEARNING_RATE = 0.1
"""Learning rate of the note, for a comparison of accuracies; memory does not depend on it."""

Network = Callable[[Workload, torch.dtype, torch.device], MLP | MLPScratch]


def build(workload: Workload, fill: Fill, network: Network | None = None) -> BuiltStep:
    """Create the network, its optimizer and one batch, in that order.

    ``network`` makes another network in place of the workload's. In the step, ``x`` has examples,
    (batch, in_features), and ``y`` has labels, int64 (batch,), or is None in inference.
    """
    torch.manual_seed(workload.seed)
    return step_of(workload, model_of(workload, network), fill)


def model_of(workload: Workload, network: Network | None = None) -> nn.Module:
    """Create the network on the workload's device."""
    dtype: torch.dtype = getattr(torch, workload.dtype)
    model: Any = (network or _network)(workload, dtype, torch.device(workload.device))
    model.train(workload.mode == "train")
    if workload.checkpoint:
        model.forward = functools.partial(_in_segments, model, workload.checkpoint)
    return cast("nn.Module", model)


def step_of(workload: Workload, model: nn.Module, fill: Fill) -> BuiltStep:
    """Create a network's optimizer and one batch."""
    training, device = workload.mode == "train", torch.device(workload.device)
    dtype: torch.dtype = getattr(torch, workload.dtype)
    optimizer = optimizer_of(workload, model.parameters()) if training else None
    x = torch.empty(workload.batch, workload.in_features, dtype=dtype, device=device)
    y = torch.empty(workload.batch, dtype=torch.int64, device=device) if training else None
    fill(x, y)
    return BuiltStep(
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


class WorkloadStep(OwnStep):
    """A workload's step as a step of any network."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(
            build=partial(model_of, workload), batch=workload.batch, inputs=(1,), mode=workload.mode
        )
        self.least_batch = workload.least_batch
        self._workload = workload

    def network(self, device: str) -> nn.Module:
        """Build the network on the workload's device."""
        return model_of(self._workload.replace(device=device))

    def step(self, model: nn.Module, device: str, batch: int | None = None) -> BuiltStep:
        """Make the optimizer and a batch, which is then split into micro-batches."""
        workload = self._workload.replace(device=device, batch=batch or self.batch)
        return step_of(workload, model, lambda *_: None)

    def with_values(self) -> Self:
        """Return the unchanged step."""
        return self


def _network(workload: Workload, dtype: torch.dtype, device: torch.device) -> MLP | MLPScratch:
    sizes = (workload.in_features, workload.widths, workload.classes, workload.activation)
    if workload.model == "mlp-scratch":
        return MLPScratch(*sizes, dtype=dtype, device=device)
    norm, dropout = workload.norm, workload.dropout
    return MLP(*sizes, norm=norm, dropout=dropout, dtype=dtype, device=device)


def optimizer_of(
    workload: Workload, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer | None:
    """Return the workload's optimizer of ``parameters``; None if it has none."""
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
