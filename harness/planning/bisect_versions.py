"""Repeats a dry run under several versions of PyTorch, and finds the first difference."""

import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path

from msgspec import Struct, convert

from harness.prediction.torch_environments import python_of
from harness.processes.start_child import own_interpreter
from harness.schema.compilation import Compiled
from harness.schema.units import format_bytes
from harness.snapshots.file_bytes import DEFAULT_SECONDS, Deadline
from harness.snapshots.snapshot import read_recording
from harness.snapshots.trace_event import own_line

_PEAKS = ("requested", "allocated", "reserved")
_MOST_PLACES = 4
Allocation = tuple[int, str]


class VersionAnswer(Struct, frozen=True, kw_only=True):
    """Result of a dry run under one version of PyTorch.

    Attributes:
        torch: version of PyTorch.
        outcome: outcome of the dry run; ``error`` if the dry run printed no result.
        evidence: reason for the outcome, if the outcome is not ``ok``.
        peaks_bytes: peaks of requested, allocated and reserved bytes.
        compiled: summary of what ``torch.compile`` compiled.
        allocations: for each allocation of a script, its size in bytes and its source line.
        places: requested bytes at the peak, for each source line of a script.
    """

    torch: str
    outcome: str
    evidence: str | None = None
    peaks_bytes: dict[str, int | None] = {}
    compiled: str | None = None
    allocations: tuple[Allocation, ...] = ()
    places: dict[str, int] = {}


def ask_versions(
    versions: Sequence[str], arguments: Sequence[str], *, program: str, offline: bool
) -> Iterator[VersionAnswer]:
    """Run ``harness dry-run ARGUMENTS`` under each version, and yield the results.

    ``program`` is the module with the function ``main`` of the command line.
    """
    pythons = {version: python_of(version, offline=offline) for version in versions}
    for version, python in pythons.items():
        with tempfile.TemporaryDirectory() as folder:
            snapshot = Path(folder, "snapshot.pickle")
            command = ["dry-run", "--snapshot", str(snapshot), "--json", *arguments]
            done = subprocess.run(
                [python, *own_interpreter(program, *command)[1:]],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            yield _answer(version, done, snapshot)


def _answer(
    version: str, done: "subprocess.CompletedProcess[str]", snapshot: Path
) -> VersionAnswer:
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        evidence = f"exit code {done.returncode}"
        return VersionAnswer(torch=version, outcome="error", evidence=evidence)
    places: Counter[str] = Counter()
    for device in found.get("devices", ()):
        for group in (device["peak"] or {}).get("groups", ()):
            # Each version has a folder of its own.
            places[group["place"].rpartition("site-packages/")[2]] += group["requested_bytes"]
    compiled = found.get("compiled")
    return VersionAnswer(
        torch=version,
        outcome=found["outcome"],
        evidence=(found.get("evidence") or {}).get("message"),
        peaks_bytes={name: found["cuda"][f"{name}_peak_bytes"] for name in _PEAKS},
        compiled=None if compiled is None else str(convert(compiled, Compiled)),
        allocations=_allocations(snapshot),
        places=dict(places),
    )


def _allocations(snapshot: Path) -> tuple[Allocation, ...]:
    if not snapshot.exists():
        return ()
    events = read_recording(snapshot, Deadline(DEFAULT_SECONDS)).snapshots[0].events
    return tuple((one.size_bytes, own_line(one)) for one in events if one.action == "alloc")


def first_difference(
    answers: Sequence[VersionAnswer],
) -> tuple[VersionAnswer, VersionAnswer] | None:
    """Return the first two consecutive versions whose peaks or outcomes differ."""
    for before, after in pairwise(answers):
        if (before.outcome, before.peaks_bytes) != (after.outcome, after.peaks_bytes):
            return before, after
    return None


def versions_text(answers: Sequence[VersionAnswer]) -> Iterator[str]:
    """Yield lines with a table of peaks, and with the first difference."""
    yield f"{'torch':<8}{'outcome':<14}" + "".join(f"{name:>14}" for name in _PEAKS)
    for answer in answers:
        sizes = [answer.peaks_bytes.get(name) for name in _PEAKS]
        shown = "".join(f"{'' if size is None else format_bytes(size):>14}" for size in sizes)
        compiled = "" if answer.compiled is None else f"  {answer.compiled}"
        yield f"{answer.torch:<8}{answer.outcome:<14}{shown}{compiled}"
        if answer.evidence:
            yield f"        {answer.evidence}"
    pair = first_difference(answers)
    if pair is None and len(answers) == 1 and answers[0].peaks_bytes:
        return
    if pair is None:
        yield "No peak differs." if answers[0].peaks_bytes else "No version gave an answer."
        return
    before, after = pair
    yield f"The first version that differs: {after.torch}, from {before.torch}."
    yield from _first_allocation(before, after)
    changes = Counter(after.places)
    changes.subtract(before.places)
    changed = (change for change in changes.items() if change[1])
    largest = sorted(changed, key=lambda change: -abs(change[1]))
    if largest:
        yield "At the peak:"
    for place, size in largest[:_MOST_PLACES]:
        yield f"    {'+' if size > 0 else '-'}{format_bytes(abs(size)):>10}  {place}"


def _first_allocation(before: VersionAnswer, after: VersionAnswer) -> Iterator[str]:
    if not (before.allocations and after.allocations):
        return
    pairs = zip_longest(before.allocations, after.allocations)
    for number, (one, other) in enumerate(pairs, 1):
        if one is None or other is None or one[0] != other[0]:
            yield f"The first allocation that differs is number {number:,}:"
            for answer, allocation in ((before, one), (after, other)):
                size, place = allocation or (0, "there is none")
                yield f"    torch {answer.torch}: {format_bytes(size)}, {place}"
            return
    yield f"All {len(before.allocations):,} allocations have the same sizes, in the same order."
