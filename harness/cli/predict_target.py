"""``harness predict TARGET``: whether a step of your own network fits, without running it."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from harness.cli.exit_codes import DONE, NOT_OK
from harness.cli.gpu_options import GpuFlags
from harness.cli.page_option import write_page
from harness.cli.standard_output import answer_alone
from harness.cli.target_flags import TargetFlags, report_unsupported, show_progress
from harness.prediction.gpu.catalogue import GPUS, Gpu
from harness.schema.errors import UnsupportedError
from harness.schema.step_choices import MODES
from harness.schema.verdict import FITS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.schema.step_report import StepReport
    from harness.schema.step_request import StepRequest

USED = {"batch", "optimizer", "mode", "autocast", "device", "classes", "accumulate"}
"""Workload flags that a target uses too."""

DEFAULT_BATCH = 32


def predict_target(
    target: str,
    flags: Mapping[str, Any],
    network: TargetFlags,
    gpu_flags: GpuFlags,
    *,
    method: str,
    check: bool,
    as_json: bool,
    html: "Path | None" = None,
) -> int:
    """Predict a step of ``target``, print the answer and return the exit code."""
    if html is not None and gpu_flags.mean_all():
        raise click.UsageError("--html shows one GPU; give its name instead of all")
    gpu = None if gpu_flags.mean_all() else gpu_flags.described()
    if check and not gpu_flags.mean_all() and (gpu is None or gpu.total_bytes is None):
        raise click.UsageError("--check needs a GPU of known memory, e.g. --gpu l4")
    request = network.request(
        target,
        batch=DEFAULT_BATCH if flags["batch"] is None else flags["batch"],
        optimizer=flags["optimizer"] or "sgd",
        mode=flags["mode"] or MODES[0],
        autocast=flags["autocast"],
        accumulate=1 if flags["accumulate"] is None else flags["accumulate"],
        classes=flags["classes"],
        compile=flags["compile"],
    )
    asked = {"settings": gpu_flags.alloc_conf, "method": method}
    try:
        if gpu_flags.mean_all():
            return _table(request, check=check, as_json=as_json, **asked)
        device = "cuda" if gpu is not None else flags["device"] or "cpu"
        return _one(request, device, gpu, check=check, as_json=as_json, html=html, **asked)
    except UnsupportedError as error:
        return report_unsupported(error, target, as_json=as_json)


def _one(
    request: "StepRequest",
    device: str,
    gpu: Gpu | None,
    *,
    settings: str,
    method: str,
    check: bool,
    as_json: bool,
    html: "Path | None",
) -> int:
    from harness.planning.predict_step import estimated, predict_on_cuda

    if device == "cpu" and method == "dry-run":
        raise click.UsageError("--method dry-run needs a GPU, e.g. --gpu l4")
    largest = gpu is not None and gpu.total_bytes is not None
    with answer_alone(as_json):
        if device == "cpu":
            report = estimated(request, device="cpu")
        else:
            report = predict_on_cuda(
                request,
                gpu,
                settings=settings,
                largest=largest,
                method=method,
                progress=show_progress,
            )
    if html is not None:
        from harness.reporting.step_page import step_page

        write_page(html, step_page(report, report.subject))
    if as_json:
        click.echo(json.dumps(_as_json(report)))
    else:
        from harness.reporting.report_text import print_report

        print_report(report)
    return DONE if report.fits or not check else NOT_OK


def _table(
    request: "StepRequest", *, settings: str, method: str, check: bool, as_json: bool
) -> int:
    import msgspec

    from harness.planning.predict_step import fits_on_cuda

    gpus = [gpu for gpu in GPUS.values() if gpu.total_bytes is not None]
    with answer_alone(as_json):
        found = fits_on_cuda(
            request, gpus, settings=settings, method=method, progress=show_progress
        )
    fits = sorted(found.fits, key=lambda fit: fit.total_bytes)
    if as_json:
        rows = [
            {
                "fit": msgspec.to_builtins(fit),
                "headroom_bytes": fit.headroom_bytes,
                "largest_batch": (fit.largest_batch or 0) if fit.is_searched else None,
            }
            for fit in fits
        ]
        answer = {"outcome": "predicted", "target": request.target, "gpus": rows}
        click.echo(json.dumps({**answer, "method": found.method, "notes": found.notes}))
    else:
        from harness.reporting.report_text import print_gpu_table

        print_gpu_table(f"{request.target}, batch {request.batch:,}", fits, found.notes)
    return DONE if not check or all(fit.verdict == FITS for fit in fits) else NOT_OK


def _as_json(report: "StepReport") -> dict[str, Any]:
    """Return the report under the keys of the JSON, with the largest batch next to the verdict."""
    fit = report.fit
    return {
        **report.as_dict(),
        "way": report.method,
        "largest_batch": None if fit is None else fit.largest_batch,
    }
