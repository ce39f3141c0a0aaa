"""Settings of PyTorch's CUDA allocator that an answer on a pretended GPU does not follow.

The allocator itself runs, so it obeys its settings; some make it count nothing, or less than the
answer is about. They are refused by name.
"""

import re
from collections.abc import Mapping

from harness.schema.errors import HarnessError

_UNCACHED = ("PYTORCH_NO_CUDA_MEMORY_CACHING", "PYTORCH_NO_HIP_MEMORY_CACHING")
_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


class AllocatorSettingsError(HarnessError, ValueError):
    """A setting of the allocator without an answer; the message names it."""


def refuse_unfollowed(
    environment: Mapping[str, str], given: str = "", *, memory_ends: bool = False
) -> None:
    """Refuse settings that no answer follows, in the environment or as ``--alloc-conf``.

    Args:
        environment: the environment of the process that uses the GPU.
        given: settings that the question names.
        memory_ends: whether the process has a GPU of the size that the answer is about; a
            worker's GPU has more, so a part of its memory means nothing.
    """
    for name in _UNCACHED:
        if name in environment:
            why = "PyTorch then counts no memory; unset it"
            raise AllocatorSettingsError(f"{name} in the environment has no answer: {why}")
    settings = {name: environment.get(name, "") for name in _VARIABLES} | {"--alloc-conf": given}
    for source, text in settings.items():
        for name, value in re.findall(r"(\w+)\s*:\s*([\w.]+)", text):
            if name == "backend" and value != "native":
                raise AllocatorSettingsError(
                    f"{source}: backend:{value} has no answer: it keeps no peaks; leave it out"
                )
            if name == "per_process_memory_fraction" and not memory_ends:
                raise AllocatorSettingsError(
                    f"{source}: {name} has no answer here: give the part as --memory, or run your"
                    " script under harness dry-run"
                )
