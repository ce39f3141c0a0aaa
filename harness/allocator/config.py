"""The allocator's settings: what ``PYTORCH_ALLOC_CONF`` can set, and the size of the GPU.

Source of names, limits and rounding: ``c10/core/AllocatorConfig.h`` and
``CUDACachingAllocator.cpp`` (``round_size``, ``get_allocation_size``) of PyTorch 2.13. What
PyTorch refuses is refused in one line.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from harness.schema.errors import HarnessError, did_you_mean

MIB = 1 << 20
GRANULE_BYTES = 512
SMALL_REQUEST_BYTES = MIB
SMALL_SEGMENT_BYTES = 2 * MIB
OWN_SEGMENT_FROM_BYTES = 10 * MIB
SEGMENT_STEP_BYTES = 2 * MIB
DEFAULT_LARGE_SEGMENT_BYTES = 20 * MIB
UNLIMITED = (1 << 64) - 1

INTERVALS = 16

# Accepted by PyTorch, without effect on which block or segment a request gets.
_WITHOUT_EFFECT = frozenset(
    {
        "graph_capture_record_stream_reuse",
        "pinned_max_round_threshold_mb",
        "pinned_num_register_threads",
        "pinned_reserve_segment_size_mb",
        "pinned_use_background_threads",
        "pinned_use_cuda_host_register",
        "pinned_use_hip_host_register",
        "release_lock_on_cudamalloc",
        "release_lock_on_hipmalloc",
    }
)
_ONE_VALUE = {"backend": "native", "throw_on_cudamalloc_oom": "False"}
_OPTION = re.compile(r"([A-Za-z0-9_]+):(\[[^\]]*\]|[^,\[\]:]+)(?:,|$)")


class AllocatorConfigError(HarnessError, ValueError):
    """A setting that PyTorch's allocator would refuse, or that the model does not know.

    >>> import harness
    >>> step, wrong = harness.Workload(device="cuda"), "expandable_segments:maybe"
    >>> harness.predict(step, gpu="l4", allocator_settings=wrong)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness.allocator.config.AllocatorConfigError: ... must be True or False, got 'maybe'
    """


@dataclass(frozen=True, kw_only=True)
class AllocatorConfig:
    """Everything that decides how the allocator answers, apart from the requests.

    Args:
        expandable_segments: one growing address range per pool and stream.
        max_split_size_bytes: blocks of at least this size are never split.
        max_non_split_rounding_bytes: how much longer an unsplit block may be.
        roundup_power2_divisions: steps per power of two, for requests of 1, 2, 4, ... MiB
            (16 entries, the last for 32 GiB and more); 0 or 1 means off.
        garbage_collection_threshold: share of the limit above which old blocks go back;
            0 means never. It acts only where ``memory_fraction`` is below 1.
        large_segment_size_bytes: segment for requests above 1 MiB and below 10 MiB.
        memory_fraction: share of ``total_bytes`` that the allocator may reserve.
        total_bytes: the GPU's memory as the driver states it; None is a GPU without end.
        outside_bytes: what context, libraries and other processes hold of it.

    Raises:
        AllocatorConfigError: a value that PyTorch would refuse, or a fraction of nothing.
    """

    expandable_segments: bool = False
    max_split_size_bytes: int = UNLIMITED
    max_non_split_rounding_bytes: int = DEFAULT_LARGE_SEGMENT_BYTES
    roundup_power2_divisions: tuple[int, ...] = (0,) * INTERVALS
    garbage_collection_threshold: float = 0.0
    large_segment_size_bytes: int = DEFAULT_LARGE_SEGMENT_BYTES
    memory_fraction: float = 1.0
    total_bytes: int | None = None
    outside_bytes: int = 0

    def __post_init__(self) -> None:
        def check(name: str, holds: bool, rule: str) -> None:
            if not holds:
                raise AllocatorConfigError(f"{name} must be {rule}, got {getattr(self, name)}")

        least, divisions = DEFAULT_LARGE_SEGMENT_BYTES, self.roundup_power2_divisions
        own, share = OWN_SEGMENT_FROM_BYTES, self.garbage_collection_threshold
        rounding = self.max_non_split_rounding_bytes
        powers = len(divisions) == INTERVALS and all(d >= 0 and not d & (d - 1) for d in divisions)
        check("large_segment_size_bytes", self.large_segment_size_bytes > own, f"above {own}")
        check("max_split_size_bytes", self.max_split_size_bytes >= least, f"at least {least}")
        check("max_non_split_rounding_bytes", rounding >= least, f"at least {least}")
        check("roundup_power2_divisions", powers, f"{INTERVALS} powers of two")
        check("garbage_collection_threshold", 0 <= share < 1, "above 0 and below 1")
        check("memory_fraction", 0 <= self.memory_fraction <= 1, "from 0 to 1")
        check("total_bytes", self.total_bytes is None or self.total_bytes >= 1, "at least 1")
        check("outside_bytes", self.outside_bytes >= 0, "at least 0")
        if self.total_bytes is None and self.memory_fraction != 1:
            raise AllocatorConfigError("memory_fraction needs total_bytes")

    @classmethod
    def from_settings(
        cls, text: str, *, total_bytes: int | None = None, outside_bytes: int = 0
    ) -> Self:
        """Return the settings that ``PYTORCH_ALLOC_CONF=text`` would make."""
        return cls(total_bytes=total_bytes, outside_bytes=outside_bytes, **_parse_settings(text))

    def limit_bytes(self) -> int | None:
        """Return what the per-process fraction allows, or None where it sets no limit.

        To the nearest byte: torch 2.13 grants a segment of b bytes from (b - 1/2) / total on.
        """
        if self.total_bytes is None or self.memory_fraction == 1:
            return None
        return int(self.memory_fraction * self.total_bytes + 0.5)

    def round_request(self, size_bytes: int) -> int:
        """Return the block size that a request of ``size_bytes`` asks for."""
        if size_bytes < GRANULE_BYTES:
            return GRANULE_BYTES
        power = size_bytes.bit_length() - 1
        divisions = self.roundup_power2_divisions[min(max(power - 20, 0), INTERVALS - 1)]
        if divisions <= 1 or size_bytes <= GRANULE_BYTES * divisions:
            return -(-size_bytes // GRANULE_BYTES) * GRANULE_BYTES
        step = (1 << power) // divisions
        return -(-size_bytes // step) * step

    def segment_size(self, rounded_bytes: int) -> int:
        """Return the size of the new segment that a block of ``rounded_bytes`` would get."""
        if rounded_bytes <= SMALL_REQUEST_BYTES:
            return SMALL_SEGMENT_BYTES
        if rounded_bytes < OWN_SEGMENT_FROM_BYTES:
            return self.large_segment_size_bytes
        return -(-rounded_bytes // SEGMENT_STEP_BYTES) * SEGMENT_STEP_BYTES


def _parse_settings(text: str) -> dict[str, Any]:
    """Return the fields of an ``AllocatorConfig`` that ``text`` sets."""
    packed = re.sub(r"\s+", "", text)
    fields: dict[str, Any] = {}
    position = 0
    while position < len(packed):
        match = _OPTION.match(packed, position)
        if match is None:
            text = packed[position : position + 60]
            raise AllocatorConfigError(f"allocator settings must be key:value pairs, got {text!r}")
        key, value = match.groups()
        if key in _READERS:
            name, read = _READERS[key]
            fields[name] = read(key, value)
        elif key in _ONE_VALUE:
            if value != _ONE_VALUE[key]:
                raise _wrong(key, f"{_ONE_VALUE[key]!r}, the only one modelled", value)
        elif key not in _WITHOUT_EFFECT:
            hint = did_you_mean(key, (*_READERS, *_ONE_VALUE))
            raise AllocatorConfigError(f"allocator setting {key!r} is not known{hint}")
        position = match.end()
    _check_together(fields)
    return fields


def _wrong(key: str, rule: str, value: str) -> AllocatorConfigError:
    return AllocatorConfigError(f"allocator setting {key} must be {rule}, got {value!r}")


def _check_together(fields: dict[str, Any]) -> None:
    """Sizes below the large segment are refused, whichever of the two was named first."""
    large = fields.get("large_segment_size_bytes", DEFAULT_LARGE_SEGMENT_BYTES)
    for name in ("max_split_size_bytes", "max_non_split_rounding_bytes"):
        size = fields.get(name, UNLIMITED)
        if size < large:
            key = name.removesuffix("_bytes") + "_mb"
            raise AllocatorConfigError(
                f"allocator setting {key} must be at least {large // MIB} MiB, "
                f"got {size // MIB} MiB"
            )


def _mebibytes(key: str, value: str, least: int = 1) -> int:
    if not value.isascii() or not value.isdigit() or not least <= int(value) < 1 << 44:
        raise _wrong(key, f"a whole number of at least {least}", value)
    return int(value) * MIB


def _share(key: str, value: str) -> float:
    with suppress(ValueError):
        if 0 <= float(value) <= 1:
            return float(value)
    raise _wrong(key, "from 0 to 1", value)


def _threshold(key: str, value: str) -> float:
    share = _share(key, value)
    if share in (0, 1):
        raise _wrong(key, "above 0 and below 1", value)
    return share


def _expandable(key: str, value: str) -> bool:
    if value not in ("True", "False"):
        raise _wrong(key, "True or False", value)
    return value == "True"


def _power_of_two(key: str, text: str, least: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    if number < least or number & (number - 1):
        raise _wrong(key, "powers of two", text[:20])
    return number


def _divisions(key: str, value: str) -> tuple[int, ...]:
    if not value.startswith("["):
        return (_power_of_two(key, value, 1),) * INTERVALS
    table = [0] * INTERVALS
    first, last = True, 0
    for pair in value[1:-1].split(","):
        bound, separator, steps = pair.partition(":")
        if not separator:
            raise _wrong(key, "pairs such as 256:2", pair[:20])
        divisions = _power_of_two(key, steps, 0)
        if bound == ">":
            # PyTorch starts one past the last interval named, even where none was named.
            table[last + 1 :] = [divisions] * (INTERVALS - last - 1)
            continue
        index = min(_power_of_two(key, bound, 1).bit_length() - 1, INTERVALS - 1)
        if first:
            table[:index] = [divisions] * index
            first = False
        table[index] = divisions
        last = index
    return tuple(table)


_READERS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "expandable_segments": ("expandable_segments", _expandable),
    "garbage_collection_threshold": ("garbage_collection_threshold", _threshold),
    "large_segment_size_mb": ("large_segment_size_bytes", partial(_mebibytes, least=11)),
    "max_non_split_rounding_mb": ("max_non_split_rounding_bytes", _mebibytes),
    "max_split_size_mb": ("max_split_size_bytes", _mebibytes),
    "per_process_memory_fraction": ("memory_fraction", _share),
    "roundup_power2_divisions": ("roundup_power2_divisions", _divisions),
}
"""The field that a setting sets, and what reads its value."""
SETTINGS = tuple(_READERS)
