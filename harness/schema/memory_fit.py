"""Verdicts on a memory budget or a GPU, with the largest batch that fits."""

from typing import Literal

from msgspec import Struct

from harness.schema.sizes import Bytes
from harness.schema.units import format_bytes

Fit = Literal["fits", "does not fit", "close call"]
"""A close call fits only in some runs, because the addresses of segments and the size of the CUDA
context vary."""
LowHigh = tuple[Bytes, Bytes]


def fit_of(*, in_every_case: bool, in_some_case: bool) -> Fit:
    """Return the verdict on a step that fits in every case, in some cases or in no case."""
    if in_every_case:
        return "fits"
    return "close call" if in_some_case else "does not fit"


class BudgetFit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of checking a step against a memory budget.

    Attributes:
        budget_bytes: memory budget that the step must fit.
        needed_bytes: peak bytes over the model's construction and all steps.
        fits: True if ``needed_bytes`` is at most ``budget_bytes``.
        largest_batch: the largest batch of the same step that fits; None if it is unknown, or if no
            batch fits.
        is_searched: False if every tried batch fits, so that the largest batch is unknown.
    """

    budget_bytes: Bytes
    needed_bytes: Bytes
    fits: bool
    largest_batch: int | None
    is_searched: bool = True

    def __str__(self) -> str:
        word = "fits" if self.fits else "does not fit"
        size = f"needs {format_bytes(self.needed_bytes)} of {format_bytes(self.budget_bytes)}"
        most = "no batch fits"
        if self.largest_batch is not None:
            most = f"largest batch {self.largest_batch:,}"
        return f"{word}: {size}; {most if self.is_searched else 'no batch is too large'}"


class GpuFit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of checking a step against a GPU; a pair contains the lowest and the highest value.

    Attributes:
        gpu: name of the GPU.
        capability: compute capability of the GPU, such as "8.9".
        total_bytes: total memory of the GPU.
        outside_bytes: memory assumed for the CUDA context and libraries.
        allocator_settings: settings of the allocator, as text in the format of PYTORCH_ALLOC_CONF.
        allocated_peak_bytes: peak of the bytes in allocated blocks.
        reserved_peak_bytes: peak of the bytes that the caching allocator reserves.
        verdict: verdict for the requested batch.
        is_searched: True if a search found the largest batch, or showed that no batch fits.
        largest_batch: the largest batch that fits in every case; None if no batch fits.
        tried: tried batches, each with its peak of reserved bytes.
    """

    gpu: str
    capability: str
    total_bytes: Bytes
    outside_bytes: LowHigh
    allocator_settings: str
    allocated_peak_bytes: LowHigh
    reserved_peak_bytes: LowHigh
    verdict: Fit
    is_searched: bool = False
    largest_batch: int | None = None
    tried: tuple[tuple[int, Bytes], ...] = ()

    def __str__(self) -> str:
        low, high = self.outside_bytes
        outside = f"{low / 2**20:,.0f}–{high / 2**20:,.0f} MiB"
        size = f"reserves {self.reserved_text} of {format_bytes(self.total_bytes)}"
        word = f"{self.verdict} on {self.gpu}"
        if self.needs_retries:
            word = f"tight: {word} only if PyTorch empties its cache in every step, which is slower"
        return f"{word}: {size}, with {outside} for the CUDA context"

    @property
    def reserved_text(self) -> str:
        """The peak of reserved bytes as text, either one size or a range."""
        return "–".join(dict.fromkeys(format_bytes(size) for size in self.reserved_peak_bytes))

    @property
    def headroom_bytes(self) -> int:
        """Total memory minus the highest reserved peak and the highest ``outside_bytes``."""
        return self.total_bytes - self.outside_bytes[1] - self.reserved_peak_bytes[1]

    @property
    def needs_retries(self) -> bool:
        """True if the step fits only because the allocator frees cached segments."""
        return self.verdict == "fits" and self.headroom_bytes < 0

    @property
    def word(self) -> str:
        """The verdict, or ``tight`` if the step fits only because cached segments are freed."""
        return "tight" if self.needs_retries else str(self.verdict)

    @property
    def largest_batch_text(self) -> str:
        """Text that states the largest batch; empty without a search."""
        if not self.is_searched:
            return ""
        safe = self.largest_batch
        return "no batch fits" if safe is None else f"safe up to batch {safe:,}"
