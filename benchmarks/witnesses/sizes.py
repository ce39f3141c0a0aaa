"""The numbers of one run, and its end by an error."""

from collections.abc import Mapping
from typing import Literal

Metric = Literal["nvidia-smi", "reserved", "allocated", "requested", "request", "in order", "batch"]
"""Published number, i.e. the GPU's used memory, a peak of the allocator, a refused request, the
bytes of a recording's allocations before the first difference, or (not in bytes) the largest batch
that ran."""

Sizes = Mapping[Metric, int]
"""Bytes of one run."""


class CrashedRunError(Exception):
    """The published run ended with an error within its first epoch, which takes a second."""
