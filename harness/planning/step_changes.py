"""Changes of a training step that a plan can propose, with their estimated costs in time.

A forward pass takes a third of a step, and a backward pass takes two thirds. Checkpointing repeats
the forward pass of the blocks that it wraps. Each further micro-batch adds 2% to the step time,
because it launches more and smaller kernels. With tensor cores, bfloat16 autocast multiplies the
step time by 0.6. A fused optimizer adds no time. An optimizer without foreach adds 5% to the step
time, because it launches kernels for each parameter. LoRA does not compute weight gradients, which
are half of the backward pass. If the allocator has to free cached segments and allocate them again,
each step takes 10% more time. The estimated times serve to sort changes, not to predict seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.schema.step_choices import LEARNING_RATE

FORWARD_SHARE = 1 / 3
MICRO_BATCH_COST = 0.02
BFLOAT16_TIME = 0.6
WITHOUT_FOREACH_COST = 0.05
RETRY_COST = 0.1
LORA_TIME = 2 / 3
LORA_RANK = 8

Checkpointing = Literal["none", "every second block", "every block"]
OptimizerVariant = Literal["as asked", "fused", "without foreach", "8-bit states", "sgd"]

_STRIDES: dict[Checkpointing, int] = {"every second block": 2, "every block": 1}
_OPTIMIZERS: dict[OptimizerVariant, str] = {
    "fused": "fused optimizer",
    "without foreach": "optimizer without foreach",
    "8-bit states": "8-bit optimizer states",
    "sgd": "SGD, which trains otherwise",
}
_NAMED = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "momentum": "SGD"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Properties of the step, the network and the GPU that a plan depends on."""

    batch: int
    optimizer: str | None
    """Name of the optimizer; None if the user gave a function."""
    autocast: bool
    blocks: tuple[str, ...]
    has_norms: bool
    gpu: str
    capability: tuple[int, int]
    inputs: tuple[str, ...] = ("x",)
    """Names of the input tensors of the model."""
    are_named: bool = False
    loss: str = "cross-entropy"
    """Name of a built-in loss or of the user's loss function."""
    adapted: tuple[str, ...] = ()
    """Short names of the linear layers to which LoRA adds adapters, such as ``q_proj``."""
    state_bytes: int = 0
    """Bytes of parameters, gradients and optimizer states, which FSDP divides among GPUs."""
    weights_bytes: int = 0
    """Size of the network's checkpoint, in bytes."""
    saved_bytes: int = 0
    """Size of a checkpoint with the network and the optimizer states, in bytes."""
    largest_bytes: int = 0
    """Size of the largest storage in the checkpoint, in bytes."""


@dataclass(frozen=True, kw_only=True)
class StepChange:
    """Combination of changes of a step; the default values change nothing."""

    checkpointing: Checkpointing = "none"
    autocast: Literal["bfloat16"] | None = None
    optimizer: OptimizerVariant = "as asked"
    adapters: bool = False
    resumed: bool = False
    """True if loaded checkpoint weights stay on the GPU because a variable keeps them alive."""

    def relative_time(self, micro_batches: int) -> float:
        """Return the estimated step time, relative to the unchanged step."""
        stride = _STRIDES.get(self.checkpointing)
        arithmetic = (BFLOAT16_TIME if self.autocast else 1.0) * (LORA_TIME if self.adapters else 1)
        time = arithmetic * (1 + FORWARD_SHARE * (1 / stride if stride else 0.0))
        time += WITHOUT_FOREACH_COST * (self.optimizer == "without foreach")
        return time + MICRO_BATCH_COST * (micro_batches - 1)

    def described(self) -> tuple[str, ...]:
        """Return a short description of each change."""
        parts = (
            f"checkpoint {self.checkpointing}" if self.checkpointing != "none" else "",
            f"autocast {self.autocast}" if self.autocast else "",
            _OPTIMIZERS.get(self.optimizer, ""),
            f"LoRA of rank {LORA_RANK}, which trains otherwise" if self.adapters else "",
            "resumed, the loaded weights kept on the GPU" if self.resumed else "",
        )
        return tuple(part for part in parts if part)


def possible_changes(subject: Subject) -> tuple[StepChange, ...]:
    """Return the combinations of changes that can help the step, starting with no change."""
    kinds: list[Checkpointing] = ["none", *(_STRIDES if subject.blocks else ())]
    casts: list[Literal["bfloat16"] | None] = [None]
    if not subject.autocast and subject.capability >= (8, 0):
        casts.append("bfloat16")
    changes = [StepChange(checkpointing=kind, autocast=cast) for cast in casts for kind in kinds]
    strongest = changes[-1]
    for variant in _OPTIMIZERS:
        if subject.optimizer is None:
            makes_sense = variant == "without foreach"  # for a function of the user's
        else:
            kinds_of = ("adam", "adamw") if variant == "8-bit states" else tuple(_NAMED)
            makes_sense = subject.optimizer in kinds_of and variant != subject.optimizer
        if makes_sense:
            changes.append(StepChange(optimizer=variant))
        if makes_sense and variant != "without foreach":
            changes.append(replace(strongest, optimizer=variant))
    if subject.adapted:
        changes += [StepChange(adapters=True), replace(strongest, adapters=True)]
    return tuple(dict.fromkeys(changes))


def wrapped_blocks(names: Sequence[str], checkpointing: Checkpointing) -> Sequence[str]:
    """Return the names of the blocks that ``checkpointing`` wraps."""
    return names[:: _STRIDES[checkpointing]] if checkpointing in _STRIDES else ()


def levers_of(subject: Subject) -> tuple[StepChange, ...]:
    """Return each possible change that is not a combination of several changes."""
    possible = possible_changes(subject)
    return tuple(change for change in possible if len(change.described()) == 1)


def code_of(change: StepChange, subject: Subject, micro_batches: int) -> str:
    """Return Python code that makes the changes in the user's training loop."""
    lines: list[str] = []
    if change.adapters:
        lines += [
            "from peft import LoraConfig, get_peft_model",
            f"config = LoraConfig(r={LORA_RANK}, target_modules={list(subject.adapted)})",
            "model = get_peft_model(model, config)",
        ]
    wrapped = wrapped_blocks(subject.blocks, change.checkpointing)
    if wrapped:
        lines += [
            "from functools import partial",
            "from torch.utils.checkpoint import checkpoint",
            f"for name in {list(wrapped)}:",
            "    block = model.get_submodule(name)",
            "    block.forward = partial(checkpoint, block.forward, use_reentrant=False)",
        ]
    lines += _optimizer_code(change.optimizer, subject.optimizer)
    loss, tensors = _loss_code(subject)
    body = [loss]
    if change.autocast:
        body = [f'with torch.autocast("cuda", torch.{change.autocast}):', f"    {loss}"]
    if micro_batches > 1:
        names = ", ".join(tensors)
        chunks = ", ".join(f"{name}.chunk({micro_batches})" for name in tensors)
        parts = f"zip({chunks})" if len(tensors) > 1 else chunks
        moved = ", ".join(f"{name}.cuda()" for name in tensors)
        lines += [f"for {names} in {parts}:  # on the CPU", f"    {names} = {moved}"]
        lines += [f"    {line}" for line in [*body, f"(loss / {micro_batches}).backward()"]]
    elif change.autocast:
        lines += [*body, "loss.backward()"]
    return "\n".join(lines)


def _loss_code(subject: Subject) -> tuple[str, list[str]]:
    """Return the line of code that computes the loss, and the tensor names in this line."""
    named = subject.are_named
    call = f"model({', '.join(f'{name}={name}' if named else name for name in subject.inputs)})"
    tensors = list(subject.inputs)
    if subject.loss == "sum":
        return f"loss = {call}.sum()", tensors
    if subject.loss == "model":
        return f"loss = {call}.loss", tensors
    labels = [] if "labels" in tensors else ["labels"]
    function = {"cross-entropy": "cross_entropy", "mean-square": "mse_loss"}.get(subject.loss)
    if function is None:
        return f"loss = {subject.loss}({call}, labels)", [*tensors, *labels]
    return f"loss = torch.nn.functional.{function}({call}, labels)", [*tensors, *labels]


def _optimizer_code(variant: OptimizerVariant, optimizer: str | None) -> list[str]:
    if variant == "as asked":
        return []
    if variant == "sgd":
        return [f"optimizer = torch.optim.SGD(model.parameters(), lr={LEARNING_RATE})"]
    if variant == "8-bit states":
        name = _NAMED[optimizer or "adam"]
        return [
            "import bitsandbytes",
            f"optimizer = bitsandbytes.optim.{name}8bit(model.parameters())",
        ]
    option = "fused=True" if variant == "fused" else "foreach=False"
    if optimizer is None:
        return [f"# make your optimizer with {option}"]
    extra = f", lr={LEARNING_RATE}, momentum=0.9" if optimizer == "momentum" else ""
    return [f"optimizer = torch.optim.{_NAMED[optimizer]}(model.parameters(){extra}, {option})"]
