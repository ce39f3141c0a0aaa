"""Categories of the GPU's blocks in recordings of PyTorch's allocator.

The recording of a dry run also has the blocks that parameters, optimizers and modules own. Other
recordings have only the code that requested and freed a block.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

BlockCategory = Literal[
    "before", "parameter", "gradient", "backward", "optimizer_state", "optimizer", "buffer",
    "other", "activation", "forward", "workspace", "unknown",
]  # fmt: skip
"""The backward pass frees an ``activation``. If memory runs out before the backward pass, the block
is ``forward``. ``before``, ``backward``, ``optimizer`` and ``unknown`` have no known owner."""

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
"""Words for the categories, in the order in which pictures stack them."""
OWNERS = "harness"
"""Key of the known owners of blocks in a dry run's recording, for each device."""


class Caller(NamedTuple):
    """The code that requests or frees a block.

    Attributes:
        is_thread: True for a thread of autograd without Python.
        in_backward: True for Python that a thread of autograd called, e.g. a function's backward.
    """

    is_thread: bool
    in_backward: bool
    is_collective: bool = False


def category_of(
    requested: Caller, freed: Caller | None, *, is_workspace: bool, in_forward: bool
) -> BlockCategory:
    """Return the category of a block without a known owner.

    Args:
        requested: code that requested the block.
        freed: code that freed the block; None if it is alive.
        is_workspace: True if the block has the size and the lifetime of cuBLAS's workspace.
        in_forward: True if a forward pass requested the block, and memory ran out later.
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
