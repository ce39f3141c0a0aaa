"""The command line: arguments, printing, exit codes. Heavy imports wait inside commands.

Exit codes: 0 done; 1 our fault; 2 the user's mistake; 3 a measurement ended in an outcome
other than ok; 130 interrupted.
"""

import dataclasses
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import harness
from harness.schema.errors import HarnessError
from harness.schema.units import parse_bytes
from harness.schema.workload import Workload, WorkloadError

if TYPE_CHECKING:
    from harness.schema.experiment import Size

EXIT_OUTCOME = 3
EXIT_INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])


def _widths(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Read widths such as ``512,256,128``."""
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        rule = f"{value!r}: whole numbers with commas between, such as 512,256"
        raise click.BadParameter(rule, context, parameter) from None


def _size_in_bytes(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | None:
    """Read a size such as ``256MiB``."""
    if value is None:
        return None
    try:
        return parse_bytes(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def _seconds(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse a deadline that is none, NaN included."""
    if not 0.1 <= value <= 1e6:
        rule = f"{value}: seconds from 0.1 to 1000000"
        raise click.BadParameter(rule, context, parameter)
    return value


_deadline_option = click.option(
    "--deadline",
    type=float,
    default=600.0,
    callback=_seconds,
    help="Seconds that one process may take  [600]",
)


def _type_of(item: "dataclasses.Field[Any]") -> type:
    """Return what a flag's text is read as."""
    if "share" in item.metadata:
        return float
    return int if "range" in item.metadata else str


def workload_options(command: Command) -> Command:
    """Give a command one flag per field of ``Workload``; it receives them as ``flags``."""
    for item in reversed(dataclasses.fields(Workload)):
        choices = item.metadata.get("choices")
        text = item.metadata["help"]
        if choices:
            text += f": {', '.join(choices)}"
        if item.default not in (None, ()):
            text += f"  [{item.default}]"
        option = click.option(
            "--" + item.name.replace("_", "-"),
            item.name,
            type=_type_of(item),
            callback=_widths if item.name == "hidden" else None,
            metavar="WIDTHS" if item.name == "hidden" else None,
            help=text,
        )
        command = option(command)
    return command


def _workload(flags: dict[str, Any]) -> Workload:
    """Return the workload that the flags given describe.

    Raises:
        WorkloadError: a value breaks its rule, or depth and hidden contradict each other.

    """
    given = {name: value for name, value in flags.items() if value is not None}
    if "hidden" in given and given.get("depth", len(given["hidden"])) != len(given["hidden"]):
        raise WorkloadError("depth", given["depth"], f"--hidden gives {len(given['hidden'])}")
    if "hidden" in given and "width" in given:
        raise WorkloadError("width", given["width"], "give --hidden or --width, not both")
    return Workload(**given)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: harness measure --depth 8 --width 256 --batch 512",
)
@click.version_option(harness.__version__, prog_name="harness")
@click.option("--debug", is_flag=True, help="Show a traceback where the fault is the harness's.")
def app(debug: bool) -> None:
    """Where does the memory of training a multilayer perceptron go, and when does it run out?"""
    del debug  # read in main, which catches the errors


@app.command(epilog="Example: harness measure --depth 8 --batch 512 --optimizer adam --json")
@workload_options
@click.option("--repeats", type=click.IntRange(1, 1000), default=3, show_default=True)
@_deadline_option
@click.option("--json", "as_json", is_flag=True, help="Print the record as one line of JSON.")
@click.option("--inject", type=click.Choice(["kill", "hang", "error", "oom"]), hidden=True)
def measure(repeats: int, deadline: float, as_json: bool, inject: str | None, **flags: Any) -> int:
    """Measure one training step, isolated in processes of its own."""
    from harness.measurement.measure import measure as run
    from harness.schema.record import Outcome, to_json

    record = run(_workload(flags), repeats=repeats, deadline_seconds=deadline, inject=inject)
    if as_json:
        click.echo(to_json(record).decode())
    else:
        from harness.reporting.terminal import print_record

        print_record(record)
    return 0 if record.outcome is Outcome.OK else EXIT_OUTCOME


@app.command(
    epilog="Examples: harness predict --depth 8 --batch 512 --budget 24GiB;"
    " harness predict --device cuda --gpu l4 --depth 8 --width 4096 --optimizer adam"
)
@workload_options
@click.option("--budget", callback=_size_in_bytes, metavar="SIZE", help="Does it fit, such as 8GiB")
@click.option("--gpu", metavar="CARD", help="Does it fit on a100-80gb, h100-80gb, l4, rtx4090, ...")
@click.option("--capability", metavar="M.N", help="Of a card that has no name here, such as 9.0")
@click.option("--memory", callback=_size_in_bytes, metavar="SIZE", help="Its total, such as 80GiB")
@click.option("--alloc-conf", default="", metavar="SETTINGS", help="As in PYTORCH_ALLOC_CONF")
@click.option(
    "--examples", type=click.IntRange(1, 2**63 - 1), help="Of a run; its last batch, on CUDA"
)
@click.option("--json", "as_json", is_flag=True, help="Print the forecast as one line of JSON.")
def predict(
    budget: int | None,
    gpu: str | None,
    capability: str | None,
    memory: int | None,
    alloc_conf: str,
    examples: int | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Predict the same figures without running anything; on CUDA without a GPU.

    cuBLAS's workspaces are those of CUBLAS_WORKSPACE_CONFIG, where the environment has it.
    """
    from harness.prediction.gpu.catalogue import described
    from harness.prediction.predict_workload import predict as run
    from harness.schema.record import to_json

    asked = any(value is not None for value in (gpu, capability, memory))
    forecast = run(
        _workload(flags),
        budget_bytes=budget,
        gpu=described(gpu, capability, memory) if asked else None,
        allocator_settings=alloc_conf,
        examples=examples,
    )
    if as_json:
        click.echo(to_json(forecast).decode())
    else:
        from harness.reporting.terminal import print_record

        print_record(forecast)
    return 0


@app.command(epilog="Example: harness threshold --depth 8 --width 256 --budget 256MiB")
@workload_options
@click.option(
    "--budget",
    callback=_size_in_bytes,
    metavar="SIZE",
    help="Such as 256MiB; left out on a GPU: all that is free of the card.",
)
@click.option(
    "--solve",
    type=click.Choice(["batch", "depth", "width"]),
    default="batch",
    show_default=True,
    help="What to make as large as will fit.",
)
@click.option(
    "--kind",
    type=click.Choice(["auto", "rlimit", "cgroup", "allocator"]),
    default="auto",
    show_default=True,
    help="How the budget is enforced: refused, killed, or (CUDA) the allocator's share.",
)
@_deadline_option
@click.option("--json", "as_json", is_flag=True, help="Print the threshold as one line of JSON.")
def threshold(
    budget: int | None, solve: str, kind: str, deadline: float, as_json: bool, **flags: Any
) -> int:
    """Find where a workload stops fitting into a budget: predicted, then reproduced for real."""
    from harness.schema.record import Outcome, to_json
    from harness.thresholds.find_threshold import threshold as run

    found = run(
        _workload(flags), budget_bytes=budget, solve=solve, kind=kind, deadline_seconds=deadline
    )
    if as_json:
        click.echo(to_json(found).decode())
    else:
        from harness.reporting.terminal import print_threshold

        print_threshold(found)
    return 0 if found.outcome is Outcome.OK else EXIT_OUTCOME


_size_options = (
    click.option("--quick", "size", flag_value="quick", help="Small, for CI."),
    click.option("--full", "size", flag_value="full", help="The reference run."),
)


def _sized(command: Command) -> Command:
    for option in reversed(_size_options):
        command = option(command)
    return command


_out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder for records and report  [results/local/<size>, on a GPU <size>-cuda]",
)

_device_option = click.option(
    "--device",
    type=click.Choice(("cpu", "cuda")),
    default="cpu",
    show_default=True,
    help="Where every cell runs.",
)


_engine_options = (
    click.option(
        "--jobs",
        type=click.IntRange(1, 4096),
        default=1,
        show_default=True,
        help="Cells at once; with more than 1 resident sizes and seconds are null.",
    ),
    click.option(
        "--executor",
        type=click.Choice(("local", "in-process", "dask")),
        default="local",
        show_default=True,
        help="Where cells run.",
    ),
    click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster that exists."),
)


def _engine(command: Command) -> Command:
    for option in reversed(_engine_options):
        command = option(command)
    return command


@app.command(epilog="Example: harness sweep depth_batch --out results/local/mine")
@click.argument("experiments", nargs=-1)
@_out_option
@_sized
@_device_option
@_deadline_option
@_engine
def sweep(
    experiments: tuple[str, ...],
    out: Path | None,
    size: str | None,
    device: str,
    deadline: float,
    **engine: Any,
) -> int:
    """Run experiments (all, or those named); an interrupted sweep resumes by itself."""
    folder = _sweep(experiments, out, _size(size), device, deadline, **engine)
    click.echo(f"records: {folder}", err=True)
    return 0


def _size(name: str | None) -> "Size":
    from harness.schema.experiment import Size

    return Size(name or "default")


def _sweep(
    names: tuple[str, ...],
    out: Path | None,
    size: "Size",
    device: str,
    deadline: float,
    *,
    jobs: int,
    executor: str,
    scheduler: str | None,
) -> Path:
    """Run the named experiments, or all; return the folder of their records."""
    from harness.reporting.progress import shown
    from harness.schema.experiment import find, names_found
    from harness.sweep.executors import make_executor
    from harness.sweep.sweep import run

    where = size.value if device == "cpu" else f"{size.value}-{device}"
    folder = out or Path("results") / "local" / where
    chosen = [find(name) for name in names or names_found()]
    if device != "cpu":
        for one in chosen:
            if one.cpu_alone:
                click.echo(f"{one.name}: on the CPU alone: {one.cpu_alone}", err=True)
        chosen = [one for one in chosen if not one.cpu_alone]
    try:
        engine = make_executor(executor, jobs=jobs, scheduler=scheduler)
        with closing(engine), shown() as progress:
            for experiment in chosen:
                run(
                    experiment,
                    size,
                    folder,
                    progress,
                    device=device,
                    deadline_seconds=deadline,
                    executor=engine,
                )
    except KeyboardInterrupt:
        click.echo("stopped; every finished cell is kept, the same command goes on", err=True)
        raise
    return folder


@app.command(epilog="Example: harness report results/local/default")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> int:
    """Write tables, figures, report.html and report.md from the records in FOLDER."""
    from harness.reporting.report import write_report

    click.echo(write_report(folder))
    return 0


@app.command(epilog="Example: harness reproduce --quick --out /tmp/try")
@_sized
@_out_option
@_device_option
@_engine
def reproduce(size: str | None, out: Path | None, device: str, **engine: Any) -> int:
    """Run every experiment, then the report; print the verdict and where the report lies."""
    from harness.reporting.report import write_report
    from harness.reporting.terminal import print_verdicts

    folder = _sweep((), out, _size(size), device, 600.0, **engine)
    page = write_report(folder)
    print_verdicts(folder)
    click.echo(f"report: {page}")
    return 0


@app.command(epilog="Example: harness replay snapshot.pickle --what-if expandable_segments:True")
@click.argument("snapshot", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--what-if", "settings", metavar="SETTINGS", help="As in PYTORCH_ALLOC_CONF.")
@click.option("--memory", callback=_size_in_bytes, metavar="SIZE", help="A card of this size.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def replay(snapshot: Path, settings: str | None, memory: int | None, as_json: bool) -> int:
    """Replay a recording of the CUDA allocator, and what it would need elsewhere.

    SNAPSHOT is a file of torch.cuda.memory._dump_snapshot. It is read by a machine that can
    only hold data: nothing in it is run.
    """
    import json

    from harness.snapshots import replay_file, replay_text

    replayed = replay_file(snapshot, settings=settings, memory_bytes=memory)
    click.echo(json.dumps(replayed.as_dict()) if as_json else replay_text(replayed))
    return 0


@app.command(epilog="Example: harness compare results/reference-cpu results/local/full")
@click.argument("first", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, file_okay=False, path_type=Path))
def compare(first: Path, second: Path) -> int:
    """Compare two runs figure by figure; exit code 3 where exact figures differ."""
    from harness.analysis.compare import compare as run
    from harness.analysis.frame import load
    from harness.reporting.comparison import render

    comparison = run(load(first), load(second))
    click.echo(render(comparison))
    return 0 if comparison.equal else EXIT_OUTCOME


@app.command(epilog="Example: harness explore --out explorer.html")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("explorer.html"),
    show_default=True,
    help="The page.",
)
def explore(out: Path) -> int:
    """Write a page with sliders: where a step's memory goes, and what fits (extra: explorer)."""
    from harness.reporting.explorer import write_explorer

    click.echo(write_explorer(out))
    return 0


def _shape(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Read the shape of one example, such as ``3x224x224``."""
    try:
        shape = tuple(int(part) for part in value.lower().split("x"))
    except ValueError:
        shape = (0,)
    if min(shape) < 1:
        rule = f"{value!r}: whole numbers from 1 with x between, such as 3x224x224"
        raise click.BadParameter(rule, context, parameter)
    return shape


_file = click.Path(dir_okay=False, writable=True, path_type=Path)


@app.command(epilog="Example: harness profile torchvision.models:resnet18 --input 3x64x64")
@click.argument("target", metavar="MODULE:CALLABLE")
@click.option("--input", "input_shape", default="3x224x224", callback=_shape, show_default=True)
@click.option("--input-type", default="float32", show_default=True, help="int64 for words")
@click.option("--batch", type=click.IntRange(1, 2**31 - 1), default=32, show_default=True)
@click.option("--optimizer", default="sgd", show_default=True)
@click.option("--loss", default="cross-entropy", show_default=True)
@click.option("--classes", type=click.IntRange(1), help="Labels are spread over so many.")
@click.option("--mode", default="train", show_default=True)
@click.option("--threads", type=click.IntRange(1, 4096), default=1, show_default=True)
@_deadline_option
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one line of JSON.")
@click.option("--events", type=_file, help="Write the events here, as CSV.")
@click.option("--chrome", type=_file, help="Write trace JSON for Chrome and Perfetto here.")
@click.option("--snapshot", type=_file, help="Write a pickle for PyTorch's memory viewer here.")
@click.option("--timeline", type=_file, help="Write a picture here, as SVG.")
def profile(
    deadline: float,
    as_json: bool,
    events: Path | None,
    chrome: Path | None,
    snapshot: Path | None,
    timeline: Path | None,
    **asked: Any,
) -> int:
    """Trace one step of any torch.nn.Module, isolated in a process of its own."""
    import msgspec

    from harness.profiling.profile import profile as run
    from harness.profiling.profile_text import print_profile, write_exports
    from harness.schema.module_request import checked

    result, trace = run(checked(**asked), deadline_seconds=deadline)
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
    else:
        print_profile(result, trace)
    if trace is None:
        return EXIT_OUTCOME
    write_exports(trace, events=events, chrome=chrome, snapshot=snapshot, timeline=timeline)
    return 0


@app.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool) -> int:
    """Say what this machine can measure, and why not what it cannot."""
    from harness.measurement.doctor import examine
    from harness.reporting.terminal import print_findings

    print_findings(examine(), as_json=as_json)
    return 0


def run_experiment_file(file: str) -> None:
    """Run the experiment in ``file`` as ``harness sweep`` would, then its report."""
    sys.exit(main(["sweep", Path(file).stem, *sys.argv[1:]]))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app.main(arguments, prog_name="harness", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _mistake(error.format_message())
    except HarnessError as error:
        return _mistake(str(error))
    except BrokenPipeError:  # the reader of a pipe had enough
        sys.stderr.close()
        return 0
    except Exception as error:
        if "--debug" in arguments:
            raise
        click.echo(f"harness: a fault of ours: {type(error).__name__}: {error}", err=True)
        click.echo("harness: run it again as 'harness --debug ...' and report it", err=True)
        return 1


def _mistake(message: str) -> int:
    click.echo(f"harness: {' '.join(message.split())}", err=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
