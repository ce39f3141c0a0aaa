"""Real messages of many PyTorch versions; each was published with the issue named next to it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.log_failures import find_failures
from harness.snapshots.log_text import Log
from harness.snapshots.oom_message import advice, parse_message
from harness.snapshots.oom_text import message_lines, parts

# ruff: noqa: E501 -- messages are quoted as they were published
GIB, MIB = 1 << 30, 1 << 20

MESSAGES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("published_messages.json").read_text()
)


def published(source: str) -> str:
    return next(str(each["message"]) for each in MESSAGES if source in each["source"])


@pytest.mark.parametrize("case", MESSAGES, ids=[case["source"] for case in MESSAGES])
def test_real_messages_are_parsed_and_explained(case: dict[str, Any]) -> None:
    message = parse_message(case["message"])
    assert message.total_bytes == case["total_bytes"]
    # Two decimals of a GiB are 10.7 MB.
    assert abs(message.unallocated_bytes() - case["unallocated_bytes"]) < 11_000_000
    assert message.cause() == case["cause"]
    bar = next(line for line in message_lines(message) if line.startswith("  ["))
    assert 60 <= len(bar) <= 75


def test_what_an_old_message_cannot_tell_apart_is_named_together() -> None:
    before, after = (parse_message(published(source)) for source in ("FastFlow", "lerf"))
    names = [[name for letter, name, _ in parts(each) if letter == "c"] for each in (before, after)]
    assert names == [
        ["CUDA context and libraries, other processes if any"],
        ["CUDA context and libraries"],
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pytorch 35901", "expandable_segments:True with PyTorch 2.1 or later"),
        ("FastFlow", "expandable_segments:True with PyTorch 2.1 or later"),
        ("lerf", "Try PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True; a snapshot"),
        ("DCRNN", "1.163 GiB are outside of PyTorch's allocator, more than a CUDA context takes"),
        ("keys_values", "Other processes hold 1.617 GiB, more than is missing"),
        ("pytorch 111363", "a limit that the script set (set_per_process_memory_fraction"),
    ],
)
def test_advice_can_be_followed_with_the_version_and_the_processes_of_the_message(
    source: str, said: str
) -> None:
    assert said in advice(parse_message(published(source)))


def test_cached_bytes_of_an_early_message_are_those_that_no_tensor_uses() -> None:
    message = parse_message(published("NeuroSim"))
    assert message.reserved_bytes == int(15.87 * GIB) + int(787.74 * MIB)
    shown = sum(size for _, _, size in parts(message))
    assert abs(shown - message.total_bytes) < 0.02 * GIB


HIP = (
    "HIP out of memory. Tried to allocate {0} GiB. GPU 0 has a total capacity of 15.98 GiB of which {1} "
    "GiB is free. Of the allocated memory 1.26 GiB is allocated by PyTorch, and 152.50 MiB is reserved by "
    "PyTorch but unallocated."
)


@pytest.mark.parametrize(
    ("requested", "free", "cause", "outside", "said"),
    [
        ("4.50", "1.40", "other processes", 2 * GIB, "names no owner of 11.17 GiB"),
        ("14.00", "13.40", "real need", int(1.17 * GIB), "are missing"),
    ],
)
def test_what_one_process_cannot_hold_beside_pytorch_belongs_to_others(
    requested: str, free: str, cause: str, outside: int, said: str
) -> None:
    message = parse_message(HIP.format(requested, free))
    assert message.cause() == cause
    assert message.outside_bytes() == pytest.approx(outside, abs=0.01 * GIB)
    assert said in advice(message)


def test_what_rounding_leaves_over_is_not_shown() -> None:
    message = parse_message(published("first step of AdamW"))
    assert message.outside_bytes() == 1
    assert [letter for letter, _, _ in parts(message)] == ["#", "+", "."]


def test_what_the_process_holds_beside_pytorch_is_the_difference() -> None:
    message = parse_message(published("lerf"))
    assert message.process_bytes == int(20.81 * GIB)
    assert message.outside_bytes() == message.process_bytes - message.reserved_bytes
    assert abs(message.outside_bytes() - 3.88 * GIB) < 0.02 * GIB
    assert sum(size for _, _, size in parts(message)) == pytest.approx(23.65 * GIB, abs=0.02 * GIB)


# From a MIG instance comes a message that lists the processes of all instances of the GPU. A note on
# a run on MIG 2g.20gb of an A100 quotes "Tried to allocate 1.24 GiB. GPU 0 has a total capacity of
# 19.50 GiB of which 1.06 GiB is free" and three other processes of 7.88, 10.30 and 15.74 GiB. The
# sentences on PyTorch's own memory are put together: nobody published them.
MIG_PROCESSES = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.24 GiB. GPU 0 has a total capacity "
    "of 19.50 GiB of which 1.06 GiB is free. Process 100 has 7.88 GiB memory in use. Process 200 has "
    "10.30 GiB memory in use. Process 300 has 15.74 GiB memory in use. Including non-PyTorch memory, "
    "this process has 18.43 GiB memory in use. Of the allocated memory 17.50 GiB is allocated by "
    "PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated."
)


def test_processes_of_other_mig_instances_hold_nothing_of_this_one() -> None:
    message = parse_message(MIG_PROCESSES)
    assert message.others == ()
    assert [pid for pid, _ in message.elsewhere] == [100, 200, 300]
    assert message.cause() == "fragmentation"
    assert message.outside_bytes() == int(18.43 * GIB) - 18 * GIB
    assert sum(size for _, _, size in parts(message)) == pytest.approx(19.5 * GIB, abs=0.02 * GIB)
    assert "15.74 GiB of process 300 lie on another MIG instance of this GPU" in "\n".join(
        message_lines(message)
    )


# Published where the limit was tested under WSL 2, torch 2.6 or later.
NOT_AVAILABLE = (
    "CUDA out of memory. Tried to allocate 18.63 GiB. GPU 0 has a total capacity of 45.00 GiB of which "
    "43.66 GiB is free. Process 1459 has 17179869184.00 GiB memory in use. 2.25 GiB allowed; Of the "
    "allocated memory 0 bytes is allocated by PyTorch, and 0 bytes is reserved by PyTorch but "
    "unallocated."
)


def test_what_nvml_does_not_know_is_not_a_size() -> None:
    message = parse_message(NOT_AVAILABLE)
    assert (message.others, message.process_bytes) == ((), None)
    assert message.cause() == "limit"
    assert message.outside_bytes() == int(45 * GIB) - int(43.66 * GIB)
    twice = NOT_AVAILABLE.replace(
        "2.25 GiB allowed",
        "Including non-PyTorch memory, this process has 17179869184.00 GiB memory "
        "in use. 2.25 GiB allowed",
    )
    assert parse_message(twice) == message


def test_what_pytorch_calls_allocated_in_private_pools_is_free() -> None:
    message = parse_message(published("MemPools"))
    # The snapshot of the same failure: the bytes in allocated blocks, and in free ones of the pools.
    assert abs(message.allocated_bytes - 338_595_840) < 2 * MIB // 100
    assert abs(message.private_bytes - 74_174_464) < MIB // 100


def test_a_process_that_does_not_know_its_number_is_the_least_that_holds_its_reserved() -> None:
    message = parse_message(published("MinerU"))
    assert message.process_bytes == int(2.02 * GIB)
    assert [pid for pid, _ in message.others] == [899595, 1039101, 1603024, 2007660, 785200]
    assert message.elsewhere == ()
    assert sum(size for _, _, size in parts(message)) == pytest.approx(44.53 * GIB, rel=0.002)


# Written as CUDACachingAllocator.cpp joins its parts; no published message has all of them.
EVERYTHING = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total "
    "capacity of 9.75 GiB of which 3.00 GiB is free. Process 11 has 1.00 GiB memory in use. Process "
    "12 has 0.75 GiB memory in use. Including non-PyTorch memory, this process has 5.00 GiB memory "
    "in use. 4.88 GiB allowed; Of the allocated memory 4.00 GiB is allocated by PyTorch, with 512.00 "
    "MiB allocated in private pools (e.g., CUDA Graphs), and 512.00 MiB is reserved by PyTorch but "
    "unallocated."
)


def test_processes_private_pools_and_limits_are_named() -> None:
    message = parse_message(EVERYTHING)
    assert message.others == ((11, GIB), (12, 768 * MIB))
    assert message.private_bytes == 512 * MIB
    assert message.allocated_bytes == int(3.5 * GIB)
    assert message.outside_bytes() == 512 * MIB
    assert message.unknown_bytes() == 0
    assert message.cause() == "limit"
    assert "process 11" in "\n".join(message_lines(message))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("CUDA out of memory. Tried to allocate 3.00 GiB.", "cut off or of an unknown format"),
        (published("lerf")[:200], "cut off"),
        # A note on a run on MIG 1g.5gb of an A100, quoted as far as there
        (f"{MIG_PROCESSES[:61]} 20.00 MiB. GPU 0 has a total capacity of 4.75 GiB.", "cut off"),
    ],
)
def test_what_has_no_numbers_is_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(SnapshotError, match=why) as caught:
        parse_message(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=300), st.integers(0, len(EVERYTHING)))
def test_garbage_in_a_message_is_parsed_or_refused(garbage: str, at: int) -> None:
    text = EVERYTHING[:at] + garbage + EVERYTHING[at:]
    refusal = ""
    try:
        assert "\n".join(message_lines(parse_message(text)))
    except SnapshotError as error:
        refusal = str(error)
    assert "\n" not in refusal


XPU = (
    "torch.OutOfMemoryError: XPU out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total "
    "capacity of 63.98 GiB. Of the allocated memory 59.00 GiB is allocated by PyTorch, and "
    "{unused} is reserved by PyTorch but unallocated. Please use `empty_cache` to release all "
    "unoccupied cached memory."
)


@pytest.mark.parametrize(
    ("unused", "cause"), [("500.00 MiB", "free not stated"), ("4.10 GiB", "fragmentation")]
)
def test_a_message_of_xpu_has_no_free_bytes_and_none_are_made_up(unused: str, cause: str) -> None:
    message = parse_message(XPU.format(unused=unused))
    assert (message.cause(), message.backend, message.states_free) == (cause, "XPU", False)
    text = "\n".join(message_lines(message))
    assert "XPU context and libraries" in text
    assert "CUDA" not in text + advice(message)


@pytest.mark.parametrize("setting", ["PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"])
def test_the_advice_names_the_setting_as_the_message_does(setting: str) -> None:
    text = (
        "HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.98 GiB of "
        "which 1.10 GiB is free. Of the allocated memory 10.50 GiB is allocated by PyTorch, and "
        f"3.00 GiB is reserved by PyTorch but unallocated. try setting {setting}=expandable_"
        "segments:True to avoid fragmentation."
    )
    message = parse_message(text)
    assert f"Try {setting}=expandable" in advice(message)
    assert "HIP context" in "\n".join(message_lines(message))


def test_what_an_npu_has_free_is_not_what_is_active() -> None:
    message = parse_message(
        "NPU out of memory. Tried to allocate 20.00 MiB (NPU 0; 60.96 GiB total capacity; 58.90 GiB "
        "already allocated; 58.90 GiB current active; 12.00 MiB free; 59.20 GiB reserved in total by "
        "PyTorch) If reserved memory is >> allocated memory try setting max_split_size_mb"
    )
    assert (message.free_bytes, message.backend) == (12 * MIB, "NPU")
    assert message.reserved_bytes == int(59.2 * GIB)


ASYNC = """torch.OutOfMemoryError: Allocation on device 1 would exceed allowed memory. (out of memory)
Currently allocated     : 10.15 GiB
Requested               : 1.00 GiB
Device limit            : 11.99 GiB
Free (according to CUDA): 0 bytes
PyTorch limit (set by user-supplied memory fraction)
                        : {limit}"""


@pytest.mark.parametrize(
    ("limit", "free", "cause"),
    [
        ("17179869184.00 GiB", "0 bytes", "real need"), ("10.80 GiB", "1.50 GiB", "limit"),
        ("17179869184.00 GiB", "1.50 GiB", "driver"),
    ],
)  # fmt: skip
def test_the_message_of_cuda_malloc_async_has_sizes(limit: str, free: str, cause: str) -> None:
    message = parse_message(ASYNC.replace("{limit}", limit).replace("0 bytes", free))
    assert (message.gpu, message.requested_bytes) == (1, 1 << 30)
    assert message.total_bytes == int(11.99 * (1 << 30))
    assert message.allocated_bytes == message.reserved_bytes == int(10.15 * (1 << 30))
    assert message.cause() == cause
    assert (message.allowed_bytes is not None) == (cause == "limit")


def test_the_text_of_expandable_segments_and_of_triton_is_cudas_own() -> None:
    (failure,) = find_failures(Log(text="RuntimeError: CUDA driver error: out of memory"))
    assert failure.cause == "CUDA itself"
