"""``harness explain`` explains an out-of-memory message, a log or a memory snapshot."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.command import DONE, harness_command
from harness.cli.gpu_options import GPU
from harness.cli.json_answer import Cause, json_option, print_json
from harness.cli.parameter_types import SIZE, WholeNumber
from harness.cli.shared_options import replay_deadline, what_if_option
from harness.cli.sheet_output import page_option, print_sheet, write_page
from harness.cli.shown_progress import shown_progress

if TYPE_CHECKING:
    from harness.snapshots.log_text import Log


class _LogOrMessage(click.Path):
    """Type of an argument that is a path, an error message, or ``-`` for standard input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from harness.snapshots.explain_source import is_message

        if is_message(value):
            return value
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            rule = "give a log, a memory snapshot, the message in quotes, or - for standard input"
            raise click.UsageError(f"{error.message.rstrip('.')}; {rule}", ctx) from None


@harness_command(
    "harness explain -",
    "harness explain snapshot.pickle --gpu l4 --html page.html",
    "harness explain before.pickle after.pickle",
)
@click.argument("file", type=_LogOrMessage(exists=True, dir_okay=False, allow_dash=True))
@click.argument(
    "other", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False
)
@click.option(
    "--device", type=WholeNumber(0, 1023), help="Explain only the device with this number."
)
@click.option(
    "--gpu",
    "gpus",
    type=GPU,
    metavar="NAME",
    multiple=True,
    help="GPU to check against, e.g. l4; can be given several times.",
)
@click.option(
    "--memory",
    type=SIZE,
    help="Memory to check against, e.g. 24GiB. PyTorch may reserve at most this memory.",
)
@what_if_option
@page_option
@replay_deadline
@json_option
def explain(
    file: str,
    other: Path | None,
    device: int | None,
    gpus: tuple[str, ...],
    memory: int | None,
    settings: str | None,
    html: Path | None,
    deadline: float,
    as_json: bool,
) -> int:
    """Explain why a CUDA program ran out of memory.

    The answer names other settings and GPUs that would help. FILE is a memory snapshot, a log of
    any size, the message in quotes, or - to read a log from standard input. Every failure in a log
    is listed. The last failure is explained. A failure other than out of memory is also explained
    if it ended the run. A snapshot is parsed by a restricted unpickler, which runs no code.

    With a second snapshot OTHER, the command says what grew from FILE to OTHER, by category and by
    line. The snapshots are compared at the peak of the last step that both have.
    """
    if other is not None:
        if gpus or memory is not None or settings is not None:
            raise click.UsageError("two snapshots take no --gpu, --memory or --what-if")
        return _compare(Path(file), other, device, deadline, html, as_json)
    from harness.snapshots.explain import explain_file
    from harness.snapshots.explain_source import explain_log, explain_snapshot, is_message
    from harness.snapshots.file_bytes import is_snapshot

    path = Path(file)
    if file == "-" or is_message(file) or not is_snapshot(path):
        if device is not None or gpus or memory is not None or settings is not None:
            raise click.UsageError(
                "--device, --gpu, --memory and --what-if need a memory snapshot, and this is a log"
            )
        report, method = explain_log(_log(file)), "log"
    else:
        checked = _gpus(gpus, memory)
        with shown_progress("", "the recording is replayed in PyTorch's allocator"):
            explanations = explain_file(
                path, device=device, gpus=checked, settings=settings, deadline_seconds=deadline
            )
        report, method = explain_snapshot(explanations), "recording"
    if html is not None:
        write_page(html, report.sheet)
    if as_json:
        cause = report.facts.get("cause", report.facts.get("diagnosis"))
        facts = {"method": method, **report.facts}
        print_json(facts, None if cause is None else Cause(str(cause)))
    else:
        print_sheet(report.sheet)
    return DONE


def _compare(
    first: Path, second: Path, device: int | None, seconds: float, html: Path | None, as_json: bool
) -> int:
    """Compare two snapshots, and print what grew."""
    from msgspec import to_builtins

    from harness.snapshots.compare_recordings import change_sheet, compare_recordings
    from harness.snapshots.file_bytes import Deadline, is_snapshot

    for path in (first, second):
        if not path.is_file() or not is_snapshot(path):
            raise click.UsageError(f"two files are compared only if both are snapshots, got {path}")
    with shown_progress("", "the recordings are compared"):
        change = compare_recordings(first, second, device=device, deadline=Deadline(seconds))
    if html is not None:
        write_page(html, change_sheet(change))
    if as_json:
        print_json({"method": "recording", **to_builtins(change)}, change.verdict)
    else:
        print_sheet(change_sheet(change))
    return DONE


def _log(file: str) -> "Log":
    """Return the log from a file, from standard input (``-``), or from a quoted message."""
    from harness.snapshots.explain_source import is_message
    from harness.snapshots.log_text import Log, read_log, read_log_file

    if is_message(file):
        return Log(text=file)
    try:
        if file != "-":
            return read_log_file(Path(file))
        if sys.stdin is None:
            raise click.UsageError("cannot read standard input: it is closed")
        return read_log(sys.stdin.buffer)
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror or error}") from None


def _gpus(names: tuple[str, ...], memory: int | None) -> dict[str, int]:
    """Return each GPU's memory in bytes; for a named GPU, without the CUDA context."""
    from harness.prediction.gpu.catalogue import OUTSIDE_BYTES, find
    from harness.schema.units import format_bytes

    room = {} if memory is None else {f"with {format_bytes(memory)}": memory}
    for name in names:
        total = find(name).total_bytes
        if total is None:
            raise click.UsageError(
                f"the total memory of {name} is not known; give --memory, e.g. 24GiB"
            )
        room[f"on {name}"] = total - OUTSIDE_BYTES[1]
    return room
