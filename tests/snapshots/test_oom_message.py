"""Real messages of many PyTorch versions; each was published with the issue named next to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.oom_message import parse_message
from harness.snapshots.oom_text import message_text, parts

# ruff: noqa: E501 -- messages are quoted as they were published
GIB, MIB = 1 << 30, 1 << 20
SPLIT_HINT = (
    " If reserved memory is >> allocated memory try setting max_split_size_mb to avoid "
    "fragmentation.  See documentation for Memory Management and PYTORCH_CUDA_ALLOC_CONF"
)
EXPANDABLE_HINT = (
    " If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF="
    "expandable_segments:True to avoid fragmentation."
)

# (source, message, cause, total, unallocated, context and libraries or None)
MESSAGES = [
    (
        "pytorch 16417, torch 1.0",
        (
            "RuntimeError: CUDA out of memory. Tried to allocate 12.50 MiB (GPU 0; 10.92 GiB total "
            "capacity; 8.57 MiB already allocated; 9.28 GiB free; 4.68 MiB cached)"
        ),
        "driver",
        10.92 * GIB,
        0,
    ),
    (
        "pytorch 59778, torch 1.8, Windows",
        (
            "CUDA out of memory. Tried to allocate 2.26 GiB (GPU 0; 6.00 GiB total capacity; 781.59 MiB "
            "already allocated; 3.03 GiB free; 1.24 GiB reserved in total by PyTorch) "
        ),
        "driver",
        6 * GIB,
        1.24 * GIB - 781.59 * MIB,
    ),
    (
        "FastFlow 4, torch 1.11",
        (
            "RuntimeError: CUDA out of memory. Tried to allocate 74.00 MiB (GPU 0; 11.91 GiB total "
            "capacity; 10.79 GiB already allocated; 12.94 MiB free; 11.21 GiB reserved in total by "
            f"PyTorch){SPLIT_HINT}"
        ),
        "fragmentation",
        11.91 * GIB,
        0.42 * GIB,
    ),
    (
        "iPASSR 9, torch 2.0, Windows",
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 10.73 GiB (GPU 0; 8.00 "
            "GiB total capacity; 17.20 GiB already allocated; 0 bytes free; 19.15 GiB reserved in total "
            f"by PyTorch){SPLIT_HINT}"
        ),
        "shared memory",
        8 * GIB,
        1.95 * GIB,
    ),
    (
        "lerf 73, torch 2.1",
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a "
            "total capacty of 23.65 GiB of which 1.66 GiB is free. Including non-PyTorch memory, this "
            "process has 20.81 GiB memory in use. Of the allocated memory 12.09 GiB is allocated by "
            "PyTorch, and 4.84 GiB is reserved by PyTorch but unallocated. If reserved but unallocated "
            "memory is large try setting max_split_size_mb to avoid fragmentation."
        ),
        "fragmentation",
        23.65 * GIB,
        4.84 * GIB,
    ),
    (
        "NeuroLens 2, torch 2.1, one tensor larger than the GPU",
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 55.57 GiB. GPU 0 has a "
            "total capacty of 12.00 GiB of which 9.02 GiB is free. Of the allocated memory 984.52 MiB "
            "is allocated by PyTorch, and 463.48 MiB is reserved by PyTorch but unallocated."
        ),
        "too large",
        12 * GIB,
        463.48 * MIB,
    ),
    (
        "GenerateU 10, torch 2.1, in a container",
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a "
            "total capacty of 14.75 GiB of which 235.06 MiB is free. Process 20398 has 14.52 GiB memory "
            "in use. Of the allocated memory 14.06 GiB is allocated by PyTorch, and 330.42 MiB is "
            "reserved by PyTorch but unallocated."
        ),
        "fragmentation",
        14.75 * GIB,
        330.42 * MIB,
    ),
    (
        "pytorch 16417 (2024), torch 2.2",
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 22.00 MiB. GPU 0 has a "
            "total capacity of 23.65 GiB of which 11.06 MiB is free. Including non-PyTorch memory, this "
            "process has 23.60 GiB memory in use. Of the allocated memory 22.90 GiB is allocated by "
            f"PyTorch, and 194.87 MiB is reserved by PyTorch but unallocated.{EXPANDABLE_HINT}"
        ),
        "fragmentation",
        23.65 * GIB,
        194.87 * MIB,
    ),
    (
        "vllm 12529, torch 2.5, in a log",
        (
            "ERROR 03-13 09:00:43 [core.py:330] torch.OutOfMemoryError: CUDA out of memory. Tried to "
            "allocate 1.16 GiB. GPU 0 has a total capacity of 7.75 GiB of which 1.17 GiB is free. "
            "Including non-PyTorch memory, this process has 5.02 GiB memory in use. Of the allocated "
            "memory 4.81 GiB is allocated by PyTorch, and 18.97 MiB is reserved by PyTorch but "
            f"unallocated.{EXPANDABLE_HINT}\nERROR 03-13 09:00:43 [core.py:330] \n"
        ),
        "driver",
        7.75 * GIB,
        18.97 * MIB,
    ),
    (
        "meshgen 7, torch 2.5, Windows",
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1002.00 MiB. GPU 0 has a "
            "total capacity of 8.00 GiB of which 0 bytes is free. Of the allocated memory 13.98 GiB is "
            f"allocated by PyTorch, and 129.48 MiB is reserved by PyTorch but unallocated.{EXPANDABLE_HINT}"
        ),
        "shared memory",
        8 * GIB,
        129.48 * MIB,
    ),
    (
        "Aria 24, torch 2.4, several GPUs in a log, the process's own memory unknown to NVML",
        (
            "(VllmWorkerProcess pid=2421) ERROR 10-14 12:32:47 multiproc_worker_utils.py:233] "
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.88 GiB. GPU 3 has a total "
            "capacity of 21.96 GiB of which 1.29 GiB is free. Including non-PyTorch memory, this process "
            "has 0 bytes memory in use. Of the allocated memory 19.02 GiB is allocated by PyTorch, and "
            f"1.32 GiB is reserved by PyTorch but unallocated.{EXPANDABLE_HINT}"
        ),
        "fragmentation",
        21.96 * GIB,
        1.32 * GIB,
    ),
    (
        "vllm 27508, torch 2.8, CUDA graphs",
        (
            "(EngineCore_DP0 pid=8884) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate "
            "786.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which 140.75 MiB is free. Process "
            "3270336 has 78.96 GiB memory in use. Of the allocated memory 68.83 GiB is allocated by "
            "PyTorch, with 660.00 MiB allocated in private pools (e.g., CUDA Graphs), and 331.08 MiB is "
            f"reserved by PyTorch but unallocated.{EXPANDABLE_HINT}"
        ),
        "private pools",
        79.11 * GIB,
        331.08 * MIB,
    ),
    (
        "WSL 2, torch 2.5, the process's own memory not available",
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 174.00 MiB.\nGPU 0 has a total "
            "capacity of 6.00 GiB of which 0 bytes is free.\nIncluding non-PyTorch memory, this process "
            "has 17179869184.00 GiB memory in use.\nOf the allocated memory 12.15 GiB is allocated by "
            "PyTorch, and 319.03 MiB is\nreserved by PyTorch but unallocated.\n"
        ),
        "shared memory",
        6 * GIB,
        319.03 * MIB,
    ),
    (
        "NVIDIA vss 25, torch 2.6, several processes",
        (
            "via-server-1 | [TRT-LLM] [E] Failed to initialize executor on rank 0: CUDA out of memory. "
            "Tried to allocate 136.00 MiB. GPU 0 has a total capacity of 14.56 GiB of which 58.38 MiB is "
            "free. Process 244271 has 26.06 MiB memory in use. Process 238746 has 1.08 GiB memory in "
            "use. Process 244515 has 468.00 MiB memory in use. Including non-PyTorch memory, this "
            "process has 12.90 GiB memory in use. Of the allocated memory 12.72 GiB is allocated by "
            f"PyTorch, and 69.61 MiB is reserved by PyTorch but unallocated.{EXPANDABLE_HINT}"
        ),
        "other processes",
        14.56 * GIB,
        69.61 * MIB,
    ),
    (
        "a log of MinerU 2.0, several processes, its own among them",
        (
            "CUDA out of memory. Tried to allocate 136.00 MiB. GPU 0 has a total capacity of 44.53 GiB of "
            "which 32.62 MiB is free. Process 899595 has 14.52 GiB memory in use. Process 1039101 has "
            "3.03 GiB memory in use. Process 1603024 has 6.96 GiB memory in use. Process 2007660 has 9.48 "
            "GiB memory in use. Process 785200 has 8.47 GiB memory in use. Process 795316 has 2.02 GiB "
            "memory in use. Of the allocated memory 1.50 GiB is allocated by PyTorch, and 167.00 MiB is "
            f"reserved by PyTorch but unallocated.{EXPANDABLE_HINT}"
        ),
        "other processes",
        44.53 * GIB,
        167 * MIB,
    ),
    (
        "torch 2.15 under the dry run, several MemPools",
        (
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 700.00 MiB of "
            "which 12.00 MiB is free. Of the allocated memory 393.65 MiB is allocated by PyTorch, with "
            "70.74 MiB allocated in private pools (e.g., CUDA Graphs), and 20.35 MiB is reserved by "
            f"PyTorch but unallocated.{EXPANDABLE_HINT}"
        ),
        "fragmentation",
        700 * MIB,
        20.35 * MIB,
    ),
    (
        "torch 2.15 under the dry run, first step of AdamW",
        (
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 76.00 MiB of "
            "which 14.00 MiB is free. Of the allocated memory 60.31 MiB is allocated by PyTorch, and "
            f"1.69 MiB is reserved by PyTorch but unallocated.{EXPANDABLE_HINT}"
        ),
        "real need",
        76 * MIB,
        1.69 * MIB,
    ),
]


@pytest.mark.parametrize(
    ("text", "cause", "total", "unallocated"),
    [case[1:] for case in MESSAGES],
    ids=[case[0] for case in MESSAGES],
)
def test_real_messages_are_parsed_and_explained(
    text: str, cause: str, total: float, unallocated: float
) -> None:
    message = parse_message(text)
    assert message.total_bytes == int(total)
    # Two decimals of a GiB are 10.7 MB.
    assert abs(message.unallocated_bytes() - unallocated) < 11_000_000
    explained = message_text(message)
    assert explained.startswith(f"cause: {cause}\n")
    bar = next(line for line in explained.splitlines() if line.startswith("  ["))
    assert 60 <= len(bar) <= 75


def test_what_an_old_message_cannot_tell_apart_is_named_together() -> None:
    before, after = (parse_message(MESSAGES[index][1]) for index in (2, 4))
    names = [[name for letter, name, _ in parts(each) if letter == "c"] for each in (before, after)]
    assert names == [
        ["CUDA context and libraries, other processes if any"],
        ["CUDA context and libraries"],
    ]


def test_what_rounding_leaves_over_is_not_shown() -> None:
    message = parse_message(MESSAGES[-1][1])
    assert message.outside_bytes() == 1
    assert [letter for letter, _, _ in parts(message)] == ["#", "+", "."]


def test_what_the_process_holds_beside_pytorch_is_the_difference() -> None:
    message = parse_message(MESSAGES[4][1])
    assert message.process_bytes == int(20.81 * GIB)
    assert message.outside_bytes() == message.process_bytes - message.reserved_bytes
    assert abs(message.outside_bytes() - 3.88 * GIB) < 0.02 * GIB
    assert sum(size for _, _, size in parts(message)) == pytest.approx(23.65 * GIB, abs=0.02 * GIB)


# From a MIG instance comes either a failed assertion (published with the issue named), ...
MIG_ASSERTIONS = [
    f'RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at "{place}, please report a bug to PyTorch.'
    for place in (
        # pytorch 112377 (H100 MIG 2g.20gb), Open-Sora 716 (A800 MIG 1g.20gb), sd3.5 18 (A100 MIG),
        # vllm 9824 (H100 MIG 40 GB), vllm ci-infra 355 (H200 MIG 18 GB, torch 2.11)
        '/opt/conda/conda-bld/pytorch_1695392020201/work/c10/cuda/CUDACachingAllocator.cpp":1154',
        '../c10/cuda/CUDACachingAllocator.cpp":830',
        '../c10/cuda/CUDACachingAllocator.cpp":995',
        '../c10/cuda/CUDACachingAllocator.cpp":838',
        '/pytorch/c10/cuda/CUDACachingAllocator.cpp":1165',
    )
]

# ... or, where NVML answers, a message that lists the processes of all instances of the GPU. A note on
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
    assert "15.74 GiB of process 300 lie on another MIG instance of this GPU" in message_text(
        message
    )


# Published where the limit was tested under WSL 2, torch 2.6 or later.
NOT_AVAILABLE = (
    "CUDA out of memory. Tried to allocate 18.63 GiB. GPU 0 has a total capacity of 45.00 GiB of which "
    "43.66 GiB is free. Process 1459 has 17179869184.00 GiB memory in use. 2.25 GiB allowed; Of the "
    "allocated memory 0 bytes is allocated by PyTorch, and 0 bytes is reserved by PyTorch but "
    f"unallocated.{EXPANDABLE_HINT}"
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
    text = next(text for source, text, *_ in MESSAGES if "MemPools" in source)
    message = parse_message(text)
    # The snapshot of the same failure: the bytes in allocated blocks, and in free ones of the pools.
    assert abs(message.allocated_bytes - 338_595_840) < 2 * MIB // 100
    assert abs(message.private_bytes - 74_174_464) < MIB // 100


def test_a_process_that_does_not_know_its_number_is_the_least_that_holds_its_reserved() -> None:
    text = next(text for source, text, *_ in MESSAGES if "MinerU" in source)
    message = parse_message(text)
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
    assert "process 11" in message_text(message)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no out-of-memory message"),
        ("hello\nworld", "no out-of-memory message"),
        ("CUDA out of memory. Tried to allocate 3.00 GiB.", "cut off or of an unknown format"),
        (MESSAGES[4][1][:200], "cut off"),
        ("RuntimeError: CUDA error: out of memory", "of CUDA itself, without numbers"),
        *((text, "MIG instance") for text in MIG_ASSERTIONS),
        (
            # A note on a run on MIG 1g.5gb of an A100, quoted as far as there
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a "
                "total capacity of 4.75 GiB of which 1.38 MiB is free."
            ),
            "cut off after the GPU's capacity",
        ),
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
        assert message_text(parse_message(text))
    except SnapshotError as error:
        refusal = str(error)
    assert "\n" not in refusal
