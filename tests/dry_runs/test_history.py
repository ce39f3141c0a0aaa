from harness.dry_runs.dry_run_report import BlockCategory
from harness.dry_runs.history import BACKWARD, History, HistoryEvent, HistoryFrame, Mark
from tests.known import known


def frame(line: int, file: str = "train.py", name: str = "step") -> HistoryFrame:
    return {"filename": file, "line": line, "name": name}


def event(action: str, address: int, size: int, *frames: HistoryFrame, at: int = 0) -> HistoryEvent:
    return {"action": action, "addr": address, "size": size, "time_us": at, "frames": list(frames)}


def history(events: list[HistoryEvent], *marks: Mark, steps: tuple[int, ...] = ()) -> History:
    return History(
        events=events,
        marks=marks,
        steps=steps,
        workspace_bytes=999,
        own=lambda file: file == "torch.py" or "/torch/" in file,
    )


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
    peak = known(history(STEP, mark(6, at1="parameter", at5="gradient"), steps=(6,)).peak())
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
