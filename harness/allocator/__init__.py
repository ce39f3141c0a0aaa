"""A model of PyTorch's CUDA caching allocator: the same answers, no torch, no GPU.

Fed with the requests and releases of a run it keeps the books that
``torch.cuda.memory_stats`` would show, to the byte and to the segment. The rules are
those of ``c10/cuda/CUDACachingAllocator.cpp``, PyTorch 2.1 to 2.15.

Known limitations: ``MemPool`` with ``no_split`` or ``use_on_oom``, ``throw_on_cudamalloc_oom``
and the ``cudaMallocAsync`` backend are not modelled; when work on another stream is done
is an assumption (see ``CachingAllocator.completion``), because it depends on the GPU.
"""

from harness.allocator.addresses import (
    AddressPolicy,
    Ascending,
    Descending,
    LowestFree,
    Scattered,
    policies_to_try,
)
from harness.allocator.config import AllocatorConfig, AllocatorConfigError
from harness.allocator.device import OutOfMemoryError, SegmentEvent
from harness.allocator.model import CachingAllocator

__all__ = [
    "AddressPolicy",
    "AllocatorConfig",
    "AllocatorConfigError",
    "Ascending",
    "CachingAllocator",
    "Descending",
    "LowestFree",
    "OutOfMemoryError",
    "Scattered",
    "SegmentEvent",
    "policies_to_try",
]
