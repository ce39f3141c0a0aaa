"""``harness predict``: the metrics of a step without running it."""

from pathlib import Path
from typing import Any

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE, NOT_OK
from harness.cli.gpu_options import GpuFlags, gpu_description
from harness.cli.page_option import page_option, write_page
from harness.cli.parameter_types import GPU_OR_ALL, SIZE, Choices, ChoicesOrTarget, WholeNumber
from harness.cli.predict_target import USED, predict_target
from harness.cli.target_flags import TargetFlags, compile_option, target_flags
from harness.cli.workload_flags import workload_flags, workload_from
from harness.schema.plain_text import json_text
from harness.schema.step_choices import OPTIMIZERS


@click.command(
    cls=HarnessCommand,
    examples=[
        "harness predict --depth 8 --batch 512 --budget 24GiB",
        "harness predict --depth 8 --batch 512 --budget 1GiB --check",
        "harness predict --gpu l4 --depth 8 --width 4096 --optimizer adam",
        "harness predict torchvision.models:resnet50 --input 3x224x224 --gpu all",
        "harness predict my_model.py:Net --arg depth=12 --input int64:1024 --loss sum --gpu l4",
    ],
)
@click.argument("target", required=False, metavar="[TARGET]")
@workload_flags(without={"optimizer"})
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
    help="GPU to check against, e.g. l4; with TARGET, all checks every GPU.",
)
@gpu_description
@click.option(
    "--method",
    type=Choices(("auto", "dry-run", "estimate", "rules")),
    help="Prediction method for TARGET on CUDA; auto uses the dry run if PyTorch has CUDA, else "
    "an estimate. rules is the former name of estimate.",
)
@click.option(
    "--examples",
    type=WholeNumber(1, 2**63 - 1),
    help="Number of training examples; also predicts the smaller last batch (CUDA).",
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
@page_option()
@click.option("--json", "as_json", is_flag=True, help="Print the prediction as one line of JSON.")
def predict(
    target: str | None,
    network: TargetFlags,
    compile_mode: str | None,
    gpu_flags: GpuFlags,
    budget: int | None,
    method: str | None,
    examples: int | None,
    torch: str | None,
    check: bool,
    html: Path | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Predict the memory of a step without running it.

    Without TARGET the workload flags describe an MLP. TARGET is your own network, as
    package.module:callable or my_model.py:Net; of the workload flags it takes --batch,
    --optimizer, --mode, --autocast, --accumulate and --device.

    CUDA is predicted without a GPU; --gpu implies --device cuda. The size of cuBLAS workspaces
    follows CUBLAS_WORKSPACE_CONFIG if the environment sets it. The exit code is 3 if a question,
    such as --budget, has no answer.
    """
    if target is not None:
        _refuse_unused(flags, examples, budget)
        method = {None: "auto", "rules": "estimate"}.get(method, method)
        return predict_target(
            target,
            flags | {"compile": compile_mode},
            network,
            gpu_flags,
            method=str(method),
            check=check,
            as_json=as_json,
            html=html,
        )
    if network.are_given() or method or compile_mode:
        raise click.UsageError(
            "--input, --inputs, --arg, --compile and --method need a TARGET, e.g. my_model.py:Net"
        )
    if gpu_flags.are_given() and flags["device"] is None:
        flags["device"] = "cuda"
    if check and budget is None and gpu_flags.gpu is None and gpu_flags.memory is None:
        raise click.UsageError("--check needs --budget or --gpu")
    return _predict_workload(
        flags,
        gpu_flags,
        check=check,
        as_json=as_json,
        html=html,
        budget_bytes=budget,
        examples=examples,
        torch=torch,
    )


def _predict_workload(
    flags: dict[str, Any],
    gpu_flags: GpuFlags,
    *,
    check: bool,
    as_json: bool,
    html: Path | None,
    **asked: Any,
) -> int:
    from harness.prediction.predict_workload import predict as run
    from harness.schema.record import Outcome, to_json

    prediction = run(
        workload_from(flags),
        gpu=gpu_flags.described(),
        allocator_settings=gpu_flags.alloc_conf,
        **asked,
    )
    if html is not None:
        from harness.reporting.step_page import step_page

        write_page(html, step_page(prediction, prediction.subject))
    if as_json:
        click.echo(json_text(to_json(prediction)))
    else:
        from harness.reporting.terminal import print_prediction

        print_prediction(prediction)
    is_known = prediction.outcome is Outcome.PREDICTED and prediction.peak_live_bytes is not None
    answered = is_known and not prediction.unanswered
    return DONE if answered and (prediction.fits or not check) else NOT_OK


def _refuse_unused(flags: dict[str, Any], examples: int | None, budget: int | None) -> None:
    """Refuse the flags that say nothing of a user's own network."""
    unused = [name for name, value in flags.items() if value is not None and name not in USED]
    if unused or examples is not None or budget is not None:
        extra = unused or ["examples" if examples is not None else "budget"]
        names = ", ".join("--" + name.replace("_", "-") for name in extra)
        raise click.UsageError(f"{names} cannot be given with a TARGET")
