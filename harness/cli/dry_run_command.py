"""``harness dry-run`` runs any PyTorch script on a pretended GPU."""

import importlib.util
import json
import shlex
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import click

from harness.cli.command import DONE, INTERRUPTED, NOT_OK, harness_command
from harness.cli.gpu_options import GPU
from harness.cli.json_answer import Verdict, json_option, print_json
from harness.cli.launched_script import TORCHRUN, LaunchedScript, launched_script
from harness.cli.module_words import RunsModules
from harness.cli.parameter_types import SECONDS, SIZE, WholeNumber
from harness.cli.shared_options import file_option
from harness.cli.sheet_output import page_option, print_sheet, write_page
from harness.cli.torchrun_ranks import all_ranks
from harness.cli.versions_option import ask_each_version
from harness.schema.plain_text import printable

if TYPE_CHECKING:
    from harness.dry_runs.dry_run_report import DryRunReport
    from harness.dry_runs.value_answers import Answer
    from harness.plots.timeline import Timeline
    from harness.schema.run_outcome import Outcome

_TEST_RUNNERS = ("pytest", "unittest")
"""Modules that run tests; ``harness dry-run`` ends with the exit code of a failed test runner."""
_STOPPED = {
    "interrupted": INTERRUPTED,
    "ended by SIGTERM": 128 + signal.SIGTERM,
    "ended by SIGHUP": 128 + signal.SIGHUP,
}


def _answers(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> "dict[str, Answer]":
    """Parse the values of ``--answer``: ``FILE:LINE=ANSWER``, or ANSWER for every other line."""
    from harness.dry_runs.value_answers import check_answers, parse_answer

    answers = dict(parse_answer(value) for value in values)
    check_answers(answers)
    return answers


def _outside(log: Path, given_bytes: int | None) -> int:
    """Read the bytes outside PyTorch's allocator from a log's last out-of-memory message."""
    if given_bytes is not None:
        raise click.UsageError("give --outside or --outside-from, not both")
    from harness.snapshots.file_bytes import SnapshotError
    from harness.snapshots.log_failures import explained, find_failures
    from harness.snapshots.log_text import read_log_file

    try:
        message = explained(find_failures(read_log_file(log)))[0].message
    except SnapshotError as error:
        raise click.UsageError(f"--outside-from: {str(log)!r}: {error}") from None
    if message is None:
        raise click.UsageError(
            f"--outside-from: the last message in {str(log)!r} lacks the memory of PyTorch"
        )
    return max(0, message.total_bytes - message.free_bytes - message.reserved_bytes)


@harness_command(
    "harness dry-run --gpu a100-40gb -- train.py --batch 32",
    "harness dry-run --gpu l4 --snapshot snapshot.pickle -m package.train -- --batch 4",
    'harness dry-run --gpu l4 --largest "batch size" -- train.py --batch {}',
    "harness dry-run --world-size 64 --rank 0 --steps 3 -- train_ddp.py",
    "harness dry-run --world-size 8 --ranks all -- train_pipeline.py",
    "harness dry-run --gpu h100-80gb --steps 3 -- torchrun --nproc-per-node 8 train.py",
    "harness dry-run --gpu h100-80gb -m torch.distributed.run --nproc-per-node 2 train.py",
    "harness dry-run --gpu l4 -m pytest -q test_memory.py",
    "harness dry-run --versions 2.10,2.15 --gpu l4 -- train.py",
    name="dry-run",
    cls=RunsModules,
    context_settings={"allow_interspersed_args": False},
)
@click.option("--gpu", type=GPU, metavar="NAME", help="Pretended GPU, e.g. h100-80gb.  [a100-40gb]")
@click.option(
    "--capability",
    metavar="M.N",
    help="Compute capability of a GPU that is not in the built-in list.",
)
@click.option("--memory", "memory_bytes", type=SIZE, help="Total memory of the GPU, e.g. 80GiB.")
@click.option(
    "--sms",
    "multiprocessors",
    type=WholeNumber(1, 1024),
    help="Number of multiprocessors of the GPU.",
)
@click.option("--gpus", type=WholeNumber(1, 64), default=1, help="Number of equal pretended GPUs.")
@click.option(
    "--outside",
    "outside_bytes",
    type=SIZE,
    help="GPU memory used outside PyTorch's allocator; by default, a range is assumed.",
)
@click.option(
    "--outside-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="LOG",
    help="Read --outside from the last out-of-memory message in LOG, a log from the same GPU.",
)
@click.option(
    "--host-memory",
    "host_memory_bytes",
    type=SIZE,
    help="Memory of the host to check against, e.g. 32GiB; default: the container's limit.",
)
@click.option(
    "--one-pool", is_flag=True, default=None, help="The GPU shares the host's memory, like a GB10."
)
@click.option("--steps", type=WholeNumber(1), help="End the script after N optimizer steps.")
@click.option(
    "--answer",
    "answers",
    multiple=True,
    callback=_answers,
    metavar="[FILE:LINE=]ANSWER",
    help="Value read at FILE:LINE if the GPU value is unknown (default: a made-up number)."
    " For a mask: all, none, a fraction such as 0.25, or the number of kept elements.",
)
@click.option(
    "--compute",
    type=click.Choice(("auto", "all", "none")),
    default="auto",
    help="Values on the GPU to compute with the CPU's kernels: auto stops when a budget of time"
    " and memory is used up, but not in a session of tests.  [auto]",
)
@click.option(
    "--unknown-passes",
    is_flag=True,
    help="Report a test whose outcome is not known as skipped, not as failed.",
)
@click.option(
    "--world-size",
    type=WholeNumber(1),
    help="Pretend a job with this many ranks, and run one of them.",
)
@click.option("--rank", type=WholeNumber(0), default=0, help="Rank to run, with --world-size.")
@click.option(
    "--ranks",
    metavar="all|0,3,7",
    help="Ranks to run, each in a separate run; needs --world-size.",
)
@click.option(
    "--deadline", "deadline_seconds", type=SECONDS, help="Seconds after which the script is ended."
)
@click.option(
    "--compare-eager",
    is_flag=True,
    help="Run the script again without torch.compile, and compare the peaks.",
)
@file_option(
    "--snapshot",
    help_text="Write PyTorch's memory snapshot to FILE, for memory_viz and harness explain.",
)
@page_option
@click.option(
    "--largest",
    metavar="NAME",
    help="Replace {} in ARGUMENTS by the largest number that fits. NAME describes the number.",
)
@click.option(
    "--write-files",
    is_flag=True,
    help="Let the script write real files, with made-up GPU values. By default the"
    " script writes temporary files, which are deleted at the end.",
)
@click.option(
    "--keep-files",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Copy the script's temporary files to DIR, a new or empty folder.",
)
@click.option("--resume", is_flag=True, help="Start the script again, with the files it wrote.")
@click.option(
    "--resume-with",
    metavar="ARGUMENTS",
    help="Like --resume, but with these arguments for the second start, quoted as one word.",
)
@click.option(
    "--versions",
    metavar="LIST",
    help="Run the script under other versions of PyTorch, e.g. 2.8 or 2.10,2.15 or 2.8-2.15, "
    "and compare the results. pip downloads about 3 GB for each version that is not installed.",
)
@click.option("--offline", is_flag=True, help="With --versions, do not install anything.")
@json_option
@click.option("-m", "module", metavar="MODULE", help="Run a module, as python -m does.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] SCRIPT [ARGUMENTS]...")
def dry_run(
    module: str | None,
    command: tuple[str, ...],
    html: Path | None,
    largest: str | None,
    versions: str | None,
    offline: bool,
    as_json: bool,
    **request: Any,
) -> int:
    """Run a PyTorch script on a pretended GPU and report its memory.

    A CUDA build of PyTorch runs the unmodified script with PyTorch's own allocator, dispatcher,
    autograd and optimizers. No GPU is needed. The CPU's kernels compute the values on the GPU, so
    times have no meaning. If the script reads a value that is not computed, it runs again with
    other numbers.

    The exit code is 0 if the script completed. The exit code is 3 if the script failed, ran out of
    memory, does not fit the memory of the GPU or of the host, did not use a GPU, or depends on
    values that only a real GPU can compute. The exit code is 130 after Ctrl-C and 143 after
    SIGTERM. With --versions the exit code is 3 if a peak or an outcome differs. Each version has
    its own environment in your cache folder, with your other packages.
    """
    from harness.cli.next_commands import after_dry_run
    from harness.dry_runs.dry_run_sheet import dry_run_sheet
    from harness.dry_runs.run import dry_run as run

    if module is None:
        _check_script(command)
    if versions is not None or offline:
        return ask_each_version(versions or "", command, offline=offline, as_json=as_json)
    started = _started(module, command, request, is_single=bool(html or largest))
    target, *arguments = started.words
    if (resume_with := request.pop("resume_with")) is not None:
        request["resume"] = _words(resume_with)
    if request["resume"] is not False and (largest is not None or request["compare_eager"]):
        raise click.UsageError("with --resume, leave out --largest and --compare-eager")
    if (outside_from := request.pop("outside_from")) is not None:
        request["outside_bytes"] = _outside(outside_from, request["outside_bytes"])
    request |= {"module": started.is_module}
    if largest is not None:
        if html is not None:
            raise click.UsageError("--html shows a single run; leave out --largest")
        return _print_largest(largest, str(target), arguments, request, as_json=as_json)
    _take_ranks(request)
    following = after_dry_run(command, command[: len(command) - len(arguments)], module)
    with tempfile.TemporaryDirectory() if html is not None else nullcontext("") as folder:
        if html is not None and request["snapshot"] is None:
            request["snapshot"] = Path(folder) / "snapshot.pickle"
        report = run(str(target), *arguments, **request)
        sheet = partial(dry_run_sheet, report, str(target), commands=following)
        if html is not None:
            write_page(html, sheet(timeline=_timeline(report, request["snapshot"])))
    code = _exit_code(report, module, unknown_passes=request["unknown_passes"])
    click.echo()  # the script's own last line may have no end
    if as_json:
        print_json(json.loads(report.to_json()) | {"exit_code": code}, _verdict(report))
    else:
        print_sheet(sheet())
        if report.outcome == "oom":
            click.echo("Next steps:")
            click.echo(printable("\n".join(f"  {one}" for one in following)))
    return code


def _started(
    module: str | None, command: Sequence[str], request: dict[str, Any], *, is_single: bool
) -> LaunchedScript:
    """Return the script that a command starts; set the numbers of GPUs and ranks in ``request``."""
    if request["unknown_passes"] and module not in _TEST_RUNNERS:
        raise click.UsageError(
            f"--unknown-passes needs {' or '.join(f'-m {one}' for one in _TEST_RUNNERS)}"
        )
    if module in _TEST_RUNNERS and request["compute"] == "auto":
        request["compute"] = "all"  # a test that depends on a value fails for no other reason
    words = (module, *command) if module is not None else tuple(command)
    started = launched_script(words, request["gpus"], is_module=module is not None)
    check = _check_module if started.is_module else _check_python
    check(started.words[0])
    if (ranks := started.ranks_of_node) is None:
        return started  # whose script is looked for when the run begins
    if not started.is_module and not Path(started.words[0]).exists():
        raise click.UsageError(f"there is no script {started.words[0]}")
    request["gpus"] = max(request["gpus"], ranks)
    if module == TORCHRUN and started.nodes == 1 and request["world_size"] is None:
        return LaunchedScript(words=words, is_module=True)  # real processes
    if not is_single and (all_of_them := all_ranks(started, words, request)) is not None:
        return all_of_them
    request["world_size"] = request["world_size"] or started.nodes * ranks
    return started


def _take_ranks(request: dict[str, Any]) -> None:
    """Replace the text of ``--ranks`` in the request by a list of ranks."""
    text, size = request["ranks"], request["world_size"]
    if size is None and (text is not None or request["rank"]):
        option = "--rank" if text is None else "--ranks"
        raise click.UsageError(f"{option} needs --world-size N")
    if text is None:
        return
    numbers = [str(one) for one in range(size)] if text == "all" else text.split(",")
    if not all(one.isdecimal() and int(one) < size for one in numbers):
        raise click.UsageError(f"--ranks must be all or ranks from 0 to {size - 1}, got {text!r}")
    request["ranks"] = [int(one) for one in numbers]


def _exit_code(report: "DryRunReport", module: str | None, *, unknown_passes: bool = False) -> int:
    if report.outcome == "killed" and report.evidence in _STOPPED:
        return _STOPPED[report.evidence]
    if module in _TEST_RUNNERS and report.outcome == "error" and report.exit_code:
        return report.exit_code
    is_unknown = not unknown_passes and any(one.outcome == "not known" for one in report.tests)
    survived = report.fit == "does not fit" and report.out_of_memory  # as on a real GPU
    may_fail = report.fit in ("depends", "does not fit") and not survived
    may_fail |= report.host_fit == "does not fit"
    return DONE if report.outcome == "ok" and not may_fail and not is_unknown else NOT_OK


_WORSE: tuple[Verdict, ...] = ("fits", "unknown", "close call", "depends", "does not fit")


def _verdict(report: "DryRunReport") -> "Verdict | Outcome":
    """Return the worse of the verdicts on GPU and host; without them, the outcome of the run."""
    fits = [one for one in (report.fit, report.host_fit) if one is not None]
    if report.outcome not in ("ok", "oom") or report.fit is None:
        return report.outcome
    return max(fits, key=_WORSE.index)


def _check_script(command: Sequence[str]) -> None:
    if not command:
        raise click.UsageError("give a script to run: harness dry-run [OPTIONS] -- train.py")
    if command[0].endswith(".ipynb") and importlib.util.find_spec("IPython") is None:
        raise click.UsageError(f"{command[0]}: a notebook needs IPython: pip install ipython")


def _check_python(name: str) -> None:
    """Refuse a file that Python cannot compile, such as a shell script."""
    script = Path(name)
    if script.suffix == ".ipynb" or not script.is_file() or is_zipfile(script):
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(script.read_bytes(), script.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OSError) as error:
        hint = "" if script.suffix == ".py" else "; give the Python script that it starts or reads"
        raise click.UsageError(f"{script} is no Python script: {error}{hint}") from None


def _check_module(name: str) -> None:
    """Refuse ``-m MODULE`` if there is no such module; no code of the user is imported."""
    first = name.partition(".")[0]
    is_here = first in sys.modules or PathFinder.find_spec(first, [str(Path.cwd())]) is not None
    if not is_here and importlib.util.find_spec(first) is None:
        raise click.UsageError(f"-m {name}: there is no module {first!r} here or installed")


def _words(arguments: str) -> list[str]:
    """Return the arguments in a text as a shell splits them."""
    try:
        return shlex.split(arguments)
    except ValueError as error:
        raise click.UsageError(f"--resume-with: {error}: {arguments}") from None


def _timeline(report: "DryRunReport", snapshot: Path) -> "Callable[[], Timeline] | None":
    """Return a function that returns the timeline; None if no snapshot contains the peak."""
    from harness.snapshots.dry_run_timeline import dry_run_timeline
    from harness.snapshots.file_bytes import SnapshotError

    if report.worse_start == "worse at the first start" or not snapshot.is_file():
        return None
    try:
        drawn = dry_run_timeline(report, snapshot)
    except SnapshotError as error:  # the run is done, and most of its page needs no recording
        click.echo(printable(f"harness: the page has no timeline: {error}"), err=True)
        return None
    return lambda: drawn


def _print_largest(
    name: str, target: str, arguments: list[str], request: dict[str, Any], *, as_json: bool
) -> int:
    """Find and print the largest value for ``{}`` that fits, and return the exit code."""
    from harness.dry_runs.run import dry_run as run
    from harness.dry_runs.script_search import largest_of_script
    from harness.prediction.gpu.catalogue import OUTSIDE_BYTES
    from harness.schema.units import format_bytes

    if not any("{}" in argument for argument in arguments):
        raise click.UsageError("--largest needs {} among the script's arguments, e.g. --batch {}")
    request["outside_bytes"] = request["outside_bytes"] or OUTSIDE_BYTES[1]

    moved = [True]
    """True if unknown GPU values may change a peak; the search then repeats its runs."""

    def tried(value: int) -> "DryRunReport":
        given = [text.replace("{}", str(value)) for text in arguments]
        report = run(target, *given, quiet=True, try_values=moved[0], **request)
        moved[0] &= report.unknown is None or report.unknown.moves
        return report

    def progress(value: int, report: "DryRunReport") -> None:
        reserved = format_bytes(report.cuda.reserved_peak_bytes or 0)
        click.echo(printable(f"{name} {value:,}: {report.outcome}, reserved {reserved}"), err=True)

    def stopped(known: str) -> None:
        click.echo(printable(known or f"no {name} was tried to its end"), err=True)

    search = largest_of_script(name, tried, progress, stopped)
    if as_json:
        answer: dict[str, Any] = {"largest": search.value, "name": name, "tried": search.tried}
        click.echo()  # the script's own last line may have no end
        answer |= {"answer": search.answer(), "report": json.loads(search.report.to_json())}
        print_json(answer, "does not fit" if search.is_found and search.value is None else "fits")
    else:
        click.echo(printable(search.answer()))
    return NOT_OK if search.is_found and search.value is None else DONE
