"""Implements ``harness.predict`` for a workload, a network's step or a training loop.

The prediction of a workload on the CPU does not import torch. For CUDA, PyTorch runs the step on a
pretended GPU. For the CPU, or if no GPU can be pretended, the step is estimated on meta tensors.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack

from harness.prediction.gpu.catalogue import Gpu, GpuError
from harness.schema.argument_checks import ArgumentError, check_names
from harness.schema.step import Step, StepOptions, as_step, takes_a_step
from harness.schema.step_report import StepReport
from harness.schema.workload import Workload, check_workload

if TYPE_CHECKING:
    import torch as pytorch
    from torch import nn

    from harness.planning.predict_step import Method


@takes_a_step
def predict(
    target: "Step | Workload | nn.Module | Callable[..., nn.Module] | str | None" = None,
    batch: int | None = None,
    *,
    gpu: Gpu | str | None = None,
    device: "str | pytorch.device | None" = None,
    largest: bool = False,
    method: "Method" = "auto",
    allocator_settings: str = "",
    budget_bytes: int | None = None,
    torch: str | None = None,
    run: Callable[..., object] | None = None,
    shapes: Iterable[object] | None = None,
    **step: Unpack[StepOptions],
) -> StepReport:
    """Predict the memory of a workload, a network's step or a whole training loop.

    Args:
        target: a ``Step``, a ``Workload``, a network, a function that returns a network, or the
            name of a network.
        batch: number of examples in a step; not for a ``Step`` or a ``Workload``.
        gpu: GPU on which the step should fit, as a name or a ``Gpu``; implies CUDA. For a network,
            ``all`` checks the most common GPUs, without a trace.
        device: device of a network's step, ``cpu`` or ``cuda``.
        largest: True to find the largest batch of a network that fits on ``gpu``.
        method: prediction method for CUDA: ``dry-run``, ``estimate``, or ``auto``. ``auto`` uses
            the dry run if a CUDA build of PyTorch is installed, else the estimate.
        allocator_settings: settings of the CUDA allocator, in the syntax of PYTORCH_ALLOC_CONF.
        budget_bytes: memory budget of a ``Workload``, in bytes.
        torch: version of PyTorch to predict for; only for a ``Workload`` on the CPU.
        run: function that builds and trains a network on ``cuda``; replaces ``target``.
        shapes: list that is passed to ``run``; by default, ``run`` gets no argument.
        step: other fields of a network's ``Step``, such as ``inputs``.

    Returns:
        A report with all sizes in bytes. The report's ``method`` names the prediction method.

    Raises:
        ArgumentError: ``target`` is missing, or an argument has the wrong type.
        StepError: an argument is invalid, or your code fails (the message contains the line).
        UnsupportedError: no prediction is possible; the message gives the reason.
        UnavailableError: ``method="dry-run"`` or ``run`` is given, but no GPU can be pretended.
        GpuError: ``gpu`` is unknown, or is given for a step on the CPU.
        AllocatorSettingsError: the allocator settings are not supported.

    >>> import harness
    >>> step = harness.Workload(depth=8, width=256, batch=512)
    >>> harness.predict(step, torch="2.13").saved_bytes
    5824516

    """
    of_workload = {"budget_bytes": budget_bytes, "torch": torch}
    how = None if method == "auto" else method
    of_step = {"device": device, "largest": largest or None, "method": how}
    if run is not None:
        check_names("predict of a training loop", step, ("gpu", "shapes", "allocator_settings"))
        _refuse("a training loop", {"target": target, "batch": batch, **of_workload, **of_step})
        from harness.planning.predict_step import predict_run

        return predict_run(run=run, shapes=shapes, gpu=gpu, allocator_settings=allocator_settings)
    asked = as_step("predict", target, batch, step)
    if isinstance(asked, Step):
        _refuse("a step", {**of_workload, "shapes": shapes})
        from harness.planning.predict_step import predict_step

        return predict_step(
            asked,
            device=device,
            gpu=gpu,
            allocator_settings=allocator_settings,
            largest=largest,
            method=method,
        )
    _refuse("a workload", {**of_step, "method": None, "shapes": shapes})
    return predict_workload(
        asked if gpu is None else asked.replace(device="cuda"),
        gpu=gpu,
        allocator_settings=allocator_settings,
        budget_bytes=budget_bytes,
        torch=torch,
        method=how,
    )


def predict_workload(
    workload: Workload,
    *,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    budget_bytes: int | None = None,
    torch: str | None = None,
    method: "Method | None" = None,
    largest: bool = True,
) -> StepReport:
    """Predict the memory of a workload by formulas on the CPU, or by a dry run on CUDA."""
    if check_workload(workload).device == "cuda":
        from harness.planning.predict_on_cuda import predict_on_cuda

        return predict_on_cuda(
            workload,
            gpu=gpu,
            allocator_settings=allocator_settings,
            budget_bytes=budget_bytes,
            torch=torch,
            method=method or "auto",
            largest=largest,
        )
    if method is not None:
        raise ArgumentError("predict of a workload on the CPU takes no method: it has closed forms")
    if gpu is not None or allocator_settings:
        given = "allocator settings need" if gpu is None else "gpu needs"
        raise GpuError(f"{given} a workload with device cuda, got device cpu")
    from harness.prediction.mlp.predict_workload import predict as by_formula

    return by_formula(workload, budget_bytes=budget_bytes, torch=torch)


def _refuse(kind: str, options: dict[str, Any]) -> None:
    """Raise ArgumentError if an option does not apply to this kind of target."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ArgumentError(f"predict of {kind} takes no {given[0]}")
