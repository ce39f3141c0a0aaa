"""``harness predict``: the metrics of a step without running it."""

from typing import Any

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE, NOT_OK
from harness.cli.parameter_types import SIZE, WholeNumber
from harness.cli.workload_flags import workload_flags, workload_from
from harness.schema.plain_text import json_text


@click.command(
    cls=HarnessCommand,
    examples=[
        "harness predict --depth 8 --batch 512 --budget 24GiB",
        "harness predict --depth 8 --batch 512 --budget 1GiB --check",
        "harness predict --gpu l4 --depth 8 --width 4096 --optimizer adam",
    ],
)
@workload_flags()
@click.option("--budget", type=SIZE, help="Memory budget to check against, e.g. 8GiB.")
@click.option("--gpu", metavar="NAME", help="GPU to check against, e.g. l4, a100-80gb, rtx4090.")
@click.option(
    "--capability",
    metavar="M.N",
    help="Compute capability of a GPU that is not in the built-in list, e.g. 9.0.",
)
@click.option("--memory", type=SIZE, help="Total memory of that GPU, e.g. 80GiB.")
@click.option(
    "--alloc-conf",
    default="",
    metavar="SETTINGS",
    help="Settings of the CUDA allocator, as in PYTORCH_ALLOC_CONF.",
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
    budget: int | None,
    gpu: str | None,
    capability: str | None,
    memory: int | None,
    alloc_conf: str,
    examples: int | None,
    torch: str | None,
    check: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Predict the same metrics without running anything.

    CUDA is predicted without a GPU; --gpu implies --device cuda. The size of cuBLAS workspaces
    follows CUBLAS_WORKSPACE_CONFIG if the environment sets it. The exit code is 3 if a question,
    such as --budget, has no answer.
    """
    from harness.prediction.gpu.catalogue import described
    from harness.prediction.predict_workload import predict as run
    from harness.schema.record import Outcome, to_json

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
