"""A workload's step as a step of any network, so that a plan can change it."""

from typing import TYPE_CHECKING, Any

from harness.schema.argument_checks import ArgumentError
from harness.schema.step import Step
from harness.schema.workload import Workload

if TYPE_CHECKING:
    from torch import nn

_OF_NETWORK = ("model", "in_features", "classes", "activation", "norm", "dropout", "checkpoint")
_OF_STEP = ("optimizer", "mode", "autocast", "accumulate", "classes", "threads")


def step_of(workload: Workload) -> Step:
    """Return the step of a workload; its data has no influence on memory."""
    if workload.foreach != "auto":
        raise ArgumentError(f"a plan takes a Workload with foreach auto, got {workload.foreach!r}")
    network = {name: getattr(workload, name) for name in _OF_NETWORK}
    return Step(
        f"{__name__}:network",
        workload.batch,
        inputs=f"{workload.dtype}:{workload.in_features}",
        arguments={**network, "hidden": workload.widths, "dtype": workload.dtype},
        **{name: getattr(workload, name) for name in _OF_STEP},
    )


def network(**fields: Any) -> "nn.Module":
    """Return the network of a workload with these fields."""
    from harness.training.training_step import build

    return build(Workload(batch=2, **fields), lambda *_: None).model
