"""``harness predict`` predicts the metrics of a step without running it."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.gpu_options import GPU_OR_ALL, GpuFlags, gpu_description
from harness.cli.json_answer import Verdict, json_option, print_json
from harness.cli.next_commands import after_prediction, typed
from harness.cli.parameter_types import SIZE, Choices
from harness.cli.sheet_output import page_option, print_sheet, write_page
from harness.cli.shown_progress import shown_progress
from harness.cli.step_options import StepFlags, refuse_with_target, step_options
from harness.cli.users_output import answer_alone

if TYPE_CHECKING:
    from harness.planning.predict_step import Method
    from harness.schema.memory_fit import Fit
    from harness.schema.step_report import StepReport
    from harness.schema.workload import Workload


@harness_command(
    "harness predict mlp:8x256 --batch 512 --gpu l4",
    "harness predict --depth 8 --batch 512 --budget 1GiB --check",
    "harness predict torchvision:resnet50 --gpu all",
    "harness predict hf:Qwen/Qwen3-0.6B --gpu g5.xlarge",
    "harness predict my_model.py:Net --arg depth=12 --input 3x224x224 --gpu l4 --check",
)
@step_options
@click.option("--budget", type=SIZE, help="Memory budget to check an MLP against, e.g. 8GiB.")
@click.option(
    "--gpu",
    type=GPU_OR_ALL,
    metavar="NAME",
    help="GPU to check against, e.g. l4, or all for common GPUs; implies --device cuda.",
)
@gpu_description
@click.option(
    "--method",
    type=Choices(("auto", "dry-run", "estimate")),
    help="Method for a network on CUDA; auto means dry-run if PyTorch is a CUDA build, "
    "else estimate.",
)
@click.option(
    "--torch",
    metavar="VERSION",
    help="Version of PyTorch for the prediction of an MLP, e.g. 2.13; default: the installed one.",
)
@click.option(
    "--no-largest",
    is_flag=True,
    help="Leave out the search for the largest batch that fits on the GPU.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Exit with code 3 if the step may not fit the budget or the GPU.",
)
@page_option
@json_option
def predict(
    asked: StepFlags,
    gpu_flags: GpuFlags,
    budget: int | None,
    method: str | None,
    torch: str | None,
    no_largest: bool,
    check: bool,
    html: Path | None,
    as_json: bool,
) -> int:
    """Predict the memory of a step without running it.

    TARGET can be your own network: package.module:callable or my_model.py:Net. TARGET can be a
    network of a hub: hf:NAME_OR_FOLDER (only config.json is read, not the weights), timm:NAME or
    torchvision:NAME. TARGET can be an MLP: mlp:DEPTHxWIDTH or mlp-scratch:DEPTHxWIDTH. An MLP also
    has a flag for each field of a Workload, such as --depth, --activation and --dtype.

    The memory on CUDA is predicted without a GPU. The environment variable CUBLAS_WORKSPACE_CONFIG
    determines the size of cuBLAS workspaces if it is set. The exit code is 3 if the command has no
    answer. With --check the exit code is also 3 if the step may not fit.
    """
    workload = asked.workload(on_cuda=gpu_flags.are_given())
    if workload is None:
        given = {"budget": budget, "torch": torch}
        refuse_with_target({name for name, value in given.items() if value is not None})
    if check and budget is None and not (gpu_flags.mean_all() or gpu_flags.has_memory()):
        or_budget = "--budget or " if workload is not None else ""
        raise click.UsageError(f"--check needs {or_budget}--gpu of known memory, e.g. --gpu l4")
    if gpu_flags.mean_all() or workload is None:
        report = _of_network(asked, gpu_flags, method, largest=not no_largest)
    else:
        searched = {"largest": not no_largest, "with_curve": html is not None}
        report = _of_mlp(workload, gpu_flags, budget, torch, method, **searched)
    if gpu_flags.mean_all():
        _print_table(report, html, as_json)
        return DONE if report.fits or not check else NOT_OK
    _print(report, html, as_json)
    is_known = report.outcome == "predicted" and report.peak_live_bytes is not None
    is_answered = is_known and not report.unanswered
    return DONE if is_answered and (report.fits or not check) else NOT_OK


def _of_network(
    asked: StepFlags, gpu_flags: GpuFlags, method: str | None, *, largest: bool
) -> "StepReport":
    """Predict a network's step on one GPU, or any step on all GPUs."""
    on_all = gpu_flags.mean_all()
    with answer_alone(click.get_current_context().params["as_json"]), shown_progress() as progress:
        from harness.planning.predict_step import predict_step

        return predict_step(
            asked.step(),
            device=asked.device,
            gpu="all" if on_all else gpu_flags.described(),
            allocator_settings=gpu_flags.alloc_conf,
            largest=largest and (on_all or gpu_flags.has_memory()),
            largest_on_all=largest,
            method=method or "auto",
            progress=progress,
        )


def _of_mlp(
    workload: "Workload",
    gpu_flags: GpuFlags,
    budget: int | None,
    torch: str | None,
    method: str | None,
    *,
    largest: bool,
    with_curve: bool,
) -> "StepReport":
    """Predict an MLP; ``with_curve`` adds predictions around the largest batch that fits."""
    from msgspec.structs import replace

    from harness.planning.predict import predict_workload as run

    def at(batch: int) -> "StepReport":
        return run(
            workload.replace(batch=batch),
            budget_bytes=budget,
            gpu=gpu_flags.described(),
            allocator_settings=gpu_flags.alloc_conf,
            torch=torch,
            method=cast("Method | None", method),
            largest=largest,
        )

    with shown_progress("", "the step is predicted"):
        report = at(workload.batch)
        fit = report.fit
        if not with_curve or fit is None or not fit.largest_batch:
            return report
        around = (fit.largest_batch * part // 8 for part in (1, 4, 8, 10))
        fits = [(batch, at(batch).fit) for batch in sorted({workload.batch, *around}) if batch]
    tried = tuple((batch, one.reserved_peak_bytes[1]) for batch, one in fits if one is not None)
    return replace(report, fit=replace(fit, tried=tried))


def _print(report: "StepReport", html: Path | None, as_json: bool) -> None:
    import msgspec

    from harness.plots.step_sheets import prediction_sheet
    from harness.schema.record import to_json

    is_target = report.workload is None
    commands = after_prediction(typed(), report.fit) if is_target else []
    if html is not None:
        write_page(html, prediction_sheet(report, commands))
    if not as_json:
        print_sheet(prediction_sheet(report, commands))
        return
    fit = report.fit
    verdict = None if fit is None else fit.verdict
    if is_target:
        largest = None if fit is None else fit.largest_batch
        print_json(report.as_dict() | {"largest_batch": largest}, verdict)
    else:
        if report.budget is not None:
            verdict = "fits" if report.fits else "does not fit"
        print_json(to_json(msgspec.structs.replace(report, trace=None)), verdict)


def _print_table(report: "StepReport", html: Path | None, as_json: bool) -> None:
    import msgspec

    from harness.plots.step_sheets import gpus_sheet

    if html is not None:
        write_page(html, gpus_sheet(report))
    if as_json:
        rows = [
            {
                "fit": msgspec.to_builtins(fit),
                "headroom_bytes": fit.headroom_bytes,
                "largest_batch": (fit.largest_batch or 0) if fit.is_searched else None,
            }
            for fit in report.gpus
        ]
        answer = {"outcome": "predicted", "target": report.target, "gpus": rows}
        facts = {**answer, "method": report.method, "notes": report.notes}
        print_json(facts, _verdict_of_all({fit.verdict for fit in report.gpus}))
    else:
        print_sheet(gpus_sheet(report))


def _verdict_of_all(verdicts: "set[Fit]") -> Verdict:
    """Return the verdict that all GPUs share; else whether the step fits, or may fit, on some."""
    if len(verdicts) == 1:
        return next(iter(verdicts))
    return "fits on some GPUs" if "fits" in verdicts else "close call"
