"""``harness explain`` explains an out-of-memory message, a log or a memory snapshot."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.command import DONE, harness_command
from harness.cli.gpu_options import GPU
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import SIZE, WholeNumber
from harness.cli.shared_options import replay_deadline, what_if_option
from harness.cli.sheet_output import page_option, print_sheet, write_page

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
)
@click.argument("file", type=_LogOrMessage(exists=True, dir_okay=False, allow_dash=True))
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
    """
    from harness.snapshots.explain import explain_file
    from harness.snapshots.explain_source import explain_log, explain_snapshot, is_message
    from harness.snapshots.file_bytes import is_snapshot

    path = Path(file)
    if file == "-" or is_message(file) or not is_snapshot(path):
        report = explain_log(_log(file))
    else:
        explanations = explain_file(
            path,
            device=device,
            gpus=_gpus(gpus, memory),
            settings=settings,
            deadline_seconds=deadline,
        )
        report = explain_snapshot(explanations)
    if html is not None:
        write_page(html, report.sheet)
    if as_json:
        cause = report.facts.get("cause")
        print_json(report.facts, None if cause is None else str(cause))
    else:
        print_sheet(report.sheet)
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
