"""Options of the allocator, each worked by hand."""

import pytest

from harness.allocator import AllocatorConfig, AllocatorConfigError, CachingAllocator

MIB = 1 << 20


@pytest.mark.parametrize(
    ("divisions", "size", "rounded"),
    [
        (4, 1200 * 1024, 1280 * 1024),
        (4, 1280 * 1024, 1280 * 1024),
        (4, 2 * MIB, 2 * MIB),
        (4, 2 * MIB + 1, 2 * MIB + MIB // 2),
        (4, 2049, 2560),  # between 2048 and 4096 in steps of 512
        (4, 2048, 2048),  # 512 * 4: not above, so by 512
        (4, 600, 1024),
        (1, 2 * MIB + 1, 2 * MIB + 512),
        (0, 2 * MIB + 1, 2 * MIB + 512),
    ],
)
def test_requests_are_rounded_to_a_share_of_a_power_of_two(
    divisions: int, size: int, rounded: int
) -> None:
    config = AllocatorConfig(roundup_power2_divisions=(divisions,) * 16)
    assert config.round_request(size) == rounded


def test_divisions_can_differ_by_size() -> None:
    config = AllocatorConfig.from_settings("roundup_power2_divisions:[2:1,4:2,8:4,>:8]")
    assert config.roundup_power2_divisions == (1, 1, 2, 4, *(8,) * 12)
    assert config.round_request(4 * MIB + 1) == 6 * MIB
    assert config.round_request(8 * MIB + 1) == 10 * MIB
    assert config.round_request(64 * MIB + 1) == 72 * MIB


def test_settings_can_change_on_the_way_but_for_max_split_size() -> None:
    allocator = CachingAllocator()
    address = allocator.malloc(15 * MIB)
    allocator.free(address)
    allocator.reconfigure(AllocatorConfig(expandable_segments=True))
    assert allocator.malloc(15 * MIB) == address  # an old segment still serves
    assert allocator.malloc(15 * MIB) != address
    # An option that is on splits old segments like new ones: 16 MiB leave 1 MiB.
    assert allocator.current("reserved_bytes") == 36 * MIB
    assert allocator.current("inactive_split_bytes") == MIB
    allocator.reconfigure(AllocatorConfig())
    with pytest.raises(AllocatorConfigError, match="cannot change while memory is held"):
        allocator.reconfigure(AllocatorConfig(max_split_size_bytes=32 * MIB))


@pytest.mark.parametrize(("off", "more"), [(-0.51, -1), (-0.49, 0), (0.0, 0), (0.49, 0)])
def test_a_share_of_the_gpu_is_a_limit_to_the_nearest_byte(off: float, more: int) -> None:
    """As seen on torch 2.13 under the dry run, by its setting and by its function alike."""
    total, wanted = 42_400_000_000, 96 * MIB
    config = AllocatorConfig(total_bytes=total, memory_fraction=(wanted + off) / total)
    assert config.limit_bytes() == wanted + more


def test_settings_are_read_as_pytorch_reads_them() -> None:
    config = AllocatorConfig.from_settings(
        " max_split_size_mb : 64 , expandable_segments:True,garbage_collection_threshold:0.8,"
        "backend:native,pinned_use_background_threads:True,per_process_memory_fraction:0.5,",
        total_bytes=10,
    )
    assert config == AllocatorConfig(
        max_split_size_bytes=64 * MIB, expandable_segments=True, garbage_collection_threshold=0.8,
        memory_fraction=0.5, total_bytes=10,
    )  # fmt: skip
    assert config.limit_bytes() == 5
    assert AllocatorConfig.from_settings("") == AllocatorConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_split_size_mb:19", "max_split_size_mb must be at least 20 MiB, got 19 MiB"),
        ("max_split_size_mb:32,large_segment_size_mb:64", "at least 64 MiB, got 32 MiB"),
        ("max_split_size_mb:x", "whole number of at least 1, got 'x'"),
        ("max_split_size_mb:", "must be key:value pairs, got"),
        ("max_non_split_rounding_mb:1", "max_non_split_rounding_mb must be at least 20 MiB"),
        ("garbage_collection_threshold:0", "must be above 0 and below 1, got '0'"),
        ("garbage_collection_threshold:1.5", "must be from 0 to 1, got '1.5'"),
        ("garbage_collection_threshold:nan", "must be from 0 to 1, got 'nan'"),
        ("roundup_power2_divisions:3", "must be powers of two, got '3'"),
        ("roundup_power2_divisions:0", "must be powers of two, got '0'"),
        ("roundup_power2_divisions:[300:2,>:4]", "must be powers of two, got '300'"),
        ("roundup_power2_divisions:[256:1,>:3]", "must be powers of two, got '3'"),
        ("roundup_power2_divisions:[256]", "must be pairs such as 256:2, got '256'"),
        ("large_segment_size_mb:10", "whole number of at least 11, got '10'"),
        ("expandable_segments:true", "must be True or False, got 'true'"),
        ("backend:cudaMallocAsync", "must be 'native', the only one modelled"),
        ("throw_on_cudamalloc_oom:True", "must be .False., the only one modelled"),
        ("foo:1", "'foo' is not known"),
        ("foo", "must be key:value pairs, got 'foo'"),
    ],
)
def test_settings_that_pytorch_refuses_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(AllocatorConfigError, match=message) as caught:
        AllocatorConfig.from_settings(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"garbage_collection_threshold": 1.0}, "garbage_collection_threshold must be"),
        ({"memory_fraction": 1.1}, "memory_fraction must be"),
        ({"total_bytes": 0}, "total_bytes must be at least 1"),
        ({"outside_bytes": -1}, "outside_bytes must be at least 0"),
        ({"roundup_power2_divisions": (3,) * 16}, "16 powers of two"),
    ],
)
def test_a_config_names_the_field_that_does_not_fit(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(AllocatorConfigError, match=message):
        AllocatorConfig(**fields)  # type: ignore[arg-type]  # wrong on purpose
