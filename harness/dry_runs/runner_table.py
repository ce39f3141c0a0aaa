"""Records the tests that pytest or unittest runs in the script's process, with their memory."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from harness.dry_runs.child_result import StartedResult
from harness.dry_runs.peak_recording import PeakRecording
from harness.dry_runs.ran_test import RanTest
from harness.dry_runs.value_places import made_up_places
from harness.dry_runs.value_reads import ValueReads
from harness.prediction.after_import import after_import, instead
from harness.schema.library_files import is_library

_NOT_PRETENDED = "not supported by harness dry-run"
"""Text of the stub's error for a function that the stub does not implement."""
_ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception): ")


class _Started(NamedTuple):
    """A process's first use of the GPU, its peak, and its lines that used unknown values."""

    at: float
    peak_bytes: int
    lines: tuple[str, ...]


class RunnerTable:
    """Records the tests of pytest and unittest.

    Args:
        reads: the reads of GPU values in this process.
        recording: recording of this process's memory.
    """

    def __init__(self, reads: ValueReads, recording: PeakRecording) -> None:
        self._reads = reads
        self._recording = recording
        self._found: list[tuple[RanTest, list[int], list[int], float]] = []
        self._inside = False

    def watch(self) -> None:
        """Start recording tests when pytest or unittest is imported."""
        after_import("unittest.case", self._watch_unittest)
        after_import("_pytest.runner", self._watch_pytest)

    def _watch_unittest(self, case: ModuleType) -> None:
        @instead(case.TestCase, "run")
        def run(real: Callable[..., Any], test: Any, result: Any = None) -> Any:
            if result is None or self._inside:
                return real(test, result)
            kinds = {"failed": result.failures, "skipped": result.skipped}
            before = {name: len(found) for name, found in kinds.items()}
            errors = len(result.errors)
            with self._one(test.id()) as ended:
                done = real(test, result)
                for name, found in (*kinds.items(), ("failed", result.errors)):
                    if len(found) > (errors if found is result.errors else before[name]):
                        ended[:] = name, _last_line(str(found[-1][1]))
            return done

    def _watch_pytest(self, runner: ModuleType) -> None:
        @instead(runner, "runtestprotocol")
        def run(real: Callable[..., Any], item: Any, *rest: Any, **named: Any) -> Any:
            with self._one(item.nodeid) as ended:
                reports = real(item, *rest, **named)
                for one in reports:
                    if one.outcome != "passed":
                        reason = one.longrepr
                        crash = getattr(reason, "reprcrash", None)
                        text = reason[-1] if isinstance(reason, tuple) else str(reason)
                        said = _first_line(crash.message) if crash else _last_line(text)
                        ended[:] = one.outcome, said
            return reports

    @contextmanager
    def _one(self, name: str) -> Iterator[list[Any]]:
        ended: list[Any] = ["passed", None]
        self._inside = True
        uses = self._reads.uses.copy()
        first, begin, clock = self._recording.border(), time.monotonic(), time.time()
        try:
            yield ended
        except BaseException as error:  # an interrupt: the deadline, or Ctrl-C
            ended[:] = "failed", f"the test did not end: {type(error).__name__}"
            raise
        finally:
            self._inside = False
            outcome, why = ended
            uses = self._reads.uses - uses
            outcome, why = _refused(outcome, why, uses)
            seconds = time.monotonic() - begin
            run = RanTest(
                name=name, outcome=outcome, why=why, seconds=seconds, uses_values=bool(uses)
            )
            self._found.append((run, first, self._recording.border(), clock))

    def tests(self, processes: Path) -> tuple[RanTest, ...]:
        """Return the tests with their memory; call this after the recording has ended.

        Args:
            processes: folder with the results of the processes that the script started.
        """
        started = list(_started(processes))
        return tuple(self._complete(*one, started) for one in self._found)

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
        outcome, why = _refused(run.outcome, run.why, lines)
        return msgspec.structs.replace(
            run,
            outcome=outcome,
            why=why,
            requested_peak_bytes=peak or None,
            uses_values=run.uses_values or bool(lines),
        )


def _refused(outcome: Any, why: str | None, lines: Iterable[str]) -> tuple[Any, str | None]:
    """Return the outcome and its reason; ``refused`` if the dry run cannot decide the outcome.

    Uses in library code, such as PyTorch's checks of values, matter only if the test failed.
    """
    if outcome == "failed" and _NOT_PRETENDED in (why or ""):
        return "refused", why
    users = [line for line in lines if outcome == "failed" or not is_library(line)]
    if not users or outcome == "skipped":
        return outcome, why
    line = min(users, key=is_library)
    return "refused", f"decided by values that nobody knows, at {line}"


def _first_line(message: str) -> str:
    """Return the first line of an error, or the last line that names a nested error."""
    first, *others = message.splitlines() or [""]
    errors = [one for one in others if _ERROR.match(one)] if first.endswith(":") else []
    return errors[-1] if errors else first


def _last_line(text: str) -> str:
    return ([line for line in text.splitlines() if line.strip()] or [""])[-1].strip()


def _started(folder: Path) -> Iterator[_Started]:
    """Yield the started processes that used the GPU."""
    for begun in folder.glob("*.begun"):
        at, result = begun.stat().st_mtime, begun.with_suffix(".json")
        if result.exists():
            inside = msgspec.json.decode(result.read_bytes(), type=StartedResult).inside
            peaks = [one.peaks.requested_peak_bytes or 0 for one in inside.devices]
            yield _Started(at, max(peaks, default=0), made_up_places(inside.value_reads))
        elif begun.with_suffix(".used").exists():
            yield _Started(at, 0, (f"{begun.read_text()}, which left no report",))
