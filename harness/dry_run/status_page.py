"""The page that the stub keeps next to the process: what is left when the process dies."""

import struct
from dataclasses import dataclass

_MAGIC = 0x646E6574657250
_NAMES, _NAME_BYTES, _DEVICES, _PROCESSES = 16, 96, 64, 64
_HEAD = struct.Struct("<7Q")
_NAMES_AT = _HEAD.size
_TOGETHER_AT = _NAMES_AT + _NAMES * _NAME_BYTES
_PROCESSES_AT = _TOGETHER_AT + _DEVICES * 8
_PROCESS = struct.Struct(f"<{2 + 2 * _DEVICES}Q")
SIZE_BYTES = _PROCESSES_AT + _PROCESSES * _PROCESS.size
"""As ``struct status`` of ``stub/pretend.h``."""


@dataclass(frozen=True, kw_only=True)
class StatusPage:
    """Counters of the driver's level.

    Attributes:
        loaded: whether the stub was loaded at all.
        kernels: launches.
        unsupported: functions that are not pretended and were called.
        peaks: most bytes that the script's own process held of each device, as the driver counts.
        together: the same of all processes of the script at once.
        other_processes: processes next to the script's own that allocated memory of the GPU.
        refused_elsewhere_bytes: largest allocation that another process was refused for good.
    """

    loaded: bool
    kernels: int
    unsupported: tuple[str, ...]
    peaks: tuple[int, ...]
    together: tuple[int, ...]
    other_processes: int
    refused_elsewhere_bytes: int

    @property
    def allocated(self) -> bool:
        """Return whether any process allocated memory of the GPU."""
        return any(self.together)

    @classmethod
    def read(cls, data: bytes) -> "StatusPage":
        """Return what the page says."""
        magic, pid, kernels, _, unsupported, _, crowded = _HEAD.unpack_from(data)
        names = []
        for index in range(min(unsupported, _NAMES)):
            begin = _NAMES_AT + index * _NAME_BYTES
            names.append(data[begin : begin + _NAME_BYTES].rstrip(b"\0").decode(errors="replace"))
        own = (0,) * _DEVICES
        others, refused = crowded, 0
        for owner, refused_bytes, *devices in struct.iter_unpack(
            _PROCESS.format, data[_PROCESSES_AT:SIZE_BYTES]
        ):
            peaks = tuple(devices[1::2])
            if owner == pid:
                own = peaks
            elif owner:
                others += any(peaks) or refused_bytes > 0
                refused = max(refused, refused_bytes)
        return cls(
            loaded=magic == _MAGIC,
            kernels=kernels,
            unsupported=tuple(names),
            peaks=own,
            together=struct.unpack_from(f"<{_DEVICES}Q", data, _TOGETHER_AT),
            other_processes=others,
            refused_elsewhere_bytes=refused,
        )
