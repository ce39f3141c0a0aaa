"""``harness predict``: the metrics of a step without running it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import GPU_OR_ALL, SIZE, Choices, ChoicesOrTarget, WholeNumber
from harness.cli.shared_options import GpuFlags, gpu_description, page_option, write_page
from harness.cli.standard_output import answer_alone
from harness.cli.target_flags import TargetFlags, compile_option, shown_progress, target_flags
from harness.cli.workload_flags import workload_flags, workload_from
from harness.schema.step_choices import MODES, OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.planning.predict_step import Method
    from harness.schema.step_report import StepReport

DEFAULTS = {
    "batch": 32,
    "optimizer": "sgd",
    "mode": MODES[0],
    "autocast": None,
    "accumulate": 1,
    "classes": None,
    "compile": None,
}
"""Workload flags that a target uses too, but for the device, and what it takes without them."""


@harness_command(
    "harness predict --depth 8 --batch 512 --budget 24GiB",
    "harness predict --depth 8 --batch 512 --budget 1GiB --check",
    "harness predict --gpu l4 --depth 8 --width 4096 --optimizer adam",
    "harness predict torchvision:resnet50 --gpu all",
    "harness predict hf:Qwen/Qwen3-0.6B --gpu g5.xlarge",
    "harness predict my_model.py:Net --arg depth=12 --input int64:1024 --loss sum --gpu l4",
)
@click.argument("target", required=False, metavar="[TARGET]")
@workload_flags(without={"batch", "optimizer"})
@click.option("--batch", type=WholeNumber(), help="Batch size.  [default: 256; with TARGET 32]")
@click.option(
    "--optimizer",
    type=ChoicesOrTarget(OPTIMIZERS),
    help="Optimizer; for TARGET also MODULE:CALLABLE of the parameters.  [default: sgd]",
)
@target_flags
@compile_option
@click.option("--budget", type=SIZE, help="Memory budget to check against, e.g. 8GiB.")
@click.option(
    "--gpu",
    type=GPU_OR_ALL,
    metavar="NAME",
    help="GPU to check against, e.g. l4; with TARGET, all checks the usual ones.",
)
@gpu_description
@click.option(
    "--method",
    type=Choices(("auto", "dry-run", "estimate")),
    help="Prediction method for TARGET on CUDA; auto uses the dry run if PyTorch has CUDA, else "
    "an estimate.",
)
@click.option(
    "--torch",
    metavar="VERSION",
    help="Version of PyTorch to predict for, e.g. 2.13; default: the installed one.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Exit with code 3 unless the step surely fits the budget and the GPU.",
)
@page_option
@json_option
def predict(
    target: str | None,
    network: TargetFlags,
    compile_mode: str | None,
    gpu_flags: GpuFlags,
    budget: int | None,
    method: str | None,
    torch: str | None,
    check: bool,
    html: Path | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Predict the memory of a step without running it.

    Without TARGET the workload flags describe an MLP. TARGET is your own network, as
    package.module:callable or my_model.py:Net, or a known one, as hf:NAME_OR_FOLDER (its
    config.json, never its weights), timm:NAME or torchvision:NAME; of the workload flags it takes
    --batch, --optimizer, --mode, --autocast, --accumulate and --device.

    CUDA is predicted without a GPU; --gpu implies --device cuda. The size of cuBLAS workspaces
    follows CUBLAS_WORKSPACE_CONFIG if the environment sets it. The exit code is 3 if a question,
    such as --budget, has no answer.
    """
    if target is None:
        if network.are_given() or compile_mode:
            raise click.UsageError(
                "--input, --inputs, --arg and --compile need a TARGET, e.g. my_model.py:Net"
            )
        if check and budget is None and gpu_flags.gpu is None and gpu_flags.memory is None:
            raise click.UsageError("--check needs --budget or --gpu")
        from harness.planning.predict import predict_workload as run

        if gpu_flags.are_given() and flags["device"] is None:
            flags["device"] = "cuda"

        def at(batch: int | None) -> "StepReport":
            return run(
                workload_from({**flags, "batch": batch}),
                budget_bytes=budget,
                gpu=gpu_flags.described(),
                allocator_settings=gpu_flags.alloc_conf,
                torch=torch,
                method=cast("Method | None", method),
            )

        report = at(flags["batch"])
        if html is not None:
            report = _with_curve(report, at)
    else:
        if budget is not None:
            raise click.UsageError("--budget is that of an MLP; with a TARGET give --memory")
        _refuse_unused(flags, torch)
        if html is not None and gpu_flags.mean_all():
            raise click.UsageError("--html shows one GPU; give its name instead of all")
        if check and not gpu_flags.mean_all() and not gpu_flags.has_memory():
            raise click.UsageError("--check needs a GPU of known memory, e.g. --gpu l4")
        from harness.planning.predict_step import predict_step

        fields = {"compile": compile_mode, **flags}
        given = {name: fields[name] for name in DEFAULTS if fields[name] is not None}
        step = network.step(target, **DEFAULTS | given)
        with answer_alone(as_json), shown_progress() as progress:
            report = predict_step(
                step,
                device=flags["device"],
                gpu="all" if gpu_flags.mean_all() else gpu_flags.described(),
                allocator_settings=gpu_flags.alloc_conf,
                largest=gpu_flags.mean_all() or gpu_flags.has_memory(),
                method=method or "auto",
                progress=progress,
            )
        if gpu_flags.mean_all():
            _print_table(report, as_json)
            return DONE if report.fits or not check else NOT_OK
    _print(report, html, as_json)
    is_known = report.outcome == "predicted" and report.peak_live_bytes is not None
    is_answered = is_known and not report.unanswered
    return DONE if is_answered and (report.fits or not check) else NOT_OK


def _with_curve(report: "StepReport", at: "Callable[[int], StepReport]") -> "StepReport":
    """Return the prediction with the reserved bytes of some batches around the largest."""
    from msgspec.structs import replace

    fit, workload = report.fit, report.workload
    if fit is None or workload is None or not fit.largest_batch:
        return report
    around = (fit.largest_batch * part // 8 for part in (1, 4, 8, 10))
    fits = [(batch, at(batch).fit) for batch in sorted({workload.batch, *around}) if batch]
    tried = tuple((batch, one.reserved_peak_bytes[1]) for batch, one in fits if one is not None)
    return replace(report, fit=replace(fit, tried=tried))


def _print(report: "StepReport", html: Path | None, as_json: bool) -> None:
    import msgspec

    from harness.schema.record import to_json

    is_target = report.workload is None
    if html is not None:
        from harness.cli.next_commands import after_prediction, typed
        from harness.reporting.step_page import step_page

        commands = after_prediction(typed(), report.fit) if is_target else []
        write_page(html, step_page(report, report.subject, commands))
    if not as_json:
        from harness.reporting.step_text import print_prediction

        print_prediction(report)
    elif is_target:
        fit = report.fit
        largest = None if fit is None else fit.largest_batch
        print_json(report.as_dict() | {"largest_batch": largest}, fit and fit.verdict)
    else:
        verdict = report.fit and report.fit.verdict
        if report.budget is not None:
            verdict = "fits" if report.fits else "does not fit"
        print_json(to_json(msgspec.structs.replace(report, trace=None)), verdict)


def _print_table(report: "StepReport", as_json: bool) -> None:
    import msgspec

    if as_json:
        rows = [
            {
                "fit": msgspec.to_builtins(fit),
                "headroom_bytes": fit.headroom_bytes,
                "largest_batch": (fit.largest_batch or 0) if fit.is_searched else None,
            }
            for fit in report.gpus
        ]
        fitting = sum(fit.verdict == "fits" for fit in report.gpus)
        answer = {"outcome": "predicted", "target": report.target, "gpus": rows}
        facts = {**answer, "method": report.method, "notes": report.notes}
        print_json(facts, f"fits on {fitting} of {len(rows)} GPUs")
    else:
        from harness.reporting.step_text import print_gpu_table

        print_gpu_table(report.subject, report.gpus, report.notes)


def _refuse_unused(flags: dict[str, Any], torch: str | None) -> None:
    """Refuse the flags that say nothing of a user's own network."""
    given = {name: value for name, value in flags.items() if name not in (*DEFAULTS, "device")}
    given["torch"] = torch
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        names = ", ".join("--" + name.replace("_", "-") for name in unused)
        raise click.UsageError(f"{names} cannot be given with a TARGET")
