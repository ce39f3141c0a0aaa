"""Host memory that the processes of a run use, as data and as text."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from harness.schema.growth import Growth
from harness.schema.memory_fit import Fit
from harness.schema.units import format_bytes, format_range

ONE_POOL = "one pool with the GPU"
"""Value of ``limit_source`` if the GPU shares the host's memory."""
_MOST_SHOWN = 8
_COPIED = 8 << 20


class HostProcess(Struct, frozen=True, kw_only=True):
    """Peak host memory of one process.

    Attributes:
        peak_bytes: peak of the proportional set size (PSS) without file pages.
        own_bytes: peak of private dirty pages, i.e. written pages that no other process shares.
        first_own_bytes: bytes of private dirty pages in the first sample.
    """

    name: str
    peak_bytes: int
    own_bytes: int
    first_own_bytes: int


class Host(Struct, frozen=True, kw_only=True):
    """Host memory that the processes of a script or of a step used.

    Attributes:
        peak_bytes: peak memory of all processes together, as a lower and a higher number. The lower
            number is resident memory. The higher number also contains parameters and pinned memory
            that were never written to. In ``measure``, the higher number also contains a part of
            the pages that a worker shares with its parent.
        processes: the processes with the largest peaks.
        file_bytes: peak of mapped files, which the kernel can drop; not part of ``peak_bytes``.
        shared_bytes: peak of shared memory, which is part of ``peak_bytes``.
        shared_limit_bytes: the size of ``/dev/shm``.
        pinned_bytes: peak of pinned bytes in use, and peak of pinned bytes that PyTorch reserved.
        unwritten_pinned_bytes: peak of pinned bytes that were never written to, which the higher
            number includes; None if a real CUDA driver ran.
        left_out_bytes: peak bytes of host parameters that were never written to.
        harness_bytes: bytes in which the harness stores allocator events, not part of
            ``peak_bytes``; None if unknown.
        limit_bytes: memory limit for the verdict ``fit``; None without a limit.
        limit_source: origin of the limit, such as ``limit of this container``.
        fit: verdict on ``peak_bytes``; GPU memory is added if the GPU shares the host's memory.
        growth: growth of host memory in the script's process over the optimizer steps.
        ranks: number of ranks that ran, and number of all ranks of the node; None without ranks.
    """

    peak_bytes: tuple[int, int]
    processes: tuple[HostProcess, ...]
    file_bytes: int
    shared_bytes: int
    shared_limit_bytes: int
    pinned_bytes: tuple[int, int] | None
    left_out_bytes: int
    harness_bytes: int | None = None
    limit_bytes: int | None = None
    limit_source: str | None = None
    fit: Fit | None = None
    growth: Growth | None = None
    ranks: tuple[int, int] | None = None
    unwritten_pinned_bytes: int | None = None

    def with_left_out(self, size: int) -> "Host":
        """Return a copy that adds ``size`` bytes of unwritten parameters to the higher peak."""
        low, high = self.peak_bytes
        return replace(self, left_out_bytes=size, peak_bytes=(low, high + size))

    def lines(self, *, pretended: bool) -> Iterator[str]:
        """Yield lines of text with the peak, the verdict, the processes and the kinds of memory.

        Args:
            pretended: True if the run used a pretended GPU.
        """
        limit = ""
        if self.limit_bytes is not None:
            limit = f" of {format_bytes(self.limit_bytes)} ({self.limit_source}): {self.fit}"
        yield f"Memory of the host: {format_range(*self.peak_bytes)}{limit}"
        if self.ranks is not None:
            ran, count = self.ranks
            rest = "; each other one is taken to need as much" if ran < count else ""
            yield f"    of the {count} ranks of a node, of which {ran} ran{rest}"
        for one in self.processes[:_MOST_SHOWN]:
            grown = one.own_bytes - one.first_own_bytes
            own = f"{format_bytes(one.own_bytes)} its own"
            if one.name.startswith("worker") and grown > _COPIED:
                own += (
                    f", {format_bytes(grown)} more than at first: a worker copies each page of"
                    " Python objects that it reads, and none of an array"
                )
            yield f"    {format_bytes(one.peak_bytes):>10}  {one.name}, {own}"
        in_use, taken = self.pinned_bytes or (0, 0)
        low, high = self.peak_bytes
        unwritten = taken if self.unwritten_pinned_bytes is None else self.unwritten_pinned_bytes
        more = high - low - unwritten
        left_out = min(self.left_out_bytes, more)
        parts = {
            f"shared memory, of {format_bytes(self.shared_limit_bytes)} in /dev/shm": (
                self.shared_bytes
            ),
            "pinned, in use": in_use,
            "pinned, taken by PyTorch's host allocator": taken,
            "pinned, not written here, in the higher number": self.unwritten_pinned_bytes or 0,
            "parameters that were not written here, in the higher number": left_out,
            "in common with the process that forked it, in the higher number (and in its RSS)": (
                more - left_out
            ),
            "mapped files of libraries, in neither number (but in the RSS)": self.file_bytes,
            "the harness, in neither number": self.harness_bytes or 0,
        }
        yield from (f"    {format_bytes(size):>10}  {what}" for what, size in parts.items() if size)
        if pretended:
            yield "    CUDA's own memory on the host is in neither number: no driver runs here"
