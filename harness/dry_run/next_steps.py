"""Commands that a user may run next when a script ran out of memory."""

from collections.abc import Callable

from harness.dry_run.dry_run_report import DryRunReport

EXPANDABLE = "expandable_segments:True"


def next_steps(report: DryRunReport, target: str, completes: Callable[[str], bool]) -> list[str]:
    """Return what may help, a line each; nothing where the script did not run out of memory."""
    if report.outcome != "oom":
        return []
    on = f"--gpu {report.gpu}"
    lines = []
    if is_fragmented(report) and completes(EXPANDABLE):
        lines.append(f"PYTORCH_ALLOC_CONF={EXPANDABLE}: tried, and the script fits with it")
    return [
        "Next steps:",
        *(f"  {line}" for line in lines),
        f"  harness dry-run {on} --largest batch {target} --batch {{}}: the largest that fits",
        f"  harness plan FILE.py:NETWORK --input SHAPE {on}: what to change in the step",
    ]


def is_fragmented(report: DryRunReport) -> bool:
    """Return whether the memory would have sufficed for what was refused, in one piece."""
    if not report.out_of_memory or EXPANDABLE in report.environment.values():
        return False
    refused = report.out_of_memory[-1]
    cached = refused.reserved_bytes - refused.allocated_bytes
    return refused.requested_bytes <= cached + refused.free_bytes
