"""Memory categories of GPU blocks, e.g. parameters or activations.

A dry run records which blocks belong to parameters, optimizers and modules. Without a dry run, a
recording of PyTorch's allocator shows only which code requested and freed a block.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

BlockCategory = Literal[
    "before", "parameter", "gradient", "backward", "optimizer_state", "optimizer", "buffer",
    "other", "activation", "forward", "workspace", "unknown",
]  # fmt: skip
"""An ``activation`` is a block that the backward pass frees. A ``forward`` block was requested in
the forward pass, and may be freed by the backward pass. A ``backward`` or ``optimizer`` block was
requested in that part of the step, and has no known owner."""

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
"""Text for each category, in the order in which figures stack the categories."""
OWNERS = "harness"
"""Key under which a dry run's recording stores the owner of each block."""


class Caller(NamedTuple):
    """The code that requests or frees a block.

    Attributes:
        is_thread: True if the code is C++ code of an autograd thread, without a Python frame.
        in_backward: True if an autograd thread called the code, e.g. a custom ``backward``.
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
        freed: code that freed the block; None if the block was never freed.
        is_workspace: True if the block has the size and the lifetime of a cuBLAS workspace.
        in_forward: True if a forward pass requested the block and the GPU later ran out of memory.
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
