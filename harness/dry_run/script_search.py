"""The largest value of a script's argument with which it fits, such as its batch size."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.dry_run.dry_run_report import DryRunReport
from harness.dry_run.dry_run_request import DryRunError
from harness.prediction.largest_value import HIGHEST, largest_value, line_meets

START = 4
"""The first value that is tried, and then twice as much."""

Run = Callable[[int], DryRunReport]
Progress = Callable[[int, DryRunReport], object]


@dataclass(frozen=True, kw_only=True)
class LargestValue:
    """A value that fits where the next one does not; both were run."""

    name: str
    value: int | None
    report: DryRunReport
    tried: dict[int, str]

    def answer(self) -> str:
        """Return the answer in one line."""
        gpu = self.report.gpu
        if self.value is None:
            return f"no {self.name} fits on {gpu}"
        if self.value >= HIGHEST:
            return f"{self.name} {self.value:,} fits on {gpu}; no larger one was tried"
        runs = f"{len(self.tried)} dry runs"
        return f"largest {self.name} on {gpu}: {self.value:,}; {self.value + 1:,} fails ({runs})"


def largest_of_script(name: str, run: Run, progress: Progress) -> LargestValue:
    """Return the largest value with which a script fits."""
    reports: dict[int, DryRunReport] = {}

    def report(value: int) -> DryRunReport:
        if value not in reports:
            reports[value] = result = run(value)
            progress(value, result)
            if result.outcome not in ("ok", "oom"):
                why = f"{result.outcome}: {result.evidence or 'no reason is known'}"
                raise DryRunError(f"with {name} {value} the script did not end well: {why}")
        return reports[value]

    def fits(value: int) -> bool:
        return report(value).outcome == "ok" and report(value).fit != "does not fit"

    low = START if fits(START) else 1
    guess = _guess(name, report(START), report(2 * START)) if low == START else 2
    largest = largest_value(fits, low=low, high=HIGHEST, guess=guess)
    return LargestValue(
        name=name,
        value=largest,
        report=report(low if largest is None else largest),
        tried={value: reports[value].outcome for value in sorted(reports)},
    )


def _guess(name: str, first: DryRunReport, second: DryRunReport) -> int:
    """Return where a line through the allocated bytes of both runs meets the GPU's memory."""
    if second.outcome != "ok":
        return START
    totals = [[one.requested_total_bytes for one in each.devices] for each in (first, second)]
    if totals[0] and totals[0] == totals[1]:
        why = f"{START} and {2 * START} make the script allocate the same"
        raise DryRunError(f"{name} does not change what is allocated: {why}; check the arguments")
    before, after = (one.cuda.allocated_peak_bytes or 0 for one in (first, second))
    room = first.gpu_total_bytes - first.outside_bytes[1]
    return line_meets(room, (START, before), (2 * START, after))
