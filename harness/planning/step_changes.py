"""What a plan may change of a training step, and what each change costs in time.

The cost model is simple and stated: a forward pass takes a third of a step and a backward pass two
thirds. Checkpointing repeats the forward pass of the blocks that it wraps. Each further micro-batch
adds 2% for its kernel launches and its smaller kernels. Tensor cores make a step under bfloat16
autocast take 0.6 of its time. A fused optimizer takes nothing more; one without foreach launches a
kernel for each parameter, which adds 5%. Where the allocator has to free cached segments and
allocate them again, each step takes 10% more. So the numbers rank changes; they do not predict
seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn
from torch.utils.checkpoint import checkpoint

from harness.training.module_step import LEARNING_RATE, OptimizerMaker, make_optimizer

FORWARD_SHARE = 1 / 3
MICRO_BATCH_COST = 0.02
BFLOAT16_TIME = 0.6
WITHOUT_FOREACH_COST = 0.05
RETRY_COST = 0.1

Checkpointing = Literal["none", "every second block", "every block"]
OptimizerVariant = Literal["as asked", "fused", "without foreach", "sgd"]

_ADAMS = {"adam": "Adam", "adamw": "AdamW"}
_NAMED = {**_ADAMS, "sgd": "SGD", "momentum": "SGD"}
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, kw_only=True)
class StepChange:
    """Changes to a step that may be made together; ``None`` or the first choice changes nothing."""

    checkpointing: Checkpointing = "none"
    autocast: Literal["bfloat16"] | None = None
    optimizer: OptimizerVariant = "as asked"

    @property
    def trains_otherwise(self) -> bool:
        """Whether another optimizer is used, which needs other settings to train as well."""
        return self.optimizer == "sgd"

    def relative_time(self, micro_batches: int) -> float:
        """Return the estimated time of a step, where the step as asked takes 1.

        >>> round(StepChange(checkpointing="every block").relative_time(4), 2)
        1.39
        """
        repeated = {"none": 0.0, "every second block": 0.5, "every block": 1.0}
        arithmetic = BFLOAT16_TIME if self.autocast else 1.0
        time = arithmetic * (1 + FORWARD_SHARE * repeated[self.checkpointing])
        time += WITHOUT_FOREACH_COST * (self.optimizer == "without foreach")
        return time + MICRO_BATCH_COST * (micro_batches - 1)

    def described(self) -> tuple[str, ...]:
        """Return the changes in words."""
        optimizers = {
            "as asked": "",
            "fused": "fused optimizer",
            "without foreach": "optimizer without foreach",
            "sgd": "SGD, which trains otherwise",
        }
        parts = (
            f"checkpoint {self.checkpointing}" if self.checkpointing != "none" else "",
            f"autocast {self.autocast}" if self.autocast else "",
            optimizers[self.optimizer],
        )
        return tuple(part for part in parts if part)


def possible_changes(
    optimizer: object, *, autocast: object, capability: tuple[int, int], has_blocks: bool
) -> tuple[StepChange, ...]:
    """Return the combinations that make sense for the step, the unchanged one first."""
    kinds: list[Checkpointing] = ["none", *_BLOCKWISE] if has_blocks else ["none"]
    casts: list[Literal["bfloat16"] | None] = [None]
    if autocast is None and capability >= (8, 0):
        casts.append("bfloat16")
    found = [StepChange(checkpointing=kind, autocast=cast) for cast in casts for kind in kinds]
    strongest = found[-1]
    for variant in _variants(optimizer):
        found.append(StepChange(optimizer=variant))
        if variant != "without foreach":
            found.append(
                StepChange(
                    checkpointing=strongest.checkpointing,
                    autocast=strongest.autocast,
                    optimizer=variant,
                )
            )
    return tuple(dict.fromkeys(found))


_BLOCKWISE: tuple[Checkpointing, ...] = ("every second block", "every block")


def _variants(optimizer: object) -> list[OptimizerVariant]:
    if callable(optimizer):
        return ["without foreach"]
    if optimizer not in _NAMED:
        return []
    variants: list[OptimizerVariant] = ["fused", "without foreach"]
    return [*variants, "sgd"] if optimizer != "sgd" else variants


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

    >>> block = lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> blocks_of(nn.Sequential(block(), block(), nn.Linear(2, 1)))
    ['0', '1']
    """
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name == block or name.startswith(f"{block}.") for block in found)
        if inside or not isinstance(module, _CONTAINERS):
            continue
        children = [(key, child) for key, child in module.named_children() if any(child.children())]
        kinds = [type(child) for _, child in children]
        prefix = f"{name}." if name else ""
        found += [f"{prefix}{key}" for key, child in children if kinds.count(type(child)) > 1]
    return found


def wrapped_blocks(names: Sequence[str], checkpointing: Checkpointing) -> Sequence[str]:
    """Return which of the blocks ``checkpointing`` wraps."""
    every: dict[Checkpointing, Sequence[str]] = {
        "none": (),
        "every second block": names[::2],
        "every block": names,
    }
    return every[checkpointing]


def checkpointing_of(change: StepChange) -> Callable[[nn.Module], None]:
    """Return a function that makes a network checkpoint its blocks."""

    def prepare(model: nn.Module) -> None:
        for name in wrapped_blocks(blocks_of(model), change.checkpointing):
            block: Any = model.get_submodule(name)
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    return prepare


def code_of(
    change: StepChange, *, optimizer: object, micro_batches: int, blocks: Sequence[str]
) -> str:
    """Return the lines of Python that make the changes in a training loop."""
    lines: list[str] = []
    wrapped = wrapped_blocks(blocks, change.checkpointing)
    if wrapped:
        lines += [
            "from functools import partial",
            "from torch.utils.checkpoint import checkpoint",
            f"for name in {list(wrapped)}:",
            "    block = model.get_submodule(name)",
            "    block.forward = partial(checkpoint, block.forward, use_reentrant=False)",
        ]
    lines += _optimizer_code(change.optimizer, optimizer)
    loss = "loss = loss_function(model(x), y)"
    body = [loss]
    if change.autocast:
        body = [f'with torch.autocast("cuda", torch.{change.autocast}):', f"    {loss}"]
    if micro_batches > 1:
        chunks = f"batch_x.chunk({micro_batches}), batch_y.chunk({micro_batches})"
        lines += [f"for x, y in zip({chunks}):  # on the CPU", "    x, y = x.cuda(), y.cuda()"]
        lines += [f"    {line}" for line in [*body, f"(loss / {micro_batches}).backward()"]]
    elif change.autocast:
        lines += [*body, "loss.backward()"]
    return "\n".join(lines)


def _optimizer_code(variant: OptimizerVariant, optimizer: object) -> list[str]:
    if variant == "as asked":
        return []
    if variant == "sgd":
        return [f"optimizer = torch.optim.SGD(model.parameters(), lr={LEARNING_RATE})"]
    option = "fused=True" if variant == "fused" else "foreach=False"
    if not isinstance(optimizer, str):
        return [f"# make your optimizer with {option}"]
    extra = f", lr={LEARNING_RATE}, momentum=0.9" if optimizer == "momentum" else ""
    return [f"optimizer = torch.optim.{_NAMED[optimizer]}(model.parameters(){extra}, {option})"]
