"""``harness.predict``, for a workload, a network's step or a whole training loop.

A workload on the CPU needs no torch. PyTorch runs a step on CUDA on a pretended GPU. If that is not
possible, and for the CPU, the step is estimated on meta tensors.
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
    """Predict the memory of a workload, of a network's step or of a whole training loop.

    Args:
        target: a ``Step`` or a ``Workload``; or a network, a function that returns a network, or
            its name, with ``batch`` and ``step``.
        batch: examples in a step of a network.
        gpu: the GPU to check against, a name or a ``Gpu``; it implies CUDA. For a step,
            ``all`` gives the verdict on every GPU of the list instead of a trace.
        device: ``cpu`` or ``cuda``, for a step.
        largest: True to search the largest batch for ``gpu``, for a step.
        method: for CUDA, ``dry-run``, ``estimate``, or ``auto``, which is the dry run if a CUDA
            build of PyTorch is installed.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        budget_bytes: budget to check a workload against.
        torch: version of PyTorch to describe, for a workload on the CPU.
        run: a function that builds and trains on ``cuda``, instead of ``target``.
        shapes: arguments of ``run``.
        step: the other fields of a ``Step``, such as ``inputs``.

    Returns:
        The report; all sizes are bytes. ``method`` names the source of its numbers.

    Raises:
        ArgumentError: a target is missing, or an argument has the wrong type.
        StepError: an argument is invalid, or your code fails; the message has the line.
        UnsupportedError: there is no answer; the message gives the reason.
        UnavailableError: ``method="dry-run"`` or ``run`` is given, and a GPU cannot be pretended.
        GpuError: the GPU is unknown, or is given for a step on the CPU.
        AllocatorSettingsError: the settings are not supported.

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
) -> StepReport:
    """Return the prediction of a workload by closed forms on the CPU, or a dry run on CUDA."""
    if check_workload(workload).device == "cuda":
        from harness.planning.predict_on_cuda import predict_on_cuda

        return predict_on_cuda(
            workload,
            gpu=gpu,
            allocator_settings=allocator_settings,
            budget_bytes=budget_bytes,
            torch=torch,
            method=method or "auto",
        )
    if method is not None:
        raise ArgumentError("predict of a workload on the CPU takes no method: it has closed forms")
    if gpu is not None or allocator_settings:
        given = "allocator settings need" if gpu is None else "gpu needs"
        raise GpuError(f"{given} a workload with device cuda, got device cpu")
    from harness.prediction.mlp.predict_workload import predict as by_formula

    return by_formula(workload, budget_bytes=budget_bytes, torch=torch)


def _refuse(kind: str, options: dict[str, Any]) -> None:
    """Refuse options that do not apply to the target."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ArgumentError(f"predict of {kind} takes no {given[0]}")
