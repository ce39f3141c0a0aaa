"""Builds the training or inference step of a workload."""

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
"""Learning rate in the course note; it does not affect memory."""

Network = Callable[[Workload, torch.dtype, torch.device], MLP | MLPScratch]


def build(workload: Workload, fill: Fill, network: Network | None = None) -> BuiltStep:
    """Create the network, its optimizer and one batch, in that order.

    ``network``, if it is given, creates the model. In the result, ``x`` has shape (batch,
    in_features). ``y`` contains int64 labels (batch,), or is None in inference.
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
    """Create the optimizer and one batch for an existing network."""
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
    """The step of a workload, with the interface of ``OwnStep``."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(
            build=partial(model_of, workload), batch=workload.batch, inputs=(1,), mode=workload.mode
        )
        self.least_batch = workload.least_batch
        self._workload = workload

    def network(self, device: str) -> nn.Module:
        """Build the workload's network on ``device``."""
        return model_of(self._workload.replace(device=device))

    def step(self, model: nn.Module, device: str, batch: int | None = None) -> BuiltStep:
        """Create the optimizer and one batch; ``batch`` replaces the workload's batch if given."""
        workload = self._workload.replace(device=device, batch=batch or self.batch)
        return step_of(workload, model, lambda *_: None)

    def with_values(self) -> Self:
        """Return the step unchanged."""
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
    """Create the workload's optimizer for ``parameters``; None if the workload has no optimizer."""
    foreach = {"auto": None, "on": True, "off": False}[workload.foreach]
    return named_optimizer(workload.optimizer, parameters, _NOTES_LEARNING_RATE, foreach=foreach)


def _in_segments(model: Any, segments: int, x: Tensor) -> Any:
    """Return the logits of ``x``; if gradients are enabled, checkpoint the hidden layers."""
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
