"""Memory of the host that processes take, and its text."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from harness.schema.growth import Growth
from harness.schema.memory_fit import Fit
from harness.schema.units import format_bytes, format_range

ONE_POOL = "one pool with the GPU"
"""Source of the limit if the GPU shares the host's memory."""
_MOST_SHOWN = 8
_COPIED = 8 << 20


class HostProcess(Struct, frozen=True, kw_only=True):
    """A process with its peak.

    Attributes:
        peak_bytes: peak without pages of files; each process counts a part of a shared page.
        own_bytes: most bytes of pages that are not shared with other processes.
        first_own_bytes: the same bytes at the first observation.
    """

    name: str
    peak_bytes: int
    own_bytes: int
    first_own_bytes: int


class Host(Struct, frozen=True, kw_only=True):
    """Memory of the host that the processes of a script, or of a step, took.

    Attributes:
        peak_bytes: peak of all processes together, as two numbers. The lower number was resident.
            The higher number adds parameters and pinned memory that were not written, and a part
            of the pages that a worker of ``measure`` shares with its parent.
        processes: the processes with the largest peaks.
        file_bytes: most bytes of mapped files, which the kernel can drop; not in the peak.
        shared_bytes: most bytes of shared memory, which are in the peak.
        shared_limit_bytes: the size of ``/dev/shm``.
        pinned_bytes: most pinned bytes in use, and most bytes of PyTorch's host allocator.
        unwritten_pinned_bytes: most pinned bytes that were not written; the peak's lower number
            leaves them out; None with a real driver.
        left_out_bytes: most bytes of parameters on the host that were not written here.
        harness_bytes: bytes of the harness for the allocator's history; neither number of the peak
            includes them; None if unknown.
        limit_bytes: memory limit of the verdict; None without a limit.
        limit_source: source of the limit.
        fit: verdict on the peak, together with the GPU's memory if both share one pool.
        growth: growth of the script's process over the optimizer steps.
        ranks: number of the node's ranks that ran, and of all the node's ranks; None for a process.
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
        """Return the host of a step, with ``size`` bytes of parameters that were not written."""
        low, high = self.peak_bytes
        return replace(self, left_out_bytes=size, peak_bytes=(low, high + size))

    def lines(self, *, pretended: bool) -> Iterator[str]:
        """Yield lines with the peak and the verdict, with each process, and with each part.

        Args:
            pretended: True if the GPU was pretended.
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
            "in common with the process that forked it, in the higher number": more - left_out,
            "mapped files, in neither number": self.file_bytes,
            "the harness, in neither number": self.harness_bytes or 0,
        }
        yield from (f"    {format_bytes(size):>10}  {what}" for what, size in parts.items() if size)
        if pretended:
            yield "    CUDA's own memory on the host is in neither number: no driver runs here"
