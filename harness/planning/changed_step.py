"""Applies the changes of a plan to a step, e.g. checkpointing, autocast or another optimizer."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.planning.step_changes import (
    LORA_RANK,
    OptimizerVariant,
    StepChange,
    Subject,
    wrapped_blocks,
)
from harness.prediction.gpu.catalogue import Gpu
from harness.training.module_step import OptimizerMaker, make_optimizer
from harness.training.own_step import ExampleInputs, OwnStep

LOADED = "_harness_loaded_"
"""Name prefix of the buffers that represent loaded checkpoint weights."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def changed_step(own: OwnStep, change: StepChange, micro_batches: int) -> OwnStep:
    """Return the changed step, with at most two micro-batches.

    Later micro-batches need the same memory as the second micro-batch.
    """
    run, prepare = min(micro_batches, 2), own.prepare

    def prepared(model: nn.Module) -> None:
        if prepare is not None:
            prepare(model)
        if change.adapters:
            adapt(model)
        checkpoint_blocks(model, change)
        if change.resumed:
            keep_loaded(model)

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
    """Return the changed optimizer in a form that ``harness.predict`` accepts."""
    if variant == "as asked":
        return optimizer
    if variant == "sgd":
        return "sgd"
    if variant == "8-bit states":
        return EightBitStates

    def make(parameters: Any) -> Any:
        made = make_optimizer(optimizer, list(parameters))
        for group in made.param_groups if made is not None else ():
            group["foreach"] = False
            group["fused"] = variant == "fused"
        return made

    return make


class EightBitStates(torch.optim.Optimizer):
    """Allocates the same states as the 8-bit Adam of bitsandbytes, but updates no parameters.

    A parameter with at least 4,096 elements has two states of one byte per element. Each one-byte
    state has a float32 scale per 256 elements. A smaller parameter has two float32 states. The
    update of bitsandbytes works in place, so no further memory is needed
    (``bitsandbytes/optim/optimizer.py``).
    """

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Create states for each parameter that has a gradient but no states yet."""
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter not in self.state:
                    self.state[parameter] = self._states(parameter)

    def _states(self, parameter: Tensor) -> dict[str, Tensor]:
        count = parameter.numel()
        kind = torch.uint8 if count >= 4096 else torch.float32
        states = {f"state{n}": torch.zeros_like(parameter, dtype=kind) for n in (1, 2)}
        if kind is torch.uint8:
            for n in (1, 2):
                states[f"absmax{n}"] = torch.zeros(-(-count // 256), device=parameter.device)
        return states


def adapted_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers inside repeated blocks by name; LoRA adapts only these layers."""
    blocks = tuple(f"{name}." for name in blocks_of(model))
    layers = ((name, each) for name, each in model.named_modules() if type(each) is nn.Linear)
    return {name: each for name, each in layers if name.startswith(blocks)}


def adapt(model: nn.Module) -> None:
    """Freeze the network's parameters and add LoRA adapters, as the peft package does."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in adapted_layers(model).values():
        options: Any = {"bias": False, "device": layer.weight.device, "dtype": layer.weight.dtype}
        down = nn.Linear(layer.in_features, LORA_RANK, **options)
        up = nn.Linear(LORA_RANK, layer.out_features, **options)
        layer.add_module("lora_A", down)
        layer.add_module("lora_B", up)
        layer.forward = partial(_adapted, layer.forward, down, up)  # type: ignore[method-assign]


def _adapted(forward: Any, down: nn.Module, up: nn.Module, x: Tensor) -> Any:
    return forward(x) + up(down(x)) * 2.0


def blocks_of(model: nn.Module) -> list[str]:
    """Return the names of a network's repeated blocks, such as Transformer layers.

    A block is a child of a ``Sequential``, ``ModuleList`` or ``ModuleDict``. A block has
    submodules, and at least one sibling of the same class. Blocks are not nested.
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
    """Apply ``torch.utils.checkpoint`` to the blocks that ``change`` selects."""
    for name in wrapped_blocks(blocks_of(model), change.checkpointing):
        block: Any = model.get_submodule(name)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def keep_loaded(model: nn.Module) -> None:
    """Add a buffer for each storage that ``torch.load`` would put on the network's device."""
    for number, storage in enumerate(storages_of(model)):
        loaded = torch.empty(storage.nbytes(), dtype=torch.uint8, device=storage.device)
        model.register_buffer(f"{LOADED}{number}", loaded, persistent=False)


def storages_of(model: nn.Module) -> list[torch.UntypedStorage]:
    """Return the storages of the network's ``state_dict``, without duplicates."""
    values = (each for each in model.state_dict().values() if isinstance(each, Tensor))
    return list({one._cdata: one for one in (each.untyped_storage() for each in values)}.values())


def subject_of(own: OwnStep, model: nn.Module, gpu: Gpu) -> Subject:
    """Return the properties of the step, the network and the GPU that a plan depends on."""
    norms = nn.modules.batchnorm._BatchNorm
    specs = own.inputs.specs if isinstance(own.inputs, ExampleInputs) else ()
    names = [spec.name or f"x{number}" for number, spec in enumerate(specs, 1)]
    inputs = ("x",) if len(specs) < 2 and not (specs and specs[0].name) else tuple(names)
    states = {"adam": 2, "adamw": 2, "momentum": 1}.get(str(own.optimizer), 0)
    parameters = sum(each.nbytes for each in model.parameters())
    weights = [each.nbytes() for each in storages_of(model)]
    return Subject(
        batch=own.batch,
        optimizer=own.optimizer if isinstance(own.optimizer, str) else None,
        autocast=own.autocast is not None,
        blocks=tuple(blocks_of(model)),
        has_norms=any(isinstance(module, norms) for module in model.modules()),
        gpu=gpu.name,
        capability=gpu.capability,
        inputs=inputs,
        are_named=bool(specs) and specs[0].name is not None,
        loss=own.loss if isinstance(own.loss, str) else getattr(own.loss, "__name__", "loss"),
        adapted=tuple(dict.fromkeys(name.rpartition(".")[2] for name in adapted_layers(model))),
        state_bytes=(2 + states) * parameters,
        weights_bytes=sum(weights),
        saved_bytes=sum(weights) + states * parameters,
        largest_bytes=max(weights, default=0),
    )
