"""``harness predict TARGET``: whether a step of your own network fits, without running it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from harness.cli.exit_codes import DONE, NOT_OK
from harness.cli.gpu_options import GpuFlags
from harness.cli.target_flags import TargetFlags, report_unsupported
from harness.prediction.paused_collection import collection_paused
from harness.schema.module_request import MODES

if TYPE_CHECKING:
    from harness.prediction.module.module_prediction import ModulePrediction

USED = {"batch", "optimizer", "mode", "autocast", "device", "classes", "accumulate"}
"""Workload flags that a target uses too."""

DEFAULT_BATCH = 32


def predict_target(
    target: str,
    flags: Mapping[str, Any],
    network: TargetFlags,
    card: GpuFlags,
    *,
    method: str,
    check: bool,
    as_json: bool,
) -> int:
    """Predict a step of ``target``, print the answer and return the exit code."""
    from harness.prediction.module.module_prediction import UnsupportedModuleError

    batch = DEFAULT_BATCH if flags["batch"] is None else flags["batch"]
    gpu = None if card.mean_all() else card.described()
    mode, accumulate = flags["mode"] or MODES[0], flags["accumulate"]
    optimizer, autocast = flags["optimizer"] or "sgd", flags["autocast"]
    with collection_paused():  # else a sixth of importing PyTorch is the garbage collector's
        asked = network.step(optimizer=optimizer, autocast=autocast, mode=mode)
        build = network.builder(target)
    asked |= {"mode": mode, "accumulate": 1 if accumulate is None else accumulate}
    asked |= {"allocator_settings": card.alloc_conf}
    try:
        if card.mean_all():
            return _table(target, build, batch, asked, as_json)
        asked |= {"device": "cuda" if gpu is not None else flags["device"], "gpu": gpu}
        return _one(target, build, batch, asked, method, check, as_json)
    except UnsupportedModuleError as error:
        return report_unsupported(error, target, as_json=as_json)


def _one(
    target: str,
    build: Callable[[], Any],
    batch: int,
    asked: dict[str, Any],
    method: str,
    check: bool,
    as_json: bool,
) -> int:
    from harness.planning.predict import predict_network
    from harness.prediction.module.largest_batch import largest_batch

    found = predict_network(build, {"batch": batch, **asked}, method=method)
    largest = None
    if found.card is not None:
        search = largest_batch(build, known={batch: found.trace}, **asked)
        largest, found.notes = search.batch, [*found.notes, *search.notes]
    if as_json:
        click.echo(json.dumps(_as_json(target, batch, found, largest)))
    else:
        from harness.reporting.module_text import print_module_prediction

        print_module_prediction(target, batch, found, largest)
    fits = found.card is None or found.card.verdict == "fits"
    return DONE if fits or not check else NOT_OK


def _table(
    target: str,
    build: Callable[[], Any],
    batch: int,
    asked: dict[str, Any],
    as_json: bool,
) -> int:
    import msgspec

    from harness.prediction.module.gpu_table import gpu_table

    rows = gpu_table(build, batch, **asked)
    if as_json:
        found = [msgspec.to_builtins(asdict(row)) for row in rows]
        click.echo(json.dumps({"outcome": "predicted", "target": target, "gpus": found}))
    else:
        from harness.reporting.module_text import print_gpu_table

        print_gpu_table(target, batch, rows)
    return DONE


def _as_json(
    target: str, batch: int, found: "ModulePrediction", largest: int | None
) -> dict[str, Any]:
    import msgspec

    return {
        "outcome": "predicted",
        "target": target,
        "batch": batch,
        "way": found.way,
        "saved_bytes": found.saved_bytes,
        "peak_live_bytes": found.peak_live_bytes,
        "first_step_peak_live_bytes": found.first_step_peak_live_bytes,
        "peak_phase": found.peak_phase,
        "phases": {k: {"peak_live_bytes": v} for k, v in found.phase_peaks().items()},
        "categories_at_peak": found.categories_at_peak(),
        "cuda": msgspec.to_builtins(found.cuda),
        "card": msgspec.to_builtins(found.card),
        "largest_batch": largest,
        "layers": [asdict(layer) for layer in found.layers],
        "notes": found.notes,
    }
