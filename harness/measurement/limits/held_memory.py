"""How much of a cgroup's budget a process holds, to the page.

The group's own counter runs ahead of it, by up to a batch of 64 pages, and the statistics of the
group behind it. What the process made its own since it joined, and what the kernel holds for the
group, are counted one by one.

Source: Documentation/filesystems/proc.rst (smaps_rollup), cgroup-v2.rst (memory.stat).
"""

from contextlib import suppress
from pathlib import Path

_ROLLUP = Path("/proc/self/smaps_rollup")


class HeldMemory:
    """Of this process, which joins the empty ``group`` next.

    Attributes:
        start_bytes: what the group was charged for when its limit was set.

    """

    def __init__(self, group: Path) -> None:
        self.start_bytes = 0
        self._group = group
        self._private_before = _number(_ROLLUP, "Private_Dirty:")

    def bytes_now(self) -> int | None:
        """Return what counts against the budget now; None where the kernel does not tell."""
        private, kernel = _number(_ROLLUP, "Private_Dirty:"), self._kernel_bytes()
        if private is None or self._private_before is None or kernel is None:
            return None
        return ((private - self._private_before) << 10) + kernel - self.start_bytes

    def _kernel_bytes(self) -> int | None:
        """Return what the kernel holds for the group, such as page tables."""
        if (self._group / "memory.max").exists():
            return _number(self._group / "memory.stat", "kernel")
        with suppress(OSError, ValueError):
            return int((self._group / "memory.kmem.usage_in_bytes").read_text())
        return None


def _number(file: Path, name: str) -> int | None:
    """Return the number after ``name`` in a file of such lines; None where there is none."""
    with suppress(OSError):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[0] == name:
                return int(words[1])
    return None
