"""Both lives of a script: its first start, and a second one that resumes from what it saved."""

import dataclasses

from msgspec.structs import replace

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.node_host import on_nodes
from harness.dry_runs.opened_files import may_be_resumed_from
from harness.dry_runs.other_runs import OtherRuns
from harness.dry_runs.value_answers import DryRunError
from harness.schema.run_outcome import Outcome

_NOTHING_SAVED = "the first start wrote no file that a second one could resume from"
_WORST_FIRST = ("does not fit", "depends", "unknown", "close call", "fits")


def both_lives(request: Request, arguments: tuple[str, ...]) -> DryRunReport:
    """Run a script, and again with what it wrote; return the report of the worse start.

    Args:
        request: the first start.
        arguments: the script's arguments in the second one.

    Returns:
        That report, with those of both starts if there were two.
    """
    _check(request)
    first_request = dataclasses.replace(request, snapshot=None)
    with OtherRuns(first_request) as runs:
        first = runs.answer()
        if first.outcome != Outcome.OK:
            return first
        written = first.files.written if first.files is not None else ()
        paths = (file.path for file in written if file.size_bytes is not None)
        files = frozenset(filter(may_be_resumed_from, paths))
        if not files:
            return replace(first, outcome=Outcome.UNSUPPORTED, evidence=_NOTHING_SAVED, fit=None)
        second_request = dataclasses.replace(
            request, arguments=arguments, earlier=runs.layers, resumes_from=files
        )
        with OtherRuns(second_request) as again:
            starts = tuple(on_nodes(one, request.gpu.count) for one in (first, again.answer()))
    return replace(min(starts, key=_badness), starts=starts)


def _check(request: Request) -> None:
    if request.kind == "function":
        raise DryRunError("resume needs a script or a module, which starts twice")
    if request.keep_files is not None:
        raise DryRunError("keep files of one start: leave out resume, or the folder")
    if request.write_files:
        raise DryRunError("resume needs the layer of files that write_files does without")


def _badness(report: DryRunReport) -> tuple[bool, int, int]:
    """Return a key that is least for the worst start."""
    fit = _WORST_FIRST.index(report.fit) if report.fit is not None else -1
    return report.outcome == Outcome.OK, fit, -(report.cuda.reserved_peak_bytes or 0)
