"""Reads the counters that the driver stub keeps for all processes of a dry run."""

from collections.abc import Mapping, Sequence
from ctypes import Structure, c_char, c_uint64

_MAGIC = 0x646E6574657250
_NAMES, _NAME_BYTES, _DEVICES, _PROCESSES = 16, 96, 64, 512
STATUS = "status"
"""Name of the file with the counters."""
NO_ROOM = "an address space"
"""Prefix of the name that ``stub/cuda/state.c`` records if it cannot reserve addresses."""
_ENDED = 1 << 62
"""Number that is added to a process ID if the process now runs another program."""


class _Process(Structure):
    _fields_ = [
        ("pid", c_uint64),
        ("refused_bytes", c_uint64),
        ("program", c_char * 32),
        ("devices", c_uint64 * 2 * _DEVICES),
    ]

    def peaks(self) -> tuple[int, ...]:
        return tuple(peak for _, peak in self.devices)


class StatusPage(Structure):
    """Counters of the driver stub; the stub stores them in a file that outlives the process.

    The fields have the layout of ``struct status`` in ``stub/pretend.h``.
    """

    _fields_ = [
        *((name, c_uint64) for name in ("magic", "pid", "kernels", "reads", "calls", "crowded")),
        *((name, c_uint64) for name in ("hidden", "left_out", "aside", "stopped")),
        ("ranks_failed", c_char * 512),
        ("names", c_char * _NAME_BYTES * _NAMES),
        ("together", c_uint64 * 2 * _DEVICES),
        ("processes", _Process * _PROCESSES),
    ]

    @property
    def loaded(self) -> bool:
        """Return whether any process loaded the stub."""
        return bool(self.magic == _MAGIC)

    @property
    def allocated(self) -> bool:
        """Return whether any process allocated GPU memory."""
        return any(held for held, _ in self.together)

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Return the names of functions that were called but that the stub does not implement."""
        names = self.names[: min(self.calls, _NAMES)]
        return tuple(name.value.decode(errors="replace") for name in names)

    @property
    def peaks(self) -> tuple[int, ...]:
        """Return the peak of each device in the script's own process, in bytes."""
        own = [process.peaks() for process in self.processes if process.pid == self.pid]
        return own[0] if own else (0,) * _DEVICES

    @property
    def others(self) -> Mapping[int, tuple[int, ...]]:
        """Return a mapping from each other process's ID to its peak on each device, in bytes."""
        found: dict[int, tuple[int, ...]] = {}
        for one in self.processes:
            pid = one.pid & ~_ENDED
            if pid not in (0, self.pid) and any(one.peaks()):
                before = found.get(pid, (0,) * _DEVICES)
                found[pid] = tuple(map(max, one.peaks(), before))
        return found

    def program(self, pid: int) -> str:
        """Return a text with the name of a process's program and the process ID."""
        names = [one.program.decode(errors="replace") for one in self.processes if one.pid == pid]
        return f"{names[0] if names else 'program'} (process {pid})"

    @property
    def refused_elsewhere_bytes(self) -> int:
        """Return the largest size that a started process could not allocate, even with a retry."""
        refused: list[int] = [
            one.refused_bytes for one in self.processes if one.pid not in (0, self.pid)
        ]
        return max(refused, default=0)


def not_pretended(called: Sequence[str]) -> str:
    """Return a text that says why the stub could not execute a call."""
    names = ", ".join(called)
    if names.startswith(NO_ROOM):
        return f"the system gave no {names.removeprefix('an ')}"
    hint = " (--world-size N runs one rank of N, with a pretended process group)"
    return f"{names} is not pretended{hint if 'nccl' in names else ''}"
