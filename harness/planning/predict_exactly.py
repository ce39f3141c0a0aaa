"""A network's CUDA step by the dry run where it works, else by the rules; the result says which."""

from collections.abc import Callable
from typing import Any

from torch import nn

from harness.planning.dry_run_step import predict_step, run_counted
from harness.planning.pretended_call import PretendedCall
from harness.prediction.gpu import catalogue
from harness.prediction.module.asked_step import AskedStep
from harness.prediction.module.module_prediction import (
    ModulePrediction,
    ModulePredictionError,
    UnsupportedModuleError,
)
from harness.prediction.module.predict_module import predict_module
from harness.schema.events import Trace
from harness.schema.units import format_bytes

STEP = ("batch", "input_shape", "inputs", "optimizer", "loss", "mode", "autocast", "accumulate")
KERNELS = (
    "PyTorch's own kernels decided what is allocated; cuDNN's workspaces are not known, and "
    "values read from the GPU are 0"
)
LAYERS = "layers and events are those of the rules, which predict a requested peak of {}: {}"
NOT_USED = "predicted by rules, not by the dry run: {}"


def predict_exactly(
    build: Callable[[], nn.Module], asked: dict[str, Any], *, must: bool
) -> ModulePrediction:
    """Return the prediction of a step on CUDA.

    Args:
        build: returns the network.
        asked: further arguments of ``predict_module``.
        must: whether the dry run is required; otherwise the rules answer where it does not work.

    Raises:
        ModulePredictionError: an argument is wrong, or the dry run must work and does not.
        UnsupportedModuleError: the step does not run on the pretended GPU, nor by the rules.

    """
    step: dict[str, Any] = {"build": build, "prepare": asked.get("prepare")}
    step |= {name: asked[name] for name in STEP if name in asked}
    AskedStep(**step)  # a wrong argument is refused before anything runs
    gpu = asked.get("gpu")
    call = PretendedCall(
        function=run_counted,
        arguments=(step, asked.get("cudnn", True)),
        gpu=catalogue.find(gpu) if isinstance(gpu, str) else gpu or catalogue.DEFAULT,
        settings=asked.get("allocator_settings", ""),
    )
    if (reason := call.why_not_here()) is not None:
        if must:
            raise ModulePredictionError(f"method dry-run is not possible: {reason}")
        return _by_rules(build, asked, NOT_USED.format(reason))
    try:
        found = predict_step(call, is_named=gpu is not None)
    except UnsupportedModuleError as error:
        if must:
            raise
        return _by_rules(build, asked, str(error))
    try:
        rules = predict_module(build, **asked)
    except UnsupportedModuleError as error:
        return ModulePrediction(
            trace=Trace([], steps=0),
            way="dry run",
            notes=[KERNELS, f"no layers and events: {error}"],
            cuda=found.cuda,
            card=found.card,
        )
    exact = found.cuda.requested_peak_bytes or 0
    return ModulePrediction(
        trace=rules.trace,
        way="dry run",
        notes=[KERNELS, compared(LAYERS, rules.trace.peak_live_bytes, exact)],
        layers=rules.layers,
        saved_bytes=rules.saved_bytes,
        cuda=found.cuda,
        card=found.card,
    )


def _by_rules(build: Callable[[], nn.Module], asked: dict[str, Any], note: str) -> ModulePrediction:
    rules = predict_module(build, **asked)
    rules.notes.append(note)
    return rules


def compared(note: str, by_rules: int, exact: int) -> str:
    """Return a note of the peak of requested bytes by the rules, next to that of the dry run."""
    off = "equal" if by_rules == exact else f"off by {(by_rules - exact) / exact:+.2%}"
    return note.format(format_bytes(by_rules), off)
