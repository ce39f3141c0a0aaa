"""The page that the stub keeps next to the process: what is left when the process dies."""

import struct
from dataclasses import dataclass
from pathlib import Path

_MAGIC = 0x646E6574657250
_NAMES, _NAME_BYTES, _DEVICES = 16, 96, 64
_HEAD = struct.Struct("<6Q")
SIZE_BYTES = _HEAD.size + _NAMES * _NAME_BYTES + _DEVICES * 16
"""As ``struct status`` of ``stub/pretend.h``."""


@dataclass(frozen=True, kw_only=True)
class StatusPage:
    """Counters of the driver's level.

    Attributes:
        allocated: whether any memory of the GPU was allocated.
        other_processes: processes next to the first that allocated memory of the GPU.
        kernels: launches.
        unsupported: functions that are not pretended and were called.
        peaks: most bytes that each device's memory held, as the driver counts.

    """

    allocated: bool
    other_processes: int
    kernels: int
    unsupported: tuple[str, ...]
    peaks: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> "StatusPage":
        """Return what the page says."""
        data = path.read_bytes()
        magic, _, others, kernels, _, unsupported = _HEAD.unpack_from(data)
        names = []
        for index in range(min(unsupported, _NAMES)):
            begin = _HEAD.size + index * _NAME_BYTES
            names.append(data[begin : begin + _NAME_BYTES].rstrip(b"\0").decode(errors="replace"))
        devices = struct.iter_unpack("<2Q", data[_HEAD.size + _NAMES * _NAME_BYTES :])
        return cls(
            allocated=magic == _MAGIC,
            other_processes=others,
            kernels=kernels,
            unsupported=tuple(names),
            peaks=tuple(peak for _, peak in devices),
        )
