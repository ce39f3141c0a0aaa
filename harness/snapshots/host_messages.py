"""Out-of-memory messages that are not CUDA's: of the CPU's allocator, of MPS, of the kernel."""

import re
from typing import NamedTuple

from harness.schema.units import format_bytes

_BINARY = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


class HostMessage(NamedTuple):
    """A refusal or kill outside CUDA, its cause, and advice."""

    cause: str
    advice: str
    requested_bytes: int | None


_METAL_SIZE = r"([\d.]+ ?(?:bytes|[KMGT]i?B))"
_CPU = re.compile(
    r"(?:DefaultCPUAllocator|AlignedAllocator)[^\n]{0,40}?(?:can't allocate|not enough) "
    r"memory(?:: you tried to allocate (\d+) bytes)?"
)
_MPS = re.compile(
    rf"MPS backend out of memory \(MPS allocated: {_METAL_SIZE}, other allocations: "
    rf"{_METAL_SIZE}, max allowed: {_METAL_SIZE}\)\. Tried to allocate {_METAL_SIZE}"
)
_KERNEL = re.compile(
    r"(?P<cgroup>Memory cgroup )?out of memory: Kill(?:ed)? process (?P<pid>\d+) "
    r"\((?P<name>[^)\n]{1,40})\)(?:[^\n]{0,200}?anon-rss:(?P<rss>\d{1,15})kB)?",
    re.IGNORECASE,
)
_SCHEDULER = re.compile(r"oom[-_ ]kill event|\bOOMKilled\b|oom_kill event|OUT_OF_MEMORY\b")


def host_message(text: str) -> HostMessage | None:
    """Return what the first such message in ``text`` says; None where there is none."""
    matches = [match for form in (_CPU, _MPS, _KERNEL, _SCHEDULER) if (match := form.search(text))]
    if not matches:
        return None
    match = min(matches, key=re.Match.start)
    if match.re is _CPU:
        requested = int(match[1]) if match[1] and len(match[1]) <= 18 else None
        size = "The" if requested is None else f"{format_bytes(requested)} of the"
        advice = (
            f"{size} CPU's memory was refused, not the GPU's: by a limit of the process (ulimit "
            "-v) or of its container, or because there is no more. Look at the shape of that "
            "tensor, load less data at once, or reduce the number of DataLoader workers."
        )
        return HostMessage("CPU memory", advice, requested)
    if match.re is _MPS:
        held, others, most, needed = map(_size, match.groups())
        advice = (
            f"PyTorch held {format_bytes(held)} of Metal's memory, other parts of the process "
            f"{format_bytes(others)}, and may take {format_bytes(most)} in all. Reduce the batch "
            "size; PYTORCH_MPS_HIGH_WATERMARK_RATIO raises the limit, at the cost of the system."
        )
        return HostMessage("MPS limit" if held + needed <= most else "real need", advice, needed)
    killed = (
        "The job exceeded the CPU memory that it had asked for: Linux ended one of its processes"
    )
    if match.re is _KERNEL:
        whose = "its memory cgroup's limit" if match["cgroup"] else "the machine's memory"
        rss = (
            "" if match["rss"] is None else f", which held {format_bytes(int(match['rss']) << 10)}"
        )
        killed = f"Linux ended process {match['pid']} ({match['name']}){rss}: {whose} was exhausted"
    advice = (
        f"{killed}. This is the CPU's memory, not the GPU's: load less data at once, use fewer "
        "DataLoader workers, or ask for more memory (docker --memory, Slurm --mem, Kubernetes "
        "limits)."
    )
    return HostMessage("killed by the kernel", advice, None)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{0,12}(?:\.\d{0,6})?) ?([kmgt]?)(?:i?b|ytes|bytes)", text.lower())
    if match is None or not match[1].strip("."):
        return 0
    return int(float(match[1]) * (1 << _BINARY[match[2]]))
