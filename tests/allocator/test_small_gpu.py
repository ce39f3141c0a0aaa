"""Requests on a GPU with next to no memory end in an answer or in OutOfMemoryError."""

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.allocator import (
    AllocatorConfig,
    AllocatorConfigError,
    CachingAllocator,
    OutOfMemoryError,
)
from tests.property_size import examples

MIB = 1 << 20
SETTINGS = [
    "expandable_segments:True",
    "max_split_size_mb:20",
    "max_split_size_mb:64",
    "garbage_collection_threshold:0.01",
    "garbage_collection_threshold:0.99",
    "per_process_memory_fraction:0",
    "per_process_memory_fraction:0.0001",
    "per_process_memory_fraction:0.5",
    "large_segment_size_mb:11",
    "max_non_split_rounding_mb:20",
    "roundup_power2_divisions:4",
]
SIZES = [1, 512, 1000, MIB, MIB + 1, 2 * MIB, 10 * MIB, 20 * MIB, 25 * MIB, 2**40]
ACTIONS = ["free", "empty cache", "record stream"]


@settings(max_examples=examples(300))
@example(options=["expandable_segments:True"], total_bytes=1, outside_bytes=0, actions=[512])
@given(
    options=st.lists(st.sampled_from(SETTINGS), unique_by=lambda text: text.partition(":")[0]),
    total_bytes=st.one_of(
        st.sampled_from([1, 511, 512, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 20 * MIB]),
        st.integers(1, 64 * MIB),
    ),
    outside_bytes=st.sampled_from([0, 1, MIB, 2**30]),
    actions=st.lists(st.sampled_from([*SIZES, *ACTIONS]), max_size=40),
)
def test_a_small_gpu_answers_or_is_out_of_memory(
    options: list[str], total_bytes: int, outside_bytes: int, actions: list[int | str]
) -> None:
    text = ",".join(["expandable_segments:True", *options[1:]])
    try:
        config = AllocatorConfig.from_settings(
            text, total_bytes=total_bytes, outside_bytes=outside_bytes
        )
    except AllocatorConfigError:
        return  # two settings that PyTorch refuses together
    allocator = CachingAllocator(config)
    held: list[int] = []
    for action in actions:
        if isinstance(action, int):
            with contextlib.suppress(OutOfMemoryError):
                held.append(allocator.malloc(action, stream=len(held) % 2))
        elif action == "empty cache":
            allocator.empty_cache()
        elif held and action == "free":
            allocator.free(held.pop())
        elif held:
            allocator.record_stream(held[0], 1)
    reserved = allocator.stats()["reserved_bytes.all.current"]
    assert 0 <= reserved <= max(0, total_bytes - outside_bytes)


@pytest.mark.parametrize("text", ["", "expandable_segments:True"])
def test_a_gpu_without_memory_is_refused(text: str) -> None:
    with pytest.raises(AllocatorConfigError, match="total_bytes must be at least 1, got 0"):
        AllocatorConfig.from_settings(text, total_bytes=0)
