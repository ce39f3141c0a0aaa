"""Builds a workload and runs one step of it, phase by phase.

Phases are announced through ``phase(name)``, a context manager that the caller supplies;
this file neither measures nor prints.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from harness.schema.training_run import ZeroGrad
from harness.schema.workload import Workload
from harness.training.data import Fill
from harness.training.models import MLP, MLPScratch
from harness.training.module_step import named_optimizer

LEARNING_RATE = 0.1
"""The note's."""

Phase = Callable[[str], AbstractContextManager[object]]


def no_phase(name: str) -> AbstractContextManager[object]:
    """Announce nothing."""
    del name
    return nullcontext()


@dataclass(frozen=True, kw_only=True)
class Built:
    """Result of the build phase: all that a step reads and writes."""

    workload: Workload
    model: MLP | MLPScratch
    optimizer: torch.optim.Optimizer | None
    x: Tensor
    """Examples, (batch, in_features)."""
    y: Tensor | None
    """Labels, int64 (batch,); None in inference."""


Network = Callable[[Workload, torch.dtype, torch.device], MLP | MLPScratch]


def build(workload: Workload, fill: Fill, network: Network | None = None) -> Built:
    """Create the network, its optimizer and one batch, in that order.

    ``network`` makes another one than the workload's.
    """
    torch.manual_seed(workload.seed)
    dtype: torch.dtype = getattr(torch, workload.dtype)
    device = torch.device(workload.device)
    model = (network or _network)(workload, dtype, device)
    training = workload.mode == "train"
    model.train(training)
    optimizer = optimizer_of(workload, model.parameters()) if training else None
    x = torch.empty(workload.batch, workload.in_features, dtype=dtype, device=device)
    y = torch.empty(workload.batch, dtype=torch.int64, device=device) if training else None
    fill(x, y)
    return Built(workload=workload, model=model, optimizer=optimizer, x=x, y=y)


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
    return named_optimizer(workload.optimizer, parameters, LEARNING_RATE, foreach=foreach)


def step(built: Built, phase: Phase = no_phase, *, zero_grad: ZeroGrad = "before_forward") -> None:
    """Run one step: forward, backward and update in training, a forward pass in inference.

    ``zero_grad`` says when the gradients of the step before are freed, in the phase "optimizer":
    first, as most training loops do, or after the (first) forward pass, as the note's does.
    """
    workload, parts = built.workload, built.workload.accumulate
    if workload.mode == "inference":
        with phase("forward"), torch.no_grad(), _autocast(workload):
            built.model(built.x)
        return
    assert built.y is not None, "a training batch has labels"
    batches: Iterable[tuple[Tensor, ...]] = [(built.x, built.y)]
    if parts > 1:
        batches = zip(built.x.tensor_split(parts), built.y.tensor_split(parts), strict=True)
    if zero_grad == "before_forward":
        _free_gradients(built, phase)
    for number, (x, y) in enumerate(batches):
        with phase("forward"), _autocast(workload):
            loss = cross_entropy(_forward(built, x), y)
        if number == 0 and zero_grad == "after_forward":
            _free_gradients(built, phase)
        with phase("backward"):
            (loss / parts if parts > 1 else loss).backward()  # type: ignore[no-untyped-call]
            del loss
    with phase("optimizer"):
        if built.optimizer is not None:
            built.optimizer.step()


def _free_gradients(built: Built, phase: Phase) -> None:
    with phase("optimizer"):
        (built.optimizer or built.model).zero_grad(set_to_none=True)


def _forward(built: Built, x: Tensor) -> Tensor:
    """Return logits (batch, classes); hidden layers run in checkpointed segments if asked."""
    segments = built.workload.checkpoint
    if not segments:
        logits: Tensor = built.model(x)
        return logits
    blocks = built.model.blocks()
    bounds = [len(blocks) * number // segments for number in range(segments + 1)]
    hidden = x
    for start, stop in itertools.pairwise(bounds):
        segment = functools.partial(_run_blocks, blocks[start:stop])
        hidden = checkpoint(segment, hidden, use_reentrant=False)
    return built.model.predictor(hidden)


def _run_blocks(blocks: Sequence[Callable[[Tensor], Tensor]], hidden: Tensor) -> Tensor:
    for block in blocks:
        hidden = block(hidden)
    return hidden


def _autocast(workload: Workload) -> AbstractContextManager[object]:
    if workload.autocast is None:
        return nullcontext()
    return torch.autocast(workload.device, dtype=getattr(torch, workload.autocast))
