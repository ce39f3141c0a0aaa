"""Records the tests that pytest or unittest runs in the script's process, with their memory."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from harness.dry_runs.child_result import StartedResult
from harness.dry_runs.peak_recording import PeakRecording
from harness.dry_runs.ran_test import NOT_KNOWN, Ended, RanTest
from harness.dry_runs.runner_files import RunnerFiles
from harness.dry_runs.value_places import made_up_places
from harness.dry_runs.value_reads import ValueReads
from harness.prediction.after_import import after_import, instead
from harness.schema.library_files import is_library

_NOT_PRETENDED = "not supported by harness dry-run"
"""Text of the stub's error for a function that the stub does not implement."""
_ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception): ")


class _Started(NamedTuple):
    """A process's first use of the GPU, its peak, its uses of unknown values, and its tests."""

    at: float
    peak_bytes: int
    lines: tuple[str, ...]
    tests: tuple[RanTest, ...] = ()


class RunnerTable:
    """Records the tests of pytest and unittest.

    Args:
        reads: the reads of GPU values in this process.
        recording: recording of this process's memory.
        processes: folder with the results of the processes that the tests start.
        unknown_passes: whether a test whose outcome is not known counts as skipped, not as failed.
    """

    def __init__(
        self,
        reads: ValueReads,
        recording: PeakRecording,
        processes: Path,
        *,
        unknown_passes: bool = False,
    ) -> None:
        self._reads = reads
        self._recording = recording
        self._processes = processes
        self._unknown_passes = unknown_passes
        self._found: list[tuple[RanTest, list[int], list[int], float]] = []
        self._test: _Test | None = None
        self.kept = RunnerFiles()

    def watch(self) -> None:
        """Start recording tests when pytest or unittest is imported."""
        after_import("unittest.case", self._watch_unittest)
        after_import("_pytest.runner", self._watch_pytest)
        self.kept.watch()

    def _watch_unittest(self, case: ModuleType) -> None:
        @instead(case.TestCase, "run")
        def run(real: Callable[..., Any], test: Any, result: Any = None) -> Any:
            if result is None or self._test is not None:
                return real(test, result)
            failed = [result.failures, result.errors, getattr(result, "unexpectedSuccesses", [])]
            lists = [("failed", one, len(one)) for one in failed]
            lists.append(("skipped", result.skipped, len(result.skipped)))
            with self._one(test.id()) as ended:
                done = real(test, result)
                for outcome, one, count in lists:
                    if len(one) > count:
                        said = one[-1][1] if isinstance(one[-1], tuple) else "unexpected success"
                        ended.end(outcome, _last_line(str(said)))
                has_failed = ended.outcome == "failed"
                if (why := self._not_known(ended)) is not None and self._unknown_passes:
                    for _, one, count in lists:
                        del one[count:]
                    result.addSkip(test, why)
                elif why is not None and not has_failed:
                    result.addFailure(test, (AssertionError, AssertionError(why), None))
            return done

    def _watch_pytest(self, runner: ModuleType) -> None:
        @instead(runner, "runtestprotocol")
        def run(real: Callable[..., Any], item: Any, *rest: Any, **named: Any) -> Any:
            with self._one(item.nodeid):
                return real(item, *rest, **named)

        @instead(runner.TestReport, "from_item_and_call")
        def report_of(real: Callable[..., Any], item: Any, call: Any) -> Any:
            report = real(item, call)
            if self._test is None:  # the test that begins to use the GPU in a worker of pytest
                self._test = _Test(item.nodeid)
            self._judge(self._test, item, report)
            if self._test.is_first and report.when == "teardown":
                self._end(self._test)
            return report

    def _judge(self, test: "_Test", item: Any, report: Any) -> None:
        """Note the outcome of one phase of a test; pytest reports the phase if it is not known."""
        if report.outcome != "passed" and test.outcome != NOT_KNOWN:
            reason = report.longrepr
            crash = getattr(reason, "reprcrash", None)
            text = reason[-1] if isinstance(reason, tuple) else str(reason)
            test.end(report.outcome, _first_line(crash.message) if crash else _last_line(text))
        if report.when == "setup" and report.outcome == "passed":
            return
        if test.outcome != NOT_KNOWN and (why := self._not_known(test)) is not None:
            if self._unknown_passes:
                path, line, _ = item.location
                report.outcome, report.longrepr = "skipped", (path, (line or 0) + 1, why)
            elif report.outcome == "failed":
                report.sections.append((NOT_KNOWN, why))
            else:
                report.outcome, report.longrepr = "failed", why

    def _not_known(self, test: "_Test") -> str | None:
        """Return why the outcome of a running test is not known; None if it is known."""
        uses = self._reads.uses - test.uses
        started = [line for one in _started(self._processes, test.clock) for line in one.lines]
        outcome, why = _known(test.outcome, test.why, [*uses, *started])
        test.end(outcome, why)
        return f"{NOT_KNOWN}: {why}" if outcome == NOT_KNOWN else None

    @contextmanager
    def _one(self, name: str) -> Iterator["_Test"]:
        test = _Test(name, self._reads.uses.copy(), self._recording.border(), is_first=False)
        self._test = test
        try:
            yield test
        except BaseException as error:  # an interrupt: the deadline, or Ctrl-C
            test.end("failed", f"the test did not end: {type(error).__name__}")
            raise
        finally:
            self._end(test)

    def _end(self, test: "_Test") -> None:
        self._test = None
        uses = self._reads.uses - test.uses
        outcome, why = _known(test.outcome, test.why, uses)
        run = RanTest(
            name=test.name,
            outcome=outcome,
            why=why,
            seconds=time.time() - test.clock,
            uses_values=bool(uses),
        )
        self._found.append((run, test.first, self._recording.border(), test.clock))

    def tests(self) -> tuple[RanTest, ...]:
        """Return this process's tests with their memory; call this after the recording's end."""
        started = list(_started(self._processes))
        return tuple(self._complete(*one, started) for one in self._found)

    def all_tests(self) -> tuple[RanTest, ...]:
        """Return also the tests of started processes, such as workers of pytest-xdist."""
        others = (test for one in _started(self._processes) for test in one.tests)
        return (*self.tests(), *others)

    def _complete(
        self,
        run: RanTest,
        first: list[int],
        last: list[int],
        clock: float,
        started: Sequence[_Started],
    ) -> RanTest:
        """Return a test with its peak, which includes the processes that the test started."""
        mine = [one for one in started if clock <= one.at <= clock + run.seconds]
        borders = zip(self._recording.histories, first or [0] * len(last), last, strict=False)
        peaks = [history.most_between(begin, end) for history, begin, end in borders]
        peak = max((*peaks, *(one.peak_bytes for one in mine)), default=0)
        lines = [line for one in mine for line in one.lines]
        outcome, why = _known(run.outcome, run.why, lines)
        return msgspec.structs.replace(
            run,
            outcome=outcome,
            why=why,
            requested_peak_bytes=peak or None,
            uses_values=run.uses_values or bool(lines),
        )


@dataclass
class _Test:
    """A test that runs: its outcome so far, and what the process had used at its begin."""

    name: str
    uses: Counter[str] = field(default_factory=Counter)
    first: list[int] = field(default_factory=list)
    is_first: bool = True
    clock: float = field(default_factory=time.time)
    outcome: Ended = "passed"
    why: str | None = None

    def end(self, outcome: Any, why: str | None) -> None:
        self.outcome, self.why = outcome, why


def _known(outcome: Any, why: str | None, lines: Iterable[str]) -> tuple[Any, str | None]:
    """Return the outcome and its reason; ``not known`` if the dry run cannot decide the outcome.

    Uses in library code, such as PyTorch's checks of values, matter only if the test failed.
    """
    if outcome == "failed" and _NOT_PRETENDED in (why or ""):
        return NOT_KNOWN, why
    users = [line for line in lines if outcome == "failed" or not is_library(line)]
    if not users or outcome in ("skipped", NOT_KNOWN):
        return outcome, why
    line = min(users, key=is_library)
    return NOT_KNOWN, f"decided by values that nobody knows, at {line}"


def _first_line(message: str) -> str:
    """Return the first line of an error, or the last line that names a nested error."""
    first, *others = message.splitlines() or [""]
    errors = [one for one in others if _ERROR.match(one)] if first.endswith(":") else []
    return errors[-1] if errors else first


def _last_line(text: str) -> str:
    return ([line for line in text.splitlines() if line.strip()] or [""])[-1].strip()


def _started(folder: Path, since: float = 0.0) -> Iterator[_Started]:
    """Yield the started processes that used the GPU for the first time after ``since``."""
    for begun in folder.glob("*.begun"):
        at, result = begun.stat().st_mtime, begun.with_suffix(".json")
        if at < since:
            continue
        if result.exists():
            inside = msgspec.json.decode(result.read_bytes(), type=StartedResult).inside
            peaks = [one.peaks.requested_peak_bytes or 0 for one in inside.devices]
            places = made_up_places(inside.value_reads)
            yield _Started(at, max(peaks, default=0), places, inside.tests)
        elif begun.with_suffix(".used").exists():
            yield _Started(at, 0, (f"{begun.read_text()}, which left no report",))
