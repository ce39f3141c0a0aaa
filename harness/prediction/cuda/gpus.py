"""Cards: what of each decides how much memory a step takes and what is there."""

from dataclasses import dataclass

from harness.errors import HarnessError


class GpuError(HarnessError, ValueError):
    """No such card, or one that cannot be told from what was said of it."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of card.

    Attributes:
        name: as ``--gpu`` takes it.
        capability: compute capability, major and minor.
        multiprocessors: their number; decides the scratch of reductions.
        threads_per_multiprocessor: the most that can be resident on one.
        total_bytes: ``torch.cuda.get_device_properties(0).total_memory``.

    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    total_bytes: int
