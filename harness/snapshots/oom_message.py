"""Parses PyTorch's out-of-memory message, and derives the parts of the GPU's memory.

The formats are those of ``CUDACachingAllocator.cpp`` in PyTorch 1.0 to 2.15. Before 1.4, "cached"
means the bytes that no tensor uses; later, "reserved" includes those in use. Sizes in a message
have two decimals, so a sum is exact only to about 0.01 of its unit.

"Allocated in private pools" means the free blocks of private pools, and "allocated by PyTorch"
includes these free blocks (observed in a dry run of PyTorch 2.15). If a process "has 17179869184.00
GiB memory in use" (2^64 - 1 bytes), NVML does not know how much memory the process uses.
"""

import re
import tomllib
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.schema.units import format_bytes
from harness.snapshots.file_bytes import SnapshotError

_UNITS = {"b": 0, "byte": 0, "bytes": 0, "kib": 10, "mib": 20, "gib": 30, "tib": 40, "pib": 50}
BEGIN = re.compile(
    r"(CUDA|HIP|XPU|NPU) out of memory\.\s+Tried to allocate |"
    r"Allocation on device (?P<device>\d{1,4}) would exceed allowed memory",
    re.IGNORECASE,
)
"""Pattern for the first words of an out-of-memory message."""


def _form(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which ``SIZE(name)`` matches a size as the group ``name``."""
    size = r"(?P<\1>\\d[\\d,]*(?:\\.\\d+)?\\s*(?:[KMGTP]iB|bytes?|B))"
    return re.compile(re.sub(r"SIZE\((\w+)\)", size, pattern))


_REQUESTED = _form("SIZE(requested)")
_OLD = _form(
    r"\((?:GPU|XPU|NPU) (?P<gpu>\d+);\s*SIZE(total) total capacity;\s*SIZE(allocated) already "
    r"allocated;\s*(?:[^;)]{1,40} current active;\s*)?SIZE(free) free[^)]*?;\s*SIZE(reserved) "
    r"(?P<meaning>reserved in total by PyTorch|cached)"
)
_NEW = _form(
    r"(?:GPU|XPU) (?P<gpu>\d+) has a total capac?i?ty of SIZE(total)"
    r"(?: of which SIZE(free) is free)?.*?"
    r"Of the allocated memory SIZE(allocated) is allocated by PyTorch.*?"
    r"SIZE(unallocated) is reserved by PyTorch but unallocated"
)
_ASYNC = _form(
    r"Currently allocated\s*: SIZE(allocated).*?Requested\s*: SIZE(requested).*?"
    r"Device limit\s*: SIZE(total).*?Free \(according to CUDA\)\s*: SIZE(free)"
    r"(?:.*?PyTorch limit[^:]{0,60}: SIZE(allowed))?"
)
"""Message of the backend cudaMallocAsync, which states no reserved bytes."""
_OPTIONAL = (
    _form(r"with SIZE(private) allocated in private pools"),
    _form(r"this process has SIZE(process) memory in use"),
    _form(r"SIZE(allowed) allowed"),
)
_SETTING = re.compile(r"PYTORCH_(?:\w{1,8}_)?ALLOC_CONF")
_SETTINGS = {"CUDA": "PYTORCH_CUDA_ALLOC_CONF", "HIP": "PYTORCH_HIP_ALLOC_CONF"}
_PROCESS = _form(r"Process (?P<pid>\d+) has SIZE(held) memory in use")
NO_MESSAGE = (
    "no out-of-memory message in the text (of PyTorch, of the kernel that killed a process, or of "
    "another program that is known), and it is no memory snapshot; give the log up to its end"
)
_NOT_AVAILABLE_BYTES = 1 << 60
_LARGEST_BYTES = 1 << 66
_MOST_OUTSIDE_BYTES = 2 << 30
"""More than the CUDA context and the libraries of one process take outside PyTorch's allocator."""
_CONTEXT_BYTES = 768 << 20
"""Largest size that is assumed for the CUDA context of one process."""
_ROUNDED_TO = 0.02
"""Tolerance for the rounding of a dozen sizes, as a share of the GPU's total memory."""


def is_full(requested: int, left: int, usable: int) -> bool:
    """Return whether so little is left that a GPU is full, even if pieces add up to a request.

    Of a full GPU, less than 2% is left, or less than 5% and less than four times the request. No
    setting of the allocator gains more than this rest.

    Args:
        requested: bytes of the request that failed.
        left: bytes that were free, or reserved and unused.
        usable: bytes that PyTorch had reserved, and bytes that were free.
    """
    return left < usable // 50 or (left < usable // 20 and left < 4 * requested)


@dataclass(frozen=True, kw_only=True)
class OutOfMemoryMessage:
    """Numbers in an out-of-memory message of PyTorch.

    Attributes:
        requested_bytes: bytes that the allocator requested from the driver.
        total_bytes, free_bytes: the GPU's memory, and the part of it that was free.
        allocated_bytes: bytes in use by tensors.
        reserved_bytes: bytes that PyTorch had allocated from the driver.
        private_bytes: free bytes in private pools (CUDA graphs, MemPool).
        process_bytes: all memory of this process, including the CUDA context; None if unknown.
        others: process id and memory of each other process.
        elsewhere: process id and memory of processes on another MIG instance of the GPU.
        allowed_bytes: the limit of ``set_per_process_memory_fraction``; None without a limit.
        backend: CUDA, HIP, XPU or NPU.
        setting: environment variable for the allocator's settings, from the message or a default.
        states_free: True if the message states the free bytes; messages of XPU do not.
        is_early: True for PyTorch before 2.1, which has no expandable segments.
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
    backend: str = "CUDA"
    setting: str = "PYTORCH_CUDA_ALLOC_CONF"
    states_free: bool = True
    is_early: bool = False

    def unallocated_bytes(self) -> int:
        """Return the reserved bytes outside private pools that no tensor uses."""
        return max(0, self.reserved_bytes - self.allocated_bytes - self.private_bytes)

    def others_bytes(self) -> int:
        """Return the bytes of all other processes that the message names."""
        return sum(size for _, size in self.others)

    def outside_bytes(self) -> int:
        """Return the bytes outside the allocator, e.g. of the CUDA context and of libraries.

        If ``process_bytes`` is unknown, used bytes without a named owner are included, up to what
        one process may have.
        """
        if self.process_bytes is not None and self.process_bytes >= self.reserved_bytes:
            return self.process_bytes - self.reserved_bytes
        rest = self.total_bytes - self.free_bytes - self.reserved_bytes - self.others_bytes()
        return min(max(0, rest), _MOST_OUTSIDE_BYTES) if self.states_free else max(0, rest)

    def unknown_bytes(self) -> int:
        """Return used bytes without a known owner, e.g. of processes that NVML cannot see."""
        held = self.reserved_bytes + self.outside_bytes() + self.others_bytes()
        return max(0, self.total_bytes - self.free_bytes - held)

    def foreign_bytes(self) -> int:
        """Return the bytes of other processes, including bytes without a known owner."""
        return self.others_bytes() + self.unknown_bytes()

    def cause(self) -> str:
        """Return the cause of the failure, such as "fragmentation" or "real need"."""
        requested, free = self.requested_bytes, self.free_bytes
        if self.allocated_bytes > self.total_bytes:
            return "shared memory"
        if requested > self.total_bytes:
            return "too large"
        if self.allowed_bytes is not None and free >= requested:
            return "limit"
        unallocated = self.unallocated_bytes()
        if not self.states_free and unallocated < requested:
            return "free not stated"
        if self.states_free and free >= requested and free > self.total_bytes // 1000:
            return "driver"
        foreign, left = self.foreign_bytes(), free + unallocated
        in_pieces = "full" if is_full(requested, left, self.reserved_bytes + free) else ""
        in_pieces = in_pieces or "fragmentation"
        if left >= requested and in_pieces == "fragmentation" and unallocated > foreign:
            return in_pieces
        if foreign > self.total_bytes // 20 and free + foreign >= requested:
            return "other processes"
        if left >= requested:
            return in_pieces
        pools = self.unallocated_bytes() + self.private_bytes
        return "private pools" if free + pools >= requested else "real need"

    def as_dict(self) -> dict[str, object]:
        """Return the numbers of the message and derived numbers, for JSON."""
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
    """Parse the first out-of-memory message of a GPU allocator in ``text``."""
    begin = BEGIN.search(text)
    if begin is None:
        raise SnapshotError(NO_MESSAGE)
    # Log prefixes and line breaks stand inside a message; 2,000 characters hold any.
    after = " ".join(text[begin.end() : begin.end() + 2000].split())
    another = BEGIN.search(after)
    message = after if another is None else after[: another.start()]
    if begin["device"] is not None:
        return _parse_async(int(begin["device"]), message)
    main = _OLD.search(message) or _NEW.search(message)
    matches = [_REQUESTED.match(message), main, *(form.search(message) for form in _OPTIONAL)]
    if main is None or matches[0] is None:
        raise SnapshotError("the out-of-memory message is cut off or of an unknown format")
    texts = ChainMap(*(match.groupdict() for match in matches if match is not None))
    sizes = {
        name: _bytes(text)
        for name, text in texts.items()
        if name not in ("gpu", "meaning") and text
    }
    backend = begin[1].upper()
    if "free" not in sizes and backend != "XPU":
        raise SnapshotError("the out-of-memory message is cut off: it does not say what was free")
    total, free, allocated = sizes["total"], sizes.get("free", 0), sizes["allocated"]
    unallocated = sizes.get("unallocated", 0) if main.re is _NEW else sizes["reserved"]
    is_total = main.re is _OLD and main["meaning"] != "cached"
    reserved = unallocated if is_total else allocated + unallocated
    named = [(int(match["pid"]), _bytes(match["held"])) for match in _PROCESS.finditer(message)]
    others = [each for each in named if each[1] < _NOT_AVAILABLE_BYTES]
    process = sizes.get("process", 0)
    process = process if process < _NOT_AVAILABLE_BYTES else 0
    elsewhere: list[tuple[int, int]] = []
    used = free + sum(size for _, size in others) + (reserved if process else 0)
    if used > total * (1 + _ROUNDED_TO):
        others, elsewhere = [], others
    elif "process" not in sizes and any(size >= reserved for _, size in others):
        # In a container the process does not know its own number on the host: it is listed.
        own = min((each for each in others if each[1] >= reserved), key=lambda each: each[1])
        others.remove(own)
        process = own[1]
    private = min(sizes.get("private", 0), allocated)
    named_setting = _SETTING.search(message)
    return OutOfMemoryMessage(
        gpu=int(main["gpu"]),
        requested_bytes=sizes["requested"],
        total_bytes=total,
        free_bytes=free,
        allocated_bytes=allocated - private,
        reserved_bytes=reserved,
        private_bytes=private,
        process_bytes=process or None,
        others=tuple(others),
        elsewhere=tuple(elsewhere),
        allowed_bytes=sizes.get("allowed"),
        suggests_expandable="expandable_segments:True" in message,
        backend=backend,
        setting=named_setting[0] if named_setting else _SETTINGS.get(backend, "PYTORCH_ALLOC_CONF"),
        states_free="free" in sizes,
        is_early=main.re is _OLD and backend in _SETTINGS,
    )


def _parse_async(gpu: int, message: str) -> OutOfMemoryMessage:
    found = _ASYNC.search(message)
    if found is None:
        raise SnapshotError("the out-of-memory message is cut off: it has no sizes")
    sizes = {name: _bytes(text) for name, text in found.groupdict().items() if text}
    allowed = sizes.get("allowed", _NOT_AVAILABLE_BYTES)
    return OutOfMemoryMessage(
        gpu=gpu,
        requested_bytes=sizes["requested"],
        total_bytes=sizes["total"],
        free_bytes=sizes["free"],
        allocated_bytes=sizes["allocated"],
        reserved_bytes=sizes["allocated"],
        private_bytes=0,
        process_bytes=None,
        others=(),
        elsewhere=(),
        allowed_bytes=allowed if allowed < sizes["total"] else None,
        suggests_expandable=False,
    )


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(r"([\d,.]+)\s*(\w+)", text).groups()  # type: ignore[union-attr]
    size = float(number.replace(",", "")) * (1 << _UNITS[unit.lower()])
    if size > _LARGEST_BYTES:
        raise SnapshotError("a size in the out-of-memory message is beyond all memory")
    return int(size)


_ADVICE: Mapping[str, str] = tomllib.loads(
    Path(__file__).with_name("oom_advice.toml").read_text(encoding="utf-8")
)


def advice(message: OutOfMemoryMessage) -> str:
    """Return one or two sentences of advice for the cause of the failure."""
    usable = message.free_bytes + message.unallocated_bytes()
    sizes = {
        "requested": message.requested_bytes,
        "free": message.free_bytes,
        "allowed": message.allowed_bytes or 0,
        "foreign": message.foreign_bytes(),
        "others": message.others_bytes(),
        "outside": message.outside_bytes(),
        "unallocated": message.unallocated_bytes(),
        "usable": usable,
        "private": message.private_bytes,
        "rest": max(0, message.total_bytes - message.reserved_bytes),
        "missing": max(0, message.requested_bytes - usable),
    }
    texts = {name: format_bytes(size) for name, size in sizes.items()}
    setting = _ADVICE["early" if message.is_early else "setting"].format(setting=message.setting)
    cause = message.cause()
    is_guess = cause == "other processes" and not message.others
    words = [_ADVICE["unknown owners" if is_guess else cause]]
    if cause in ("fragmentation", "full", "real need"):
        missing = message.requested_bytes - message.free_bytes
        if message.others_bytes() >= missing:
            words.append(_ADVICE["others would do"])
        elif message.process_bytes is None and message.backend == "CUDA":
            words += [_ADVICE["outside"]] * (message.outside_bytes() >= _CONTEXT_BYTES + missing)
    return " ".join(words).format_map(texts | {"setting": setting})
