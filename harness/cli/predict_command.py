"""``harness predict``: the metrics of a step without running it."""

from typing import Any

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE, NOT_OK
from harness.cli.gpu_options import gpu_description
from harness.cli.parameter_types import SIZE, Choices, ChoicesOrTarget, WholeNumber
from harness.cli.target_flags import target_flags
from harness.cli.workload_flags import workload_flags, workload_from
from harness.schema.module_request import OPTIMIZERS
from harness.schema.plain_text import json_text


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
@click.option("--budget", type=SIZE, help="Memory budget to check against, e.g. 8GiB.")
@click.option(
    "--gpu", metavar="NAME", help="GPU to check against, e.g. l4; all for a table (TARGET)."
)
@gpu_description
@click.option(
    "--method",
    type=Choices(("auto", "rules", "dry-run")),
    help="How TARGET is predicted on CUDA; auto: the dry run with a CUDA build of PyTorch.",
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
@click.option("--json", "as_json", is_flag=True, help="Print the prediction as one line of JSON.")
def predict(
    target: str | None,
    optimizer: str | None,
    inputs: tuple[str, ...],
    inputs_from: str | None,
    arguments: tuple[str, ...],
    loss: str,
    budget: int | None,
    gpu: str | None,
    capability: str | None,
    memory: int | None,
    alloc_conf: str,
    method: str | None,
    examples: int | None,
    torch: str | None,
    check: bool,
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
    from harness.prediction.gpu.catalogue import described
    from harness.prediction.predict_workload import predict as run
    from harness.schema.record import Outcome, to_json

    flags["optimizer"] = optimizer
    if target is not None:
        return _target(
            target, flags, inputs, inputs_from, arguments, loss, budget, gpu, capability, memory,
            examples, alloc_conf, method, check, as_json,
        )  # fmt: skip
    if inputs or inputs_from or arguments or method:
        raise click.UsageError(
            "--input, --inputs, --arg and --method need a TARGET, e.g. my_model.py:Net"
        )
    asked = any(value is not None for value in (gpu, capability, memory))
    if asked and flags["device"] is None:
        flags["device"] = "cuda"
    if check and budget is None and gpu is None and memory is None:
        raise click.UsageError("--check needs --budget or --gpu")
    prediction = run(
        workload_from(flags),
        budget_bytes=budget,
        gpu=described(gpu, capability, memory) if asked else None,
        allocator_settings=alloc_conf,
        examples=examples,
        torch=torch,
    )
    if as_json:
        click.echo(json_text(to_json(prediction)))
    else:
        from harness.reporting.terminal import print_prediction

        print_prediction(prediction)
    answered = prediction.outcome is Outcome.PREDICTED and not prediction.unanswered
    return DONE if answered and (prediction.fits or not check) else NOT_OK


def _target(
    target: str,
    flags: dict[str, Any],
    inputs: tuple[str, ...],
    inputs_from: str | None,
    arguments: tuple[str, ...],
    loss: str,
    budget: int | None,
    gpu: str | None,
    capability: str | None,
    memory: int | None,
    examples: int | None,
    alloc_conf: str,
    method: str | None,
    check: bool,
    as_json: bool,
) -> int:
    from harness.cli.predict_target import USED, predict_target
    from harness.prediction.gpu.catalogue import described

    unused = [name for name, value in flags.items() if value is not None and name not in USED]
    if unused or examples is not None or budget is not None:
        extra = unused or ["examples" if examples is not None else "budget"]
        names = ", ".join("--" + name.replace("_", "-") for name in extra)
        raise click.UsageError(f"{names}: not for a TARGET, only for an MLP's workload flags")
    all_gpus = gpu is not None and gpu.lower() == "all"
    named = any(value is not None for value in (gpu, capability, memory)) and not all_gpus
    return predict_target(
        target,
        flags,
        inputs=inputs,
        inputs_from=inputs_from,
        arguments=arguments,
        loss=loss,
        gpu=described(gpu, capability, memory) if named else None,
        all_gpus=all_gpus,
        allocator_settings=alloc_conf,
        method=method or "auto",
        check=check,
        as_json=as_json,
    )
