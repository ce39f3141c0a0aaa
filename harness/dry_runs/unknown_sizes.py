"""Answers that depend on values nobody knows: such a run is no answer, or an upper bound.

A script that may decide something by unknown values runs again with other ones
(``trial_values.py``), small and large: if anything that its report states differs, it depends on
them.
"""

from collections.abc import Callable, Sequence

from msgspec.structs import asdict, replace

from harness.dry_runs.dry_run_report import Device, DryRunReport, ValueRead
from harness.dry_runs.trial_values import FIRST, SMALLER
from harness.schema.record import Outcome

MOST_PLACES = 3
Again = Callable[[int, tuple[str, ...]], DryRunReport]
"""Runs the same with the values of a trial, zeros at some places; trial 0 is the run itself."""
_Trial = Callable[[int], DryRunReport]


def unknown_sizes(reads: Sequence[ValueRead]) -> str | None:
    """Return why the run is no answer: a size depends on an unknown value; None if none does."""
    open_sizes = [read for read in reads if read.open_sizes]
    if not open_sizes:
        return None
    named = _listed([f"{read.place} ({', '.join(read.sizes)})" for read in open_sizes])
    most = _answers(open_sizes, "all") if len(open_sizes) <= MOST_PLACES else "--answer all"
    return (
        f"size depends on values at {named}; {most} gives an upper bound, a number the size, a"
        " number below 1 a fraction"
    )


def unknown_decisions(reads: Sequence[ValueRead]) -> str | None:
    """Return why a step that runs once is no answer: unknown values may decide what it does."""
    deciding = [read for read in reads if read.integers]
    return f"sizes may depend on values read at {_named(deciding)}" if deciding else None


def with_values_tried(report: DryRunReport, again: Again) -> DryRunReport:
    """Return the report of a run that read zeros, refused if anything depends on the values."""
    deciding = [read for read in report.value_reads if read.integers]
    if not deciding or report.outcome not in ("ok", "oom", "error"):
        return report
    bounded = tuple(read.place for read in deciding if read.bounded)
    tried = report
    if len(bounded) < len(deciding):
        others = [read for read in deciding if not read.bounded]
        tried = _Trials(report, others, lambda trial: again(trial, bounded)).judged()
    if bounded and tried.outcome in ("ok", "oom"):
        ends = [read for read in deciding if read.bounded]
        tried = _Trials(tried, ends, lambda trial: again(trial, ())).bounded()
    return tried


class _Trials:
    """Runs of one script with other values, and what they say of the first one."""

    def __init__(self, report: DryRunReport, reads: Sequence[ValueRead], again: _Trial) -> None:
        self._report = report
        self._at = _named(reads)
        self._places = _listed([_place(read) for read in reads])
        self._again = again

    def judged(self) -> DryRunReport:
        """Return the report with a note if nothing changes, refused otherwise."""
        trials: Sequence[int] = FIRST
        note = "nothing changes with the values read at {}: other ones were tried"
        if self._report.outcome == "error":  # zero may be an error
            why = f"{self._report.evidence}; values read at {self._at} are not known"
            failed = replace(self._report, evidence=why)
            self._report = self._other(trials[0])
            if self._report.outcome != "ok":
                return failed
            trials = (SMALLER[trials[0]],)
            note = "with 0 at {} the script ends with an error: other values were taken"
        same, second, lengths = [_told(self._report)], None, {self._report.optimizer_steps}
        for trial in trials:
            other = self._other(trial)
            if _told(other) in same:
                continue
            longer = other.optimizer_steps != self._report.optimizer_steps
            if longer and _at_any_length(other) == _at_any_length(self._report):
                lengths.add(other.optimizer_steps)
                continue
            if second is None and other.outcome != "killed" and trials is FIRST:
                second = self._again(0)  # the first run may have filled caches of compiled code
                same.append(_told(second))
            if _told(other) not in same:
                return self._refused(other, second)
        if len(lengths) > 1:
            counts = " or ".join(f"{count:,}" for count in sorted(lengths))
            note = (
                f"values read at {{}} decide that there are {counts} optimizer steps, and no peak"
            )
        return self._with(note.format(self._places))

    def bounded(self) -> DryRunReport:
        """Return the report as an upper bound, if loops that end earlier need no more."""
        other = self._other(FIRST[0])
        if _told(other) == _told(self._report):
            return self._report
        pairs = zip(other.devices, self._report.devices, strict=False)
        peaks = [zip(_peaks(one), _peaks(two), strict=True) for one, two in pairs]
        if other.outcome != "ok" or any(few > most for one in peaks for few, most in one):
            return self._refused(other, None)
        return self._with(
            f"a loop that ends by a value read at {self._places} ran to its end: the peaks are an"
            f" upper bound; if it ends at once, {_difference(other, self._report)}"
        )

    def _with(self, note: str) -> DryRunReport:
        return replace(self._report, notes=(*self._report.notes, note))

    def _other(self, trial: int) -> DryRunReport:
        """Return a run with other values; with smaller ones if these are an error."""
        other = self._again(trial)
        if other.outcome == "error" and trial in SMALLER:
            return self._other(SMALLER[trial])
        return other

    def _refused(self, other: DryRunReport, second: DryRunReport | None) -> DryRunReport:
        why = f"sizes may depend on values read at {self._at}; "
        if other.outcome == "killed":
            why += "the second run was ended"
        elif second is not None and _told(second) != _told(self._report):
            why += "it cannot be tried, because two runs with the same values differ: "
            why += _difference(second, self._report)
        else:
            why = f"size depends on values at {self._at}; with others than 0, "
            why += _difference(other, self._report)
        return replace(self._report, outcome=Outcome.UNSUPPORTED, evidence=why, fit=None)


def _peaks(device: Device) -> list[int]:
    return [size or 0 for size in asdict(device.peaks).values()]


def _told(report: DryRunReport) -> list[tuple[str, object]]:
    """Return all that a report states of the memory, in words and numbers, the foremost first."""
    told: list[tuple[str, object]] = [("outcome", report.outcome)]
    for device in report.devices:
        of = f" of GPU {device.index}" if len(report.devices) > 1 else ""
        told += [
            (f"{name.removesuffix('_bytes').replace('_', ' ')}{of}", size)
            for name, size in asdict(device.peaks).items()
        ]
    told += [("refused allocations", len(report.out_of_memory))]
    told += [("optimizer steps", report.optimizer_steps)]
    for device in report.devices:
        told += [(name, getattr(device, name)) for name in ("ooms", "retries", "segments")]
        told += [("graph pools", device.graph_pool_bytes)]
        if device.peak is not None:
            told += [
                (f"bytes of {one.category} {one.place}", one.requested_bytes)
                for one in device.peak.groups
            ]
        told += [("bytes allocated in all", device.requested_total_bytes)]
        told += [("allocations", device.allocations)]
    return told


def _at_any_length(report: DryRunReport) -> list[tuple[str, object]]:
    """Return the numbers of a report that do not grow with the steps of a run."""
    grows = ("optimizer steps", "bytes allocated in all", "allocations")
    return [one for one in _told(report) if one[0] not in grows]


def _difference(other: DryRunReport, report: DryRunReport) -> str:
    """Return the foremost difference, e.g. ``requested peak is 8,000, not 4,000``."""
    if other.outcome != report.outcome:
        ended = f" ({other.evidence.partition('. ')[0]})" if other.evidence else ""
        return f"the outcome is {other.outcome}{ended}, not {report.outcome}"
    one, two = _told(other), dict(_told(report))
    for name, value in one:
        if two.get(name, 0) != value:
            unit = " B" if isinstance(value, int) and ("peak" in name or "bytes" in name) else ""
            return f"{name}: {_number(value)}{unit}, not {_number(two.get(name, 0))}{unit}"
    return "the order of allocations differs"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _named(reads: Sequence[ValueRead]) -> str:
    """Return the places, and the answer that they want if there is a line to name."""
    lines = [read for read in reads if read.place.rpartition(":")[2].isdecimal()]
    hint = f" ({_answers(lines, 'NUMBER')} gives the value)" if lines else ""
    return _listed([_place(read) for read in reads]) + hint


def _place(read: ValueRead) -> str:
    return f"{read.place} in {read.inside}" if read.inside else read.place


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - MOST_PLACES} more places" if len(places) > MOST_PLACES else ""
    return ", ".join(places[:MOST_PLACES]) + more


def _answers(reads: Sequence[ValueRead], answer: str) -> str:
    """Return the options that answer all reads, to be typed at once."""
    return " ".join(f"--answer {read.place.rpartition('/')[2]}={answer}" for read in reads)


def bounds(reads: Sequence[ValueRead]) -> list[str]:
    """Return notes on the sizes that the user answered, and on guards that are taken to pass."""
    notes = []
    for read in reads:
        if read.sizes and not read.open_sizes:
            upper = "all elements, so the peaks are an upper bound" if read.answer == "all" else ""
            notes.append(
                f"sizes at {read.place} are those of --answer: {upper or f'{read.answer}'}"
            )
    guards = _listed([read.place for read in reads if read.guards])
    return [*notes, f"checks of unknown values are taken to pass at {guards}"] if guards else notes
