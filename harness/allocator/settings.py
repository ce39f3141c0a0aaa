"""Reads the text of ``PYTORCH_ALLOC_CONF``; refuses in one line what PyTorch refuses."""

import re
from collections.abc import Callable
from functools import partial

from harness.schema.errors import HarnessError

INTERVALS = 16
_MIB = 1 << 20
_UNLIMITED = (1 << 64) - 1

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
    harness.allocator.settings.AllocatorConfigError: ... must be True or False, got 'maybe'
    """


def parse_settings(text: str) -> dict[str, object]:
    """Return the fields of an ``AllocatorConfig`` that ``text`` sets."""
    packed = re.sub(r"\s+", "", text)
    fields: dict[str, object] = {}
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
            raise AllocatorConfigError(f"allocator setting {key!r} is not known")
        position = match.end()
    _check_together(fields)
    return fields


def _wrong(key: str, rule: str, value: str) -> AllocatorConfigError:
    return AllocatorConfigError(f"allocator setting {key} must be {rule}, got {value!r}")


def _check_together(fields: dict[str, object]) -> None:
    """Sizes below the large segment are refused, whichever of the two was named first."""
    large = fields.get("large_segment_size_bytes", 20 * _MIB)
    assert isinstance(large, int)
    for name in ("max_split_size_bytes", "max_non_split_rounding_bytes"):
        size = fields.get(name, _UNLIMITED)
        assert isinstance(size, int)
        if size < large:
            key = name.removesuffix("_bytes") + "_mb"
            raise AllocatorConfigError(
                f"allocator setting {key} must be at least {large // _MIB} MiB, "
                f"got {size // _MIB} MiB"
            )


def _mebibytes(key: str, value: str, least: int = 1) -> int:
    if not value.isascii() or not value.isdigit() or not least <= int(value) < 1 << 44:
        raise _wrong(key, f"a whole number of at least {least}", value)
    return int(value) * _MIB


def _share(key: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise _wrong(key, "from 0 to 1", value)
    return share


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
