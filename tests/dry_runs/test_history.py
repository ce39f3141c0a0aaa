import itertools
import random
from collections.abc import Sequence

import pytest

from harness.dry_runs.call_sites import BACKWARD, HistoryEvent, HistoryFrame
from harness.dry_runs.history import History
from harness.dry_runs.marks import Mark
from harness.schema.block_categories import BlockCategory
from harness.schema.kept_by_line import find_growth
from harness.schema.lifetimes import bytes_alive, find_lifetimes
from tests.known import known

COUNTED = ("alloc", "free_requested")
OWNERS: tuple[BlockCategory, ...] = ("parameter", "gradient", "optimizer_state")


def frame(line: int, file: str = "train.py", name: str = "step") -> HistoryFrame:
    return {"filename": file, "line": line, "name": name}


def event(action: str, address: int, size: int, *frames: HistoryFrame, at: int = 0) -> HistoryEvent:
    return {"action": action, "addr": address, "size": size, "time_us": at, "frames": list(frames)}


def history(
    events: Sequence[HistoryEvent],
    *marks: Mark,
    steps: Sequence[tuple[int, int]] = (),
    parts: int = 1,
) -> History:
    """Fold events in parts of equal length; what is known of a step comes in the part it ends."""
    folded = History(workspace_bytes=999, own=lambda file: file == "torch.py" or "/torch/" in file)
    allocations = frees = 0
    known_marks, known_steps = list(marks), list(steps)
    for part in range(parts):
        chunk = events[part * len(events) // parts : (part + 1) * len(events) // parts]
        allocations += sum(one["action"] == "alloc" for one in chunk)
        frees += sum(one["action"] == "free_requested" for one in chunk)
        last = part == parts - 1
        new = [one for one in known_marks if last or one.allocations <= allocations]
        ended = [one for one in known_steps if last or (one[0] <= allocations and one[1] <= frees)]
        known_marks = [one for one in known_marks if one not in new]
        known_steps = [one for one in known_steps if one not in ended]
        folded.fold(chunk, marks=new, steps=ended)
    return folded


def mark(allocations: int, **owners: BlockCategory) -> Mark:
    addresses = {int(name.removeprefix("at")): owner for name, owner in owners.items()}
    return Mark(allocations=allocations, owners=addresses)


STEP = [
    event("alloc", 1, 100, frame(3)),  # a parameter
    event("alloc", 2, 40, frame(9, "torch.py"), frame(7)),  # saved for the backward pass
    event("alloc", 3, 999, frame(7)),  # cuBLAS's workspace
    event("alloc", 4, 10, frame(8)),  # a loss that the script keeps
    event("alloc", 5, 100),  # a gradient
    event("free_requested", 2, 40),
    event("alloc", 6, 30),
    event("free_requested", 6, 30),
    event("free_requested", 5, 100, frame(9)),
    event("free_requested", 4, 10, frame(9)),
]


def test_the_peak_is_the_moment_of_most_requested_bytes_by_category_and_line() -> None:
    peak = known(history(STEP, mark(6, at1="parameter", at5="gradient"), steps=((6, 2),)).peak())
    assert (peak.allocation, peak.step, peak.stack) == (5, 0, ())
    assert peak.requested_bytes == sum(peak.categories.values())
    assert peak.categories == {
        "workspace": 999,
        "parameter": 100,
        "gradient": 100,
        "activation": 40,
        "other": 10,
    }
    places = sorted((group.place, group.requested_bytes) for group in peak.groups)
    assert places == [
        (BACKWARD, 100),
        ("train.py:3 step", 100),
        ("train.py:7 step", 40),
        ("train.py:7 step", 999),
        ("train.py:8 step", 10),
    ]


def test_an_owner_of_another_block_at_the_same_address_does_not_count() -> None:
    events = [
        event("alloc", 1, 100, frame(3)),
        event("free_requested", 1, 100, frame(4)),
        event("alloc", 1, 50, frame(5)),
    ]
    assert known(history(events, mark(2, at1="parameter")).peak()).categories == {"other": 100}


def test_what_a_forward_pass_holds_when_memory_runs_out_is_named() -> None:
    in_forward = (frame(9, "torch.py", "linear"), frame(7, name="forward"), frame(3))
    events = [
        event("alloc", 1, 100, frame(9, "torch.py", "forward"), frame(3)),  # freed in backward
        event("free_requested", 1, 100),
        event("alloc", 2, 40, *in_forward),
        event("alloc", 3, 30, *in_forward),
        event("alloc", 4, 20, frame(4)),
        event("alloc", 5, 10),
        event("oom", 0, 500, *in_forward),
        event("free_requested", 3, 30, frame(12)),  # by the error, on its way up
    ]
    (refused,) = history(events).out_of_memory()
    assert refused.categories == {"forward": 70, "other": 30}
    assert refused.stack[0].line == 7
    assert known(history(events).peak()).categories == {"activation": 100}


THREAD = frame(460, "/site-packages/torch/autograd/function.py", "apply")
BENCHMARK = frame(743, "/site-packages/torch/_inductor/runtime/benchmarking.py", "benchmark_gpu")
COMPILED = [
    event("alloc", 1, 40, frame(7)),  # saved by a compiled forward pass
    event("alloc", 2, 30, frame(9), THREAD),  # of the compiled backward pass
    event("alloc", 3, 5, BENCHMARK, frame(9), THREAD),  # the autotuner's
    event("free_requested", 1, 40, frame(9), THREAD),
    event("free_requested", 2, 30, frame(9), THREAD),
]


def test_what_python_does_in_a_thread_of_autograd_is_named() -> None:
    """Blocks that it frees were saved for the backward pass; the autotuner works for a line."""
    peak = known(history(COMPILED).peak())
    assert peak.categories == {"activation": 40, "other": 35}
    assert {group.place: group.requested_bytes for group in peak.groups} == {
        "train.py:7 step": 40,
        "train.py:9 step": 30,
        "autotuner, for train.py:9 step": 5,
    }


def random_log(seed: int) -> tuple[list[HistoryEvent], list[Mark], list[tuple[int, int]]]:
    """Return events of a program that keeps and frees blocks at random, its marks and steps."""
    random_ = random.Random(seed)
    events: list[HistoryEvent] = []
    marks, steps = list[Mark](), list[tuple[int, int]]()
    alive: dict[int, int] = {}
    allocations = frees = 0
    for at in range(300):
        stack = [
            frame(random_.randrange(4)),
            frame(9, "torch.py", random_.choice(["f", "forward"])),
        ]
        frames = random_.choice([stack, stack, []])
        choice = random_.random()
        if choice < 0.5:
            address = next(one for one in range(1, 400) if one not in alive)
            alive[address] = size = random_.choice([999, 100, 4000, 70])
            events.append(event("alloc", address, size, *frames, at=at))
            allocations += 1
        elif choice < 0.9 and alive:
            address = random_.choice([*alive][-6:])
            size = alive.pop(address)
            events.append(event("free_requested", address, size, *frames, at=at))
            events.append(event("free_completed", address, size, *frames, at=at))
            frees += 1
        elif choice < 0.92:
            events.append(event("oom", 0, 10**6, *stack, at=at))
        elif events:
            owners = {address: random_.choice(OWNERS) for address in [*alive][::3]}
            marks.append(Mark(allocations=allocations, owners=owners))
            steps.append((allocations, frees))
    return events, marks, steps


def place_of(one: HistoryEvent) -> str:
    return f"train.py:{one['frames'][0]['line']} step" if one["frames"] else BACKWARD


@pytest.mark.parametrize("seed", range(20))
def test_events_in_parts_tell_what_they_tell_at_once(seed: int) -> None:
    events, marks, steps = random_log(seed)
    (whole, *others) = (
        history(events, *marks, steps=steps, parts=parts) for parts in (1, 2, 7, 50, len(events))
    )
    told = (whole.peak(), whole.out_of_memory(), whole.phases(), whole.growth())
    for other in others:
        assert (other.peak(), other.out_of_memory(), other.phases(), other.growth()) == told
    lifetimes = find_lifetimes((one["action"], one["addr"]) for one in events)
    peak = known(told[0])
    assert peak.requested_bytes == max(bytes_alive(lifetimes, [one["size"] for one in events]))
    counts = list(itertools.accumulate(int(one["action"] in COUNTED) for one in events))
    assert told[3] == find_growth(
        lifetimes,
        [-(-one["size"] // 512) * 512 for one in events],
        [counts.index(sum(step)) + 1 for step in steps],
        lambda begin: place_of(events[begin]),
    )


def test_a_device_that_allocated_nothing_has_no_phases() -> None:
    assert history([]).phases() == {}
