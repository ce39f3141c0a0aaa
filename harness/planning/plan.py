"""Implements ``harness.plan``, which finds changes that make a training step fit on a GPU."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

from harness.dry_runs.sent_without_values import sent_without_values
from harness.planning.ask_step import answered
from harness.planning.plan_question import PlanStep
from harness.planning.plan_result import Plan
from harness.planning.sent_step import request_of
from harness.planning.workload_step import step_of
from harness.prediction.gpu.catalogue import Gpu, GpuError, gpu_of
from harness.processes.launch import OnPhase
from harness.schema.step import Step, StepOptions, as_step, takes_a_step
from harness.schema.workload import Workload

if TYPE_CHECKING:
    from torch import nn


@takes_a_step
def plan(
    target: "Step | Workload | nn.Module | Callable[..., nn.Module] | str",
    batch: int | None = None,
    *,
    gpu: Gpu | str,
    allocator_settings: str = "",
    **step: Unpack[StepOptions],
) -> Plan:
    """Find changes that make a training step of ``batch`` examples fit on ``gpu``.

    Args:
        target: a ``Step``, a ``Workload``, a network, a function that returns a network, or the
            name of a network.
        batch: number of examples in a step; not for a ``Step`` or a ``Workload``.
        gpu: GPU with a known memory size, as a name or a ``Gpu``.
        allocator_settings: settings of the CUDA allocator, in the syntax of PYTORCH_ALLOC_CONF.
        step: other fields of a network's ``Step``, such as ``inputs``.

    Returns:
        A plan with candidates that fit on the GPU, sorted by estimated time.

    Raises:
        GpuError: the GPU or its memory is unknown.
        ArgumentError: a ``Workload`` sets ``foreach``.
        StepError: an argument is invalid, or your code fails.
        UnsupportedError: no plan can be made; the message gives the reason.

    >>> import harness
    >>> from torch import nn
    >>> block = lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    >>> found = harness.plan(
    ...     lambda: nn.Sequential(block(), block(), nn.Linear(64, 10)), 64, gpu="l4", inputs=(64,)
    ... )
    >>> found.candidates[0].described()
    'nothing'

    """
    asked = as_step("plan", target, batch, step)
    if isinstance(asked, Workload):
        asked = step_of(asked)
    return plan_step(asked, gpu=gpu, allocator_settings=allocator_settings)


def plan_step(
    step: Step,
    *,
    gpu: Gpu | str,
    allocator_settings: str = "",
    progress: OnPhase | None = None,
) -> Plan:
    """Return the plan for a step; ``harness.plan`` describes the arguments."""
    used = gpu_of(gpu)
    if used.total_bytes is None:
        raise GpuError(f"gpu must have a known total_bytes, got {used.name!r} without it")
    question = PlanStep(
        request=request_of(step, sent_without_values),
        device="cuda",
        gpus=(used,),
        settings=allocator_settings,
    )
    return answered(question, progress=progress)
