"""The page that the stub keeps next to the process: what is left when the process dies."""

from ctypes import Structure, c_char, c_uint64

_MAGIC = 0x646E6574657250
_NAMES, _NAME_BYTES, _DEVICES, _PROCESSES = 16, 96, 64, 64


class _Process(Structure):
    _fields_ = [
        ("pid", c_uint64),
        ("refused_bytes", c_uint64),
        ("devices", c_uint64 * 2 * _DEVICES),
    ]

    def peaks(self) -> tuple[int, ...]:
        return tuple(peak for _, peak in self.devices)


class StatusPage(Structure):
    """Counters of the driver's level: ``struct status`` of ``stub/pretend.h``."""

    _fields_ = [
        *((name, c_uint64) for name in ("magic", "pid", "kernels", "reads", "calls", "files")),
        ("crowded", c_uint64),
        ("names", c_char * _NAME_BYTES * _NAMES),
        ("together", c_uint64 * _DEVICES),
        ("processes", _Process * _PROCESSES),
    ]

    @property
    def loaded(self) -> bool:
        """Return whether the stub was loaded at all."""
        return bool(self.magic == _MAGIC)

    @property
    def allocated(self) -> bool:
        """Return whether any process allocated memory of the GPU."""
        return any(self.together)

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Return functions that are not pretended and were called."""
        names = self.names[: min(self.calls, _NAMES)]
        return tuple(name.value.decode(errors="replace") for name in names)

    @property
    def peaks(self) -> tuple[int, ...]:
        """Return most bytes that the script's own process held of each device."""
        own = [process.peaks() for process in self.processes if process.pid == self.pid]
        return own[0] if own else (0,) * _DEVICES

    @property
    def other_processes(self) -> int:
        """Return how many processes next to the script's own allocated memory of the GPU."""
        used = [one for one in self._others() if any(one.peaks()) or one.refused_bytes]
        return int(self.crowded) + len(used)

    @property
    def refused_elsewhere_bytes(self) -> int:
        """Return the largest allocation that another process was refused for good."""
        refused: list[int] = [one.refused_bytes for one in self._others()]
        return max(refused, default=0)

    def _others(self) -> list[_Process]:
        return [one for one in self.processes if one.pid not in (0, self.pid)]
