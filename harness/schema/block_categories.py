"""Categories of the GPU's blocks, in every recording of PyTorch's allocator.

The recording of a dry run also has what parameters, optimizers and modules own. Other recordings
have only the code that requested and freed a block.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

BlockCategory = Literal[
    "before", "parameter", "gradient", "backward", "optimizer_state", "optimizer", "buffer",
    "other", "activation", "forward", "workspace", "unknown",
]  # fmt: skip
"""``activation``: freed by the backward pass. ``forward``: memory ran out before that was seen.
The owner of ``before``, ``backward``, ``optimizer`` and ``unknown`` is not known."""

CATEGORY_WORDS: Mapping[BlockCategory, str] = {
    "before": "before the recording",
    "parameter": "parameters",
    "gradient": "gradients",
    "backward": "backward pass (gradients and temporaries)",
    "optimizer_state": "optimizer state",
    "optimizer": "optimizer state and its temporaries",
    "buffer": "buffers of modules",
    "other": "other (inputs, outputs, temporaries)",
    "activation": "activations (freed by the backward pass)",
    "forward": "forward pass (activations and its temporaries)",
    "workspace": "cuBLAS workspace",
    "unknown": "unknown: recorded without Python stacks",
}
"""Categories in the order in which pictures stack them."""
OWNERS = "harness"
"""Key in a dry run's recording of the known owners of blocks, for each device."""


class Caller(NamedTuple):
    """Who requests or frees a block.

    Attributes:
        is_thread: a thread of autograd, without Python.
        in_backward: Python that a thread of autograd called: a function's backward, compiled code.
    """

    is_thread: bool
    in_backward: bool
    is_collective: bool = False


def category_of(
    requested: Caller, freed: Caller | None, *, is_workspace: bool, in_forward: bool
) -> BlockCategory:
    """Return the category of a block that nothing is known to own.

    Args:
        requested: who requested it.
        freed: who freed it; None if nobody did yet.
        is_workspace: whether it has the size and the lifetime of cuBLAS's workspace.
        in_forward: whether a forward pass requested it, and memory ran out later.
    """
    if is_workspace:
        return "workspace"
    if requested.is_thread:
        return "other"
    if freed is not None and freed.is_thread:
        return "activation"
    if requested.in_backward:
        return "other"
    if freed is not None and freed.in_backward:
        return "activation"
    return "forward" if in_forward else "other"
