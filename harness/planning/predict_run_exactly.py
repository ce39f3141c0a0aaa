"""A whole training run by the dry run where it works, else by the rules; the result says which."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from harness.planning.predict_exactly import KERNELS, NOT_USED, compared
from harness.planning.pretended_call import PretendedCall
from harness.prediction.gpu import catalogue
from harness.prediction.module.module_prediction import (
    ModulePredictionError,
    UnsupportedModuleError,
)
from harness.prediction.module.predict_run import RunPeaks, RunPrediction, predict_run
from harness.schema.events import Trace

PHASES = "phases and events are those of the rules, which predict a requested peak of {}: {}"


def predict_run_exactly(asked: dict[str, Any], *, must: bool) -> RunPrediction:
    """Return the prediction of a run.

    Args:
        asked: arguments of ``predict_run``.
        must: whether the dry run is required; otherwise the rules answer where it does not work.

    Raises:
        ModulePredictionError: an argument is wrong, or the dry run must work and does not.
        UnsupportedModuleError: the run does not end well on the pretended GPU, nor by the rules.

    """
    asked = asked | {"shapes": None if asked.get("shapes") is None else list(asked["shapes"])}
    gpu = asked.get("gpu")
    call = PretendedCall(
        function=call_run,
        arguments=(asked["run"], asked["shapes"], asked.get("cudnn", True)),
        gpu=catalogue.find(gpu) if isinstance(gpu, str) else gpu or catalogue.DEFAULT,
        settings=asked.get("allocator_settings", ""),
    )
    if (reason := call.why_not_here()) is not None:
        if must:
            raise ModulePredictionError(f"method dry-run is not possible: {reason}")
        return _by_rules(asked, NOT_USED.format(reason))
    try:
        return _by_dry_run(call, asked)
    except UnsupportedModuleError as error:
        if must:
            raise
        return _by_rules(asked, str(error))


def _by_rules(asked: dict[str, Any], note: str) -> RunPrediction:
    rules = predict_run(**asked)
    return replace(rules, notes=(*rules.notes, note))


def _by_dry_run(call: PretendedCall, asked: dict[str, Any]) -> RunPrediction:
    report = call.run()
    requested, allocated, reserved = (
        size or 0
        for size in (
            report.cuda.requested_peak_bytes,
            report.cuda.allocated_peak_bytes,
            report.cuda.reserved_peak_bytes,
        )
    )
    if report.outcome != "ok" or not requested:
        raise UnsupportedModuleError(f"unsupported: the dry run allocated nothing: {report!r}")
    peaks = RunPeaks(
        requested_peak_bytes=requested,
        allocated_peak_bytes=(allocated, allocated),
        reserved_peak_bytes=(reserved, reserved),
    )
    verdict = None if asked.get("gpu") is None else call.verdict(allocated, reserved)
    phases, trace = {}, Trace([], steps=0)
    try:
        rules = predict_run(**asked)
        phases, trace = rules.phases, rules.trace
        note = compared(PHASES, rules.peaks.requested_peak_bytes, requested)
    except UnsupportedModuleError as error:
        note = f"no phases and events: {error}"
    return RunPrediction(
        peaks=peaks,
        phases=phases,
        steps=report.optimizer_steps,
        verdict=verdict,
        gpu=call.gpu.name,
        notes=(KERNELS, note),
        trace=trace,
        way="dry run",
    )


def call_run(run: Callable[..., object], shapes: list[object] | None, cudnn: bool) -> None:
    """Call the run; this happens in the child process, on the pretended GPU."""
    torch.backends.cudnn.enabled = cudnn
    if shapes is None:
        run()
    else:
        run(shapes)
