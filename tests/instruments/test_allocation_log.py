"""The profiler's blocks are joined with the CUDA allocator's log, on planted ones."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch._C._profiler import RecordScope

from harness.instruments import event_tree
from harness.instruments.allocation_log import Entry, LogMismatchError

A, B, C = 0x1000, 0x2000, 0x3000
LOG = [Entry(10, A), Entry(700, B), Entry(-10, A), Entry(5, A)]
BLOCKS = [(512, A), (1024, B), (-512, A), (512, A)]


def sizes(blocks: list[tuple[int, int]], log: list[Entry]) -> list[int]:
    items = [(number, *block, 0, "build", "", "") for number, block in enumerate(blocks)]
    return [item[1] for item in event_tree.with_requested_sizes(items, log)]


def test_each_block_gets_what_was_requested_for_it() -> None:
    assert sizes(BLOCKS, LOG) == [10, 700, -10, 5]
    assert sizes([(-512, C), (512, A)], LOG[:1]) == [-512, 10], "one was there before"


def test_an_end_that_the_profiler_did_not_see_is_the_logs() -> None:
    """A thread of autograd's drops a tensor after its work, when it is no longer profiled."""
    assert sizes([(512, A), (1024, B), (512, A)], LOG) == [10, 700, -10, 5]
    ends = [*LOG, Entry(-700, B), Entry(-5, A)]
    assert sizes([*BLOCKS, (-512, A)], ends) == [10, 700, -10, 5, -700, -5]


@pytest.mark.parametrize(
    ("blocks", "log"),
    [
        (BLOCKS[:-1], LOG),
        (BLOCKS, LOG[:-1]),
        ([(512, A), (-512, A), (1024, B), (512, A)], LOG),
        ([(512, A), (1024, C), (-512, A), (512, A)], LOG),
        ([(512, A), (512, B), (-512, A), (512, A)], LOG),
    ],
    ids=["one lacks in the tree", "one lacks in the log", "order", "address", "too small a block"],
)
def test_what_does_not_agree_is_refused(blocks: list[tuple[int, int]], log: list[Entry]) -> None:
    with pytest.raises(LogMismatchError):
        sizes(blocks, log)


def node(name: str, time: int, *children: Any, **fields: Any) -> Any:
    extra = SimpleNamespace(scope=RecordScope.FUNCTION, sequence_number=-1, **fields)
    return SimpleNamespace(name=name, start_time_ns=time, children=children, extra_fields=extra)


def block(time: int, size: int, address: int) -> Any:
    device = SimpleNamespace(type="cuda")
    return node("[memory]", time, alloc_size=size, ptr=address, device=device)


def engine(time: int, *children: Any) -> Any:
    inner = node("MulBackward0", time, *children)
    return node("autograd::engine::evaluate_function: MulBackward0", time, inner)


# As the profiler gives it: first all of the caller's thread, then all of autograd's.
CALLER = [
    node("harness.phase:1:forward", 10, node("aten::mul", 11, block(12, 512, A))),
    node("harness.phase:1:backward", 20),
    node("harness.phase:2:forward", 40, node("aten::mul", 41, block(42, 512, C))),
    node("harness.phase:2:backward", 50),
]
AUTOGRAD = [engine(25, block(30, 512, B)), engine(55, block(60, -512, B))]


def test_the_events_of_autograds_thread_are_placed_by_their_time() -> None:
    """Also where the steps are inferred from the calls of modules."""
    inferred = [
        node("harness.module:", 10, node("aten::mul", 11, block(12, 512, A))),
        node("harness.module:", 40, node("aten::mul", 41, block(42, 512, C))),
    ]
    for caller, infer in ((CALLER, False), (inferred, True)):
        items = event_tree.Reader(device="cuda", infer=infer).read([*caller, *AUTOGRAD])
        phases = [(12, 1, "forward"), (30, 1, "backward"), (42, 2, "forward"), (60, 2, "backward")]
        assert [(item[0], *item[3:5]) for item in items] == phases
