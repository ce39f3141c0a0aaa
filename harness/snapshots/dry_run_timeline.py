"""Timeline of the last step of a dry run, read from the dry run's memory snapshot."""

from dataclasses import replace
from pathlib import Path

from harness.dry_runs.dry_run_report import DryRunReport
from harness.plots.timeline import Timeline
from harness.snapshots.device_history import device_histories
from harness.snapshots.recorded_timeline import recorded_timeline
from harness.snapshots.snapshot import read_recording


def dry_run_timeline(report: DryRunReport, snapshot: Path) -> Timeline:
    """Return the timeline of the last step on the GPU that reserved the most memory."""
    busiest = max(report.devices, key=lambda one: one.peaks.reserved_peak_bytes or 0, default=None)
    device = None if busiest is None else busiest.index
    history = next(iter(device_histories(read_recording(snapshot), device)))
    room = report.gpu_total_bytes - report.outside_bytes[1]
    limits = [(f"room for PyTorch on {report.gpu}", room)]
    return replace(recorded_timeline(history, last_step=True), limits=limits)
