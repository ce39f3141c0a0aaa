"""Starts a script twice; the second start resumes from the files of the first start."""

import dataclasses
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from harness.dry_runs.child_process import RESUMED_FROM
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.each_rank import RankRuns
from harness.dry_runs.node_host import on_nodes
from harness.dry_runs.opened_files import may_be_resumed_from
from harness.dry_runs.other_runs import OtherRuns
from harness.dry_runs.value_answers import DryRunError
from harness.schema.run_outcome import Outcome

_NOTHING_SAVED = "the first start wrote no file that a second one could resume from"
_NOT_RESUMED = (
    "the script read no file that its first start had written, so it was not resumed: give the"
    " arguments that resume it"
)
_OTHER_RANKS = "with --ranks each rank finds what the others have saved"
_MOST_LAYERS = 100
"""Maximum number of layers, because the kernel limits the sum of path lengths to one page."""
_TOO_MANY = f"of more than {_MOST_LAYERS} ranks that save, none can be resumed: give fewer --ranks"
_WORST_FIRST = ("does not fit", "depends", "unknown", "close call", "fits")


def both_lives(
    request: Request, arguments: tuple[str, ...], ranks: Sequence[int] | None = None
) -> DryRunReport:
    """Run a script, run it again with the files it wrote, and return the worse report.

    Args:
        request: request for the first start.
        arguments: the script's arguments in the second start.
        ranks: pretended ranks to start; at the second start, each rank can read all ranks' files.

    Returns:
        The worse report, with the reports of both starts if there was a second start.
    """
    _check(request)

    def runs_of(one: Request, before: OtherRuns | RankRuns | None = None) -> OtherRuns | RankRuns:
        if ranks is not None:
            return RankRuns(one, ranks, keeps=one is first_request)
        return OtherRuns(one, continues=before if isinstance(before, OtherRuns) else None)

    first_request = dataclasses.replace(request, snapshot=None)
    with runs_of(first_request) as runs:
        first = runs.answer()
        if first.outcome != Outcome.OK:
            return first
        files = frozenset(filter(may_be_resumed_from, _written(first)))
        if not files or len(runs.layers) > _MOST_LAYERS:
            evidence = _TOO_MANY if files else _NOTHING_SAVED
            if not files and request.world_size is not None and ranks is None:
                evidence = f"{evidence}: {_OTHER_RANKS}"
            return replace(first, outcome=Outcome.UNSUPPORTED, evidence=evidence, fit=None)
        second_request = dataclasses.replace(
            request, arguments=arguments, earlier=runs.layers, resumes_from=files
        )
        with runs_of(second_request, runs) as again:
            second = _resumed(again.answer())
            starts = tuple(on_nodes(one, request.gpu.count) for one in (first, second))
    return replace(min(starts, key=_badness), starts=starts)


def _written(report: DryRunReport) -> Iterator[str]:
    """Yield the paths of all files that the ranks of a start wrote."""
    for one in report.ranks or (report,):
        for file in one.files.written if one.files is not None else ():
            if file.size_bytes is not None:
                yield file.path


def _resumed(report: DryRunReport) -> DryRunReport:
    """Return the report; change its outcome to unsupported if the script did not resume."""
    was_resumed = any(note.startswith(RESUMED_FROM) for note in report.notes)
    if was_resumed or report.outcome != Outcome.OK:
        return report
    return replace(report, outcome=Outcome.UNSUPPORTED, evidence=_NOT_RESUMED, fit=None)


def _check(request: Request) -> None:
    if request.kind == "function":
        raise DryRunError("resume needs a script or a module, which starts twice")
    if request.keep_files is not None:
        raise DryRunError("keep files of one start: leave out resume, or the folder")
    if request.write_files:
        raise DryRunError("resume needs the layer of files that write_files does without")


def _badness(report: DryRunReport) -> tuple[bool, int, int, int]:
    """Return a sorting key that is smallest for the worst start."""
    fit = _WORST_FIRST.index(report.fit) if report.fit is not None else -1
    reserved, requested = report.cuda.reserved_peak_bytes, report.cuda.requested_peak_bytes
    return report.outcome == Outcome.OK, fit, -(reserved or 0), -(requested or 0)
