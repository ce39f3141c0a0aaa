"""A step with the changes of a plan made to it: checkpoints, autocast, another optimizer."""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from harness.planning.step_changes import (
    OptimizerVariant,
    StepChange,
    Subject,
    wrapped_blocks,
)
from harness.prediction.gpu.catalogue import Gpu
from harness.training.module_step import OptimizerMaker, make_optimizer
from harness.training.own_step import OwnStep

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def changed_step(own: OwnStep, change: StepChange, micro_batches: int) -> OwnStep:
    """Return the step with a change made, in at most two micro-batches.

    Those after the second need what the second needs.
    """
    run, prepare = min(micro_batches, 2), own.prepare

    def prepared(model: nn.Module) -> None:
        if prepare is not None:
            prepare(model)
        checkpoint_blocks(model, change)

    return replace(
        own,
        autocast=change.autocast or own.autocast,
        batch=run * (own.batch // micro_batches),
        accumulate=run,
        optimizer=changed_optimizer(own.optimizer, change.optimizer),
        prepare=prepared,
    )


def changed_optimizer(
    optimizer: str | OptimizerMaker, variant: OptimizerVariant
) -> str | OptimizerMaker:
    """Return the optimizer of ``variant`` as ``harness.predict`` takes it."""
    if variant == "as asked":
        return optimizer
    if variant == "sgd":
        return "sgd"

    def make(parameters: Any) -> Any:
        made = make_optimizer(optimizer, list(parameters))
        for group in made.param_groups if made is not None else ():
            group["foreach"] = False
            group["fused"] = variant == "fused"
        return made

    return make


def blocks_of(model: nn.Module) -> list[str]:
    """Return the names of the repeated blocks of a network, as checkpointing wraps them.

    A block is a child of a container (``Sequential``, ``ModuleList``) in which a class that has
    children of its own comes at least twice, and that is not inside another block.
    """
    blocks: list[str] = []
    for name, module in model.named_modules():
        inside = any(name == block or name.startswith(f"{block}.") for block in blocks)
        if inside or not isinstance(module, _CONTAINERS):
            continue
        children = [(key, child) for key, child in module.named_children() if any(child.children())]
        kinds = [type(child) for _, child in children]
        prefix = f"{name}." if name else ""
        blocks += [f"{prefix}{key}" for key, child in children if kinds.count(type(child)) > 1]
    return blocks


def checkpoint_blocks(model: nn.Module, change: StepChange) -> None:
    """Make a network checkpoint the blocks that the change wraps."""
    for name in wrapped_blocks(blocks_of(model), change.checkpointing):
        block: Any = model.get_submodule(name)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def subject_of(own: OwnStep, model: nn.Module, gpu: Gpu) -> Subject:
    """Return what a plan needs to know of the step, its network and the GPU."""
    norms = nn.modules.batchnorm._BatchNorm
    return Subject(
        batch=own.batch,
        optimizer=own.optimizer if isinstance(own.optimizer, str) else None,
        autocast=own.autocast is not None,
        blocks=tuple(blocks_of(model)),
        has_norms=any(isinstance(module, norms) for module in model.modules()),
        gpu=gpu.name,
        capability=gpu.capability,
    )
