"""Converts a workload to a ``Step``, so that a plan can change the step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.schema.argument_checks import ArgumentError
from harness.schema.step import Step
from harness.schema.workload import Workload

if TYPE_CHECKING:
    from torch import nn

NETWORK = f"{__name__}:network"
_OF_NETWORK = ("model", "in_features", "classes", "activation", "norm", "dropout", "checkpoint")
_OF_STEP = ("optimizer", "mode", "autocast", "accumulate", "classes", "threads")


def step_of(workload: Workload) -> Step:
    """Return a workload as a ``Step``, without the field ``data``, which does not affect memory."""
    if workload.foreach != "auto":
        raise ArgumentError(f"a plan takes a Workload with foreach auto, got {workload.foreach!r}")
    network = {name: getattr(workload, name) for name in _OF_NETWORK}
    return Step(
        NETWORK,
        workload.batch,
        inputs=f"{workload.dtype}:{workload.in_features}",
        arguments={**network, "hidden": workload.widths, "dtype": workload.dtype},
        **{name: getattr(workload, name) for name in _OF_STEP},
    )


def typed_name(target: str, arguments: Mapping[str, Any]) -> str:
    """Return the name of a target for a report, such as ``mlp:3x64`` for an MLP.

    >>> typed_name(NETWORK, {"model": "mlp", "hidden": (64, 64, 64)}), typed_name("a.py:Net", {})
    ('mlp:3x64', 'a.py:Net')
    """
    if target != NETWORK:
        return target
    widths: tuple[int, ...] = arguments["hidden"]
    alike = len(set(widths)) == 1
    sizes = f"{len(widths)}x{widths[0]}" if alike else ",".join(map(str, widths))
    return f"{arguments['model']}:{sizes}"


def network(**fields: Any) -> "nn.Module":
    """Build the network of the workload with the given fields."""
    from harness.training.training_step import build

    return build(Workload(batch=2, **fields), lambda *_: None).model
