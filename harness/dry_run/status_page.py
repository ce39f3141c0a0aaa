"""The page that the stub keeps next to the process: what is left when the process dies."""

from ctypes import Structure, c_char, c_uint64, sizeof
from dataclasses import dataclass

_MAGIC = 0x646E6574657250
_NAMES, _NAME_BYTES, _DEVICES, _PROCESSES = 16, 96, 64, 64


class _Process(Structure):
    _fields_ = [
        ("pid", c_uint64),
        ("refused_bytes", c_uint64),
        ("devices", c_uint64 * 2 * _DEVICES),
    ]


class _Page(Structure):
    """``struct status`` of ``stub/pretend.h``."""

    _fields_ = [
        *((name, c_uint64) for name in ("magic", "pid", "kernels", "_", "unsupported", "__")),
        ("crowded", c_uint64),
        ("names", c_char * _NAME_BYTES * _NAMES),
        ("together", c_uint64 * _DEVICES),
        ("processes", _Process * _PROCESSES),
    ]


SIZE_BYTES = sizeof(_Page)


@dataclass(frozen=True, kw_only=True)
class StatusPage:
    """Counters of the driver's level."""

    loaded: bool
    kernels: int
    unsupported: tuple[str, ...]
    """Functions that are not pretended and were called."""
    peaks: tuple[int, ...]
    """Most bytes that the script's own process held of each device, as the driver counts."""
    together: tuple[int, ...]
    """The same of all processes of the script at once."""
    other_processes: int
    refused_elsewhere_bytes: int
    """Largest allocation that another process was refused for good."""

    @property
    def allocated(self) -> bool:
        """Return whether any process allocated memory of the GPU."""
        return any(self.together)

    @classmethod
    def read(cls, data: bytes) -> "StatusPage":
        """Return what the page says."""
        page = _Page.from_buffer_copy(data)
        own = (0,) * _DEVICES
        others, refused = page.crowded, 0
        for process in page.processes:
            peaks = tuple(peak for _, peak in process.devices)
            if process.pid == page.pid:
                own = peaks
            elif process.pid:
                others += any(peaks) or process.refused_bytes > 0
                refused = max(refused, process.refused_bytes)
        names = [name.value for name in page.names[: min(page.unsupported, _NAMES)]]
        return cls(
            loaded=page.magic == _MAGIC,
            kernels=page.kernels,
            unsupported=tuple(name.decode(errors="replace") for name in names),
            peaks=own,
            together=tuple(page.together),
            other_processes=others,
            refused_elsewhere_bytes=refused,
        )
