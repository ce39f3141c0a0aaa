"""PyTorch's out-of-memory message, parsed, and what it says about the GPU's memory.

Formats: ``CUDACachingAllocator.cpp`` of PyTorch 1.0 to 2.15. Sizes in a message have two
decimals, so sums are exact to about 0.01 of their unit only.

Two numbers are not what they are called. "Allocated in private pools" are the free blocks of those
pools, and "allocated by PyTorch" contains them (seen under the dry run of 2.15). A process that
"has 17179869184.00 GiB memory in use" is one that NVML knows nothing about (2^64 - 1 bytes).
"""

import re
from dataclasses import asdict, dataclass
from typing import Literal

from harness.schema.units import format_bytes
from harness.snapshots.file_bytes import SnapshotError

_SIZE = r"(\d[\d,]*(?:\.\d+)?\s*(?:[KMGTP]iB|bytes?|B))"
_UNITS = {"b": 0, "byte": 0, "bytes": 0, "kib": 10, "mib": 20, "gib": 30, "tib": 40, "pib": 50}
BEGIN = re.compile(r"(?:CUDA|HIP|XPU|NPU) out of memory\.\s+Tried to allocate ", re.IGNORECASE)
"""The first words of a message."""
_ASKED = re.compile(_SIZE)
_OLD = re.compile(
    rf"\((?:GPU|XPU|NPU) (\d+);\s*{_SIZE} total capacity;\s*{_SIZE} already allocated;\s*"
    rf"{_SIZE} (?:free|current active)[^)]*?;\s*(?:.*?free;\s*)?{_SIZE} "
    r"(?:reserved in total by PyTorch|cached)"
)
_NEW = re.compile(rf"(?:GPU|XPU) (\d+) has a total capac?i?ty of {_SIZE} of which {_SIZE} is free")
_ALLOCATED = re.compile(rf"Of the allocated memory {_SIZE} is allocated by PyTorch")
_PRIVATE = re.compile(rf"with {_SIZE} allocated in private pools")
_UNALLOCATED = re.compile(rf"{_SIZE} is reserved by PyTorch but unallocated")
_THIS = re.compile(rf"this process has {_SIZE} memory in use")
_PROCESS = re.compile(rf"Process (\d+) has {_SIZE} memory in use")
_ALLOWED = re.compile(rf"{_SIZE} allowed")
_MIG = re.compile(r"NVML_SUCCESS == \w+ INTERNAL ASSERT FAILED.{0,300}?CUDACachingAllocator", re.S)
_BARE = re.compile(
    r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"
)

_NOT_AVAILABLE_BYTES = 1 << 60
_LARGEST_BYTES = 1 << 66
_ROUNDED_TO = 0.02
"""Of the total: what the roundings of a dozen sizes cannot add up to."""

Cause = Literal[
    "driver",
    "fragmentation",
    "limit",
    "other processes",
    "private pools",
    "real need",
    "shared memory",
    "too large",
]


@dataclass(frozen=True, kw_only=True)
class OutOfMemoryMessage:
    """The numbers of a message; None for those that its PyTorch version does not write.

    Attributes:
        requested_bytes: what the allocator tried to get from the driver.
        total_bytes, free_bytes: the GPU's memory, and what the driver had left of it.
        allocated_bytes: in use by tensors.
        reserved_bytes: allocated from the driver by PyTorch.
        private_bytes: free in private pools (CUDA graphs, MemPool), where nobody else can use it.
        process_bytes: everything this process holds, the CUDA context included.
        others: other processes' memory by process id.
        elsewhere: processes on other MIG instances of the GPU: NVML lists them, but they hold
            more than this instance has.
        allowed_bytes: the limit of ``set_per_process_memory_fraction``.
    """

    gpu: int
    requested_bytes: int
    total_bytes: int
    free_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    private_bytes: int
    process_bytes: int | None
    others: tuple[tuple[int, int], ...]
    elsewhere: tuple[tuple[int, int], ...]
    allowed_bytes: int | None
    suggests_expandable: bool

    def unallocated_bytes(self) -> int:
        """Return what PyTorch reserved and no tensor used, private pools left out."""
        return max(0, self.reserved_bytes - self.allocated_bytes - self.private_bytes)

    def others_bytes(self) -> int:
        """Return what other processes held, as far as the message says."""
        return sum(size for _, size in self.others)

    def outside_bytes(self) -> int:
        """Return what is held on the GPU by nobody that was named: context and libraries.

        With ``process_bytes`` it is this process's own; else all that the total leaves over.
        """
        if self.process_bytes is not None and self.process_bytes >= self.reserved_bytes:
            return self.process_bytes - self.reserved_bytes
        rest = self.total_bytes - self.free_bytes - self.reserved_bytes - self.others_bytes()
        return max(0, rest)

    def unknown_bytes(self) -> int:
        """Return what the message attributes to nobody, such as processes that it cannot see."""
        held = self.reserved_bytes + self.outside_bytes() + self.others_bytes()
        return max(0, self.total_bytes - self.free_bytes - held)

    def cause(self) -> Cause:
        """Return the one part without which the request would have fitted; real need if none is."""
        requested, free = self.requested_bytes, self.free_bytes
        if self.allocated_bytes > self.total_bytes:
            return "shared memory"
        if requested > self.total_bytes:
            return "too large"
        if self.allowed_bytes is not None and free >= requested:
            return "limit"
        if free >= requested:
            return "driver"
        foreign = self.others_bytes() + self.unknown_bytes()
        if free + self.unallocated_bytes() >= requested and self.unallocated_bytes() > foreign:
            return "fragmentation"
        if foreign > self.total_bytes // 20 and free + foreign >= requested:
            return "other processes"
        if free + self.unallocated_bytes() >= requested:
            return "fragmentation"
        pools = self.unallocated_bytes() + self.private_bytes
        return "private pools" if free + pools >= requested else "real need"

    def as_dict(self) -> dict[str, object]:
        """Return the numbers and what follows from them, for JSON."""
        return {
            **asdict(self),
            "others": [{"process": pid, "bytes": size} for pid, size in self.others],
            "elsewhere": [{"process": pid, "bytes": size} for pid, size in self.elsewhere],
            "unallocated_bytes": self.unallocated_bytes(),
            "outside_bytes": self.outside_bytes(),
            "unknown_bytes": self.unknown_bytes(),
            "cause": self.cause(),
            "advice": advice(self),
        }


def parse_message(text: str) -> OutOfMemoryMessage:
    """Return the first out-of-memory message of CUDA's allocator in ``text``."""
    begin = BEGIN.search(text)
    if begin is None:
        raise SnapshotError(why_none(text))
    # Log prefixes and line breaks stand inside a message; 2,000 characters hold any.
    message = " ".join(text[begin.end() : begin.end() + 2000].split())
    after = BEGIN.search(message)
    message = message[: after.start()] if after else message
    size, old, new = _ASKED.match(message), _OLD.search(message), _NEW.search(message)
    if size is None or (old is None and new is None):
        raise SnapshotError("the out-of-memory message is cut off or of an unknown format")
    requested = _bytes(size[1])
    if old is not None:
        gpu, total, allocated, free, reserved = int(old[1]), *map(_bytes, old.groups()[1:])
        return _message(message, gpu, requested, total, free, allocated, reserved)
    assert new is not None
    allocated_text, unallocated = _ALLOCATED.search(message), _UNALLOCATED.search(message)
    if allocated_text is None or unallocated is None:
        raise SnapshotError("the out-of-memory message is cut off after the GPU's capacity")
    allocated = _bytes(allocated_text[1])
    reserved = allocated + _bytes(unallocated[1])
    return _message(
        message, int(new[1]), requested, _bytes(new[2]), _bytes(new[3]), allocated, reserved
    )


def _message(
    text: str, gpu: int, requested: int, total: int, free: int, allocated: int, reserved: int
) -> OutOfMemoryMessage:
    this, private, allowed = (form.search(text) for form in (_THIS, _PRIVATE, _ALLOWED))
    named = [(int(pid), _bytes(size)) for pid, size in _PROCESS.findall(text)]
    processes = [each for each in named if each[1] < _NOT_AVAILABLE_BYTES]
    process = None if this is None else _bytes(this[1])
    if process is not None and process >= _NOT_AVAILABLE_BYTES:
        process = None
    elsewhere: list[tuple[int, int]] = []
    held = free + sum(size for _, size in processes)
    if held + (reserved if process is not None else 0) > total * (1 + _ROUNDED_TO):
        processes, elsewhere = [], processes
    elif this is None and any(size >= reserved for _, size in processes):
        # In a container the process does not know its own number on the host: it is listed.
        own = min((each for each in processes if each[1] >= reserved), key=lambda each: each[1])
        processes.remove(own)
        process = own[1]
    free_in_pools = 0 if private is None else min(_bytes(private[1]), allocated)
    return OutOfMemoryMessage(
        gpu=gpu,
        requested_bytes=requested,
        total_bytes=total,
        free_bytes=free,
        allocated_bytes=allocated - free_in_pools,
        reserved_bytes=reserved,
        private_bytes=free_in_pools,
        process_bytes=process or None,
        others=tuple(processes),
        elsewhere=tuple(elsewhere),
        allowed_bytes=None if allowed is None else _bytes(allowed[1]),
        suggests_expandable="expandable_segments:True" in text,
    )


def why_none(text: str) -> str:
    """Return why ``text`` has no message that can be explained, in one line."""
    if _MIG.search(text):
        return (
            "an out-of-memory error whose message failed: PyTorch could not ask NVML about the GPU "
            "(a MIG instance, a container or a Jetson), so the text has no numbers; record a "
            "snapshot to see what PyTorch held"
        )
    if _BARE.search(text):
        return (
            "an out-of-memory error of CUDA itself, without numbers: another library or the CUDA "
            "context ran out; record a snapshot to see what PyTorch held"
        )
    return (
        "no out-of-memory message in the text (of PyTorch's allocators, or of the kernel that "
        "killed a process), and it is no memory snapshot"
    )


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(r"([\d,.]+)\s*(\w+)", text).groups()  # type: ignore[union-attr]
    size = float(number.replace(",", "")) * (1 << _UNITS[unit.lower()])
    if size > _LARGEST_BYTES:
        raise SnapshotError("a size in the out-of-memory message is beyond all memory")
    return int(size)


def advice(message: OutOfMemoryMessage) -> str:
    """Return what to do, in a sentence or two."""
    size = format_bytes
    cause = message.cause()
    if cause == "shared memory":
        return (
            "More is allocated than the GPU has: the Windows driver spilled into system memory. "
            "Reduce the batch size; spilled memory is slow in any case."
        )
    if cause == "too large":
        return (
            f"One tensor of {size(message.requested_bytes)} is larger than the whole GPU; look for "
            "a wrong shape (a broadcast, or one-hot labels) or split the computation."
        )
    if cause == "driver":
        return (
            f"The driver reported {size(message.free_bytes)} free and still refused: its own "
            "limit per process (Windows), other requests at that moment, or memory in pieces. "
            "Look at what else uses the GPU, and try again with a smaller batch."
        )
    if cause == "limit":
        return (
            f"The GPU had room; the process's own limit of {size(message.allowed_bytes or 0)} "
            "refused. Raise set_per_process_memory_fraction."
        )
    if cause == "other processes":
        return (
            f"Other processes hold {size(message.others_bytes() + message.unknown_bytes())}; "
            "without them the request fits. Look at nvidia-smi for leftovers of earlier runs."
        )
    if cause == "fragmentation":
        return (
            f"{size(message.unallocated_bytes())} reserved and unused + {size(message.free_bytes)} "
            f"free = {size(message.unallocated_bytes() + message.free_bytes)}, enough for "
            f"{size(message.requested_bytes)} but not in one piece: fragmentation. Try "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True; a snapshot shows whether it fits."
        )
    if cause == "private pools":
        return (
            f"{size(message.private_bytes)} are free, but in private pools (CUDA graphs, MemPool), "
            "where no other request may use them. Share one pool among the graphs, capture fewer "
            "graphs, or drop the pools that are not needed any more."
        )
    short = message.requested_bytes - message.free_bytes - message.unallocated_bytes()
    return (
        f"Real need: even without fragmentation {size(max(0, short))} are missing. Reduce the "
        "batch size, use checkpointing or lower precision, or use a larger GPU."
    )
