"""Collects the results of all processes that used the GPUs in a dry run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.dry_runs.child_result import ChildResult, StartedResult
from harness.dry_runs.computing import computed_together
from harness.dry_runs.dry_run_report import Device, ValueRead
from harness.dry_runs.dry_run_request import PROCESSES
from harness.dry_runs.gpu_process import GpuProcess, SharedGpu
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.dry_runs.status_page import StatusPage
from harness.schema.memory_fit import fit_of
from harness.schema.metrics import CudaPeaks
from harness.schema.units import format_bytes

SCRIPT = "script"
"""Name of the process that runs the script."""
_MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class RealProcesses:
    """Results of all processes of a run.

    Attributes:
        seen: joined result of all processes, with the peaks of the largest process.
        rows: processes that used a GPU, the largest first; empty if no started process used a GPU.
        shared: for each GPU, the peak memory of all processes together.
        unknown: reason why the peaks are unknown although the script ended normally, or None.
    """

    seen: ChildResult
    rows: tuple[GpuProcess, ...] = ()
    shared: tuple[SharedGpu, ...] = ()
    unknown: str | None = None


@dataclass(frozen=True, kw_only=True)
class _One:
    name: str
    pid: int
    driver: tuple[int, ...]
    """Peak of each GPU in bytes, as counted by the driver stub."""
    seen: ChildResult | None
    notes: tuple[str, ...] = ()
    has_decided: bool = False

    @property
    def largest(self) -> CudaPeaks:
        known = [device.peaks for device in self.seen.devices] if self.seen is not None else []
        given = CudaPeaks(reserved_peak_bytes=max(self.driver))
        return max(known, key=lambda one: one.reserved_peak_bytes or 0, default=given)


def real_processes(
    folder: Path, inside: ChildResult, page: StatusPage, gpu: PretendedGpu
) -> RealProcesses:
    """Return the joined results of all processes.

    Args:
        folder: the folder of the run.
        inside: result of the script's own process.
        page: counters of the driver stub.
        gpu: the pretended GPU.
    """
    found = list(_started(folder / PROCESSES, page))
    recorded = {one.pid for one in found}
    unrecorded = [page.program(pid) for pid in page.others if pid not in recorded]
    found = [one for one in found if any(one.driver) or (one.seen and one.seen.out_of_memory)]
    if not found and not unrecorded and not page.crowded:
        return RealProcesses(seen=inside)
    if any(page.peaks):
        own = None if inside.ended == "lost" else inside
        found.append(_One(name=SCRIPT, pid=page.pid, driver=page.peaks, seen=own))
    found.sort(key=lambda one: (-(one.largest.reserved_peak_bytes or 0), len(one.name), one.name))
    seen = _joined(inside, [one for one in found if one.seen is not None])
    return RealProcesses(
        seen=seen,
        rows=tuple(_row(one, gpu) for one in found),
        shared=tuple(_shared(page, gpu, seen.devices)),
        unknown=_unknown(unrecorded, page, found),
    )


def _started(folder: Path, page: StatusPage) -> Iterator[_One]:
    """Yield the started processes in which a recording began."""
    nothing = (0,) * len(page.peaks)
    for begun in sorted(folder.glob("*.begun")):
        pid, result = int(begun.stem), begun.with_suffix(".json")
        driver = page.others.get(pid, nothing)
        if result.exists():
            one = msgspec.json.decode(result.read_bytes(), type=StartedResult)
            yield _One(name=one.name, pid=pid, driver=driver, seen=one.inside, notes=one.notes)
        else:
            used = begun.with_suffix(".used").exists()
            yield _One(
                name=begun.read_text() or page.program(pid),
                pid=pid,
                driver=driver,
                seen=None,
                has_decided=used,
            )


def _joined(inside: ChildResult, found: Sequence[_One]) -> ChildResult:
    """Return the joined result of all processes, with the GPU results of the largest process."""
    if not found:
        return inside
    seen = [one.seen for one in found if one.seen is not None]
    others = [one for one in seen if one is not inside]
    computed = [one.computed for one in (inside, *others) if one.computed is not None]
    pinned = [one.pinned_bytes for one in (inside, *others) if one.pinned_bytes is not None]
    return replace(
        inside,
        devices=seen[0].devices,
        gpus=seen[0].gpus,
        out_of_memory=tuple(one for result in seen for one in result.out_of_memory),
        value_reads=_reads([inside, *others]),
        notes=tuple(dict.fromkeys([*inside.notes, *(n for one in found for n in one.notes)])),
        optimizer_steps=max(one.optimizer_steps for one in (inside, *others)),
        computed=computed_together(computed) if computed else None,
        history_bytes=sum(one.history_bytes for one in (inside, *others)),
        unwritten_pinned_bytes=sum(one.unwritten_pinned_bytes for one in (inside, *others)),
        pinned_bytes=(sum(one[0] for one in pinned), sum(one[1] for one in pinned))
        if pinned
        else None,
        environment={**seen[0].environment, **inside.environment},
    )


def _reads(results: Sequence[ChildResult]) -> tuple[ValueRead, ...]:
    """Return the places that read values, with the counts of all processes added up."""
    places: dict[str, ValueRead] = {}
    for read in (read for result in results for read in result.value_reads):
        before = places.get(read.place)
        places[read.place] = read if before is None else _added(before, read)
    return tuple(sorted(places.values(), key=lambda read: (-read.count, read.place)))


def _added(one: ValueRead, other: ValueRead) -> ValueRead:
    counts = ("count", "bytes", "known", "open_sizes", "numbers", "integers")
    return replace(
        one,
        **{name: getattr(one, name) + getattr(other, name) for name in counts},
        sizes=tuple(sorted({*one.sizes, *other.sizes})),
        lines=tuple(sorted({*one.lines, *other.lines})),
    )


def _row(one: _One, gpu: PretendedGpu) -> GpuProcess:
    reserved = one.largest.reserved_peak_bytes or 0
    refused = one.seen is not None and bool(one.seen.out_of_memory)
    fits = reserved + gpu.outside_bytes[1] <= gpu.total_bytes
    return GpuProcess(
        name=one.name,
        pid=one.pid,
        gpus=tuple(index for index, peak in enumerate(one.driver) if peak),
        cuda=one.largest,
        fit=fit_of(in_every_case=fits and not refused, in_some_case=not refused),
        optimizer_steps=0 if one.seen is None else one.seen.optimizer_steps,
        lost=one.seen is None,
    )


def _shared(page: StatusPage, gpu: PretendedGpu, largest: Sequence[Device]) -> Iterator[SharedGpu]:
    """For each GPU, yield the peak of all processes together, and whether this peak fits."""
    kept = max((device.kept_by_works for device in largest), default=0)
    for index, (held, processes) in enumerate(page.together):
        most = held + processes * (gpu.outside_bytes[1] + kept)
        if held:
            yield SharedGpu(
                index=index,
                processes=processes,
                held_bytes=held,
                fit=fit_of(in_every_case=most <= gpu.total_bytes, in_some_case=True),
            )


def _unknown(unrecorded: Sequence[str], page: StatusPage, found: Sequence[_One]) -> str | None:
    """Return why the peaks are unknown although the run ended normally; None if they are known."""
    if unrecorded or page.crowded:
        held = format_bytes(max(held for held, _ in page.together))
        count = len(unrecorded) + page.crowded
        return (
            f"the GPU was used by {count} process{'es' * (count > 1)} whose allocator was not"
            f" recorded: {_named(unrecorded)}; together all held {held} at most, as the driver"
            " counts"
        )
    if decided := [one.name for one in found if one.has_decided]:
        return (
            f"{_named(decided)} may have decided by values that nobody knows, and ended without a"
            " report of its own"
        )
    for one in found:
        if one.seen is not None and (why := uncounted(one.seen, one.driver)):
            return f"{one.name}: {why}"
    return None


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def uncounted(inside: ChildResult, driver: Sequence[int]) -> str | None:
    """Return why the allocator's peaks do not match the driver stub's count; None if they match.

    Args:
        inside: result of the process.
        driver: peak of each GPU in bytes, as counted by the driver stub.
    """
    places = inside.gpus or range(len(inside.devices))
    known = dict(zip(places, (device.peaks for device in inside.devices), strict=False))
    freed = inside.out_of_memory or any(device.retries for device in inside.devices)
    for index, given in enumerate(driver):
        peaks = known.get(index, CudaPeaks())
        reserved, requested = peaks.reserved_peak_bytes, peaks.requested_peak_bytes
        if reserved is None and given:
            why = "; ".join(inside.notes) or "PyTorch's allocator gave none"
            return f"the peaks of {format_bytes(given)} that were allocated are not known: {why}"
        # An attempt that failed and was made again has held more for a moment.
        if not freed and max(given, requested or 0) > (reserved or 0):
            return (
                f"{format_bytes(max(given, requested or 0))} of the GPU's memory was allocated, of"
                f" which PyTorch's caching allocator counted {format_bytes(reserved or 0)}: the"
                " rest is in no peak (is its caching off, or did another library allocate?)"
            )
    return None
