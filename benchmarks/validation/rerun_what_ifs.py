"""Run every what-if of the recorded failures for real, under the dry run, and compare.

    python -m benchmarks.validation.rerun_what_ifs [CASE ...]

For each what-if of ``harness explain`` the program runs again with that setting on a pretended GPU
of that memory. A what-if ends with the request that failed in the recording; the real run is
compared up to the same request, also where it went on. Exit code 1 if anything differs.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.validation.dry_run import DryRun, StubCard
from harness.snapshots import explain_file
from harness.snapshots.snapshot import Snapshot, read_recording
from harness.snapshots.trace_event import SEGMENT_ACTIONS, reserved_change
from harness.snapshots.what_if import WhatIf

MIB = 1 << 20
FAILURES = Path(__file__).parents[2] / "tests" / "snapshots" / "failures"
RECORDER = Path(__file__).with_name("record_failures.py")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recorded failure, the GPU that it was recorded on, and a GPU that it should fit on."""

    name: str
    arguments: tuple[str, ...]
    memory_mib: int
    larger_mib: int


CASES = (
    Case(name="fragmentation", arguments=("fragmentation",), memory_mib=850, larger_mib=1024),
    Case(name="leak", arguments=("leak",), memory_mib=160, larger_mib=250),
    Case(
        name="first-step", arguments=("first-step", "--batch", "64"), memory_mib=76, larger_mib=100
    ),
    Case(name="batch-8192", arguments=("batch", "--batch", "8192"), memory_mib=300, larger_mib=400),
)


def run(case: Case, what: str, folder: Path) -> Snapshot:
    """Run the program as the what-if says; return the recording of it."""
    memory = case.larger_mib if what == "larger" else case.memory_mib
    settings = what if ":" in what else ""
    more = ("--empty-cache",) if what.startswith("empty_cache") else ()
    file = folder / "real.pickle.gz"
    command = [RECORDER, case.arguments[0], file, *case.arguments[1:], *more]
    DryRun().run(command, StubCard(total_bytes=memory * MIB), settings=settings)
    snapshot = read_recording(file).snapshots[0]
    file.unlink()
    return snapshot


def outcome(snapshot: Snapshot, requests: int) -> tuple[str, int]:
    """Return ("fits", peak reserved) up to that many requests, or ("fails", requests served)."""
    reserved = peak = served = 0
    for event in snapshot.events:
        if event.action == "oom":
            return "fails", served
        if event.action in SEGMENT_ACTIONS:
            reserved += reserved_change(event)
            peak = max(peak, reserved)
        served += event.action == "alloc"
        if served == requests:
            return "fits", peak
    raise SystemExit(f"the real run has {served} requests of {requests}")


def said(case: WhatIf, events: Snapshot) -> tuple[str, int]:
    """Return the same of the what-if."""
    if case.ran_out:
        before = events.events[: case.ran_out[0].position]
        return "fails", sum(event.action == "alloc" for event in before)
    assert case.peak_reserved_bytes is not None
    assert case.peak_reserved_bytes[0] == case.peak_reserved_bytes[1]
    return "fits", case.peak_reserved_bytes[0]


def compare(case: Case, folder: Path) -> Sequence[bool]:
    """Compare all what-ifs of a case; print a line for each."""
    path = FAILURES / f"{case.name}.pickle.gz"
    (explanation,) = explain_file(path, gpus={"larger": case.larger_mib * MIB})
    recorded = read_recording(path).snapshots[0]
    requests = (
        1
        + sum(event.action == "alloc" for event in recorded.events[: explanation.failure.position])
        if explanation.failure
        else 0
    )
    equal = []
    for what in explanation.what_ifs:
        ours = said(what, recorded)
        theirs = outcome(run(case, what.name, folder), requests)
        equal.append(ours == theirs)
        word = "equal" if ours == theirs else f"DIFFERS, really {theirs}"
        print(f"{case.name:<14}{what.name:<28}{ours[0]} {ours[1]:>12,}  {word}", flush=True)
    return equal


def main() -> int:
    """Compare the cases that the command line names, or all."""
    chosen = [case for case in CASES if case.name in sys.argv[1:]] or CASES
    with tempfile.TemporaryDirectory() as folder:
        equal = [each for case in chosen for each in compare(case, Path(folder))]
    print(f"{sum(equal)} of {len(equal)} what-ifs equal")
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main())
