"""Out-of-memory messages that are not CUDA's: of the CPU's allocator, of MPS, of the kernel."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.schema.units import format_bytes

_BINARY = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, kw_only=True)
class HostMessage:
    """A refusal or kill outside CUDA, its cause, and advice."""

    cause: str
    advice: str
    requested_bytes: int | None = None


def host_message(text: str) -> HostMessage | None:
    """Return what the first such message in ``text`` says; None where there is none."""
    matches = [
        (match.start(), read, match) for form, read in _FORMS if (match := form.search(text))
    ]
    if not matches:
        return None
    _, read, match = min(matches, key=lambda each: each[0])
    return read(match)


def _cpu(match: "re.Match[str]") -> HostMessage:
    requested = _whole(match[1])
    what = (
        "The CPU's memory"
        if requested is None
        else f"{format_bytes(requested)} of the CPU's memory"
    )
    return HostMessage(
        cause="CPU memory",
        requested_bytes=requested,
        advice=(
            f"{what} was refused, not the GPU's: by a limit of the process (ulimit -v) or of its "
            "container, or because there is no more. Look at the shape of that tensor, load less "
            "data at once, or reduce the number of DataLoader workers."
        ),
    )


def _mps(match: "re.Match[str]") -> HostMessage:
    held, others, most, requested = map(_size, match.groups())
    return HostMessage(
        cause="MPS limit" if held + requested <= most else "real need",
        requested_bytes=requested,
        advice=(
            f"PyTorch held {format_bytes(held)} of Metal's memory, other parts of the process "
            f"{format_bytes(others)}, and may take {format_bytes(most)} in all. Reduce the batch "
            "size; PYTORCH_MPS_HIGH_WATERMARK_RATIO raises the limit, at the cost of the system."
        ),
    )


def _kernel(match: "re.Match[str]") -> HostMessage:
    whose = "its memory cgroup's limit" if match["cgroup"] else "the machine's memory"
    held = "" if match["rss"] is None else f", which held {format_bytes(int(match['rss']) << 10)}"
    return HostMessage(
        cause="killed by the kernel",
        advice=(
            f"Linux ended process {match['pid']} ({match['name']}){held}: {whose} was exhausted. "
            "This is the CPU's memory, not the GPU's: load less data at once, use fewer DataLoader "
            "workers, or ask for more memory (docker --memory, Slurm --mem)."
        ),
    )


def _scheduler(match: "re.Match[str]") -> HostMessage:
    del match
    return HostMessage(
        cause="killed by the kernel",
        advice=(
            "The job exceeded the CPU memory that it had asked for, and Linux ended one of its "
            "processes. Load less data at once, use fewer DataLoader workers, or ask for more "
            "memory (Slurm --mem, Kubernetes limits)."
        ),
    )


_METAL_SIZE = r"([\d.]+ ?(?:bytes|[KMGT]i?B))"
_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], HostMessage]], ...] = (
    (
        re.compile(
            r"(?:DefaultCPUAllocator|AlignedAllocator)[^\n]{0,40}?(?:can't allocate|not enough) "
            r"memory(?:: you tried to allocate (\d+) bytes)?"
        ),
        _cpu,
    ),
    (
        re.compile(
            rf"MPS backend out of memory \(MPS allocated: {_METAL_SIZE}, other allocations: "
            rf"{_METAL_SIZE}, max allowed: {_METAL_SIZE}\)\. Tried to allocate {_METAL_SIZE}"
        ),
        _mps,
    ),
    (
        re.compile(
            r"(?P<cgroup>Memory cgroup )?out of memory: Kill(?:ed)? process (?P<pid>\d+) "
            r"\((?P<name>[^)\n]{1,40})\)(?:[^\n]{0,200}?anon-rss:(?P<rss>\d{1,15})kB)?",
            re.IGNORECASE,
        ),
        _kernel,
    ),
    (re.compile(r"oom[-_ ]kill event|\bOOMKilled\b|oom_kill event|OUT_OF_MEMORY\b"), _scheduler),
)


def _whole(text: str | None) -> int | None:
    return None if text is None or len(text) > 18 else int(text)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{0,12}(?:\.\d{0,6})?) ?([kmgt]?)(?:i?b|ytes|bytes)", text.lower())
    if match is None or not match[1].strip("."):
        return 0
    return int(float(match[1]) * (1 << _BINARY[match[2]]))
