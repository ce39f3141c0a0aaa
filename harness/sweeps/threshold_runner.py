"""Finds thresholds, one at a time on this machine."""

from concurrent.futures import Future

from harness.measurement.process.launcher import Launcher, default_launcher
from harness.schema.events import Trace
from harness.schema.record import to_json
from harness.schema.threshold import THRESHOLDS, Threshold, ThresholdQuestion, cell_id, from_json
from harness.sweeps.runner import Runner, ended
from harness.sweeps.store import Kind
from harness.thresholds.enforcement import choose_kind
from harness.thresholds.find_threshold import threshold

THRESHOLD = Kind(file=THRESHOLDS, encode=to_json, decode=from_json, cell=lambda one: one.cell_id)


class ThresholdRunner(Runner[ThresholdQuestion, Threshold]):
    """Answers each question in processes of its own, with a launcher per malloc policy."""

    kind = THRESHOLD
    guess_seconds = 5.0

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self._launchers: dict[str, Launcher] = {}

    def cell_id(self, job: ThresholdQuestion) -> str:
        """Return the name of the question."""
        kind = choose_kind(job.workload, "auto")
        return cell_id(job.workload, job.budget_bytes, "batch", kind)

    def submit(
        self, job: ThresholdQuestion, attempt: int
    ) -> "Future[tuple[Threshold, Trace | None]]":
        """Answer ``job`` now; the future that comes back has ended."""
        malloc = job.workload.malloc
        if malloc not in self._launchers:
            self._launchers[malloc] = default_launcher(malloc)
        return ended(
            threshold(
                job.workload,
                budget_bytes=job.budget_bytes,
                confirmations=job.confirmations,
                deadline_seconds=self._deadline_seconds,
                launcher=self._launchers[malloc],
                attempt=attempt,
            )
        )

    def describe(self, line: Threshold) -> str:
        """Return workload and answer."""
        return f"{line.workload}: {line.answer}"

    def close(self) -> None:
        """End the launchers."""
        for launcher in self._launchers.values():
            launcher.close()
